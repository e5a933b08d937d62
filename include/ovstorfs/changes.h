/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The change ring: what was changed, for the other hosts to hear.
 *
 * A batch of changes is written as intent (up to number n), the commits
 * themselves, entries, done (n), each durable before the next. An intent
 * without its done means that a host died in between: who finds it reads
 * everything. Numbers are unique in the domain and only grow. */
#ifndef OVSTORFS_CHANGES_H
#define OVSTORFS_CHANGES_H

#include "ovstorfs/meta.h"
#include "ovstorfs/storage.h"

#define CHANGES_VERSION 1
#define CHANGES_PER_BLOCK 64
#define CHANGES_BLOCKS (STORAGE_CHANGES_SIZE / STORAGE_BLOCK - 2)
#define CHANGES_ENTRIES ((uint64_t)CHANGES_BLOCKS * CHANGES_PER_BLOCK)

struct changes;

struct change_head {
	uint64_t number;
	struct txn_id txn; /* who wrote it */
};

struct change_entry {
	uint64_t number;
	struct uuid image, volume;
	uint32_t host;
};

/* Pure: 64 bytes each, from and to storage. Errors: -EUCLEAN;
 * -EPROTONOSUPPORT a newer version. */
int change_head_parse(const uint8_t *b, struct change_head *ret_head);
void change_head_format(const struct change_head *h, uint8_t *out);
int change_entry_parse(const uint8_t *b, struct change_entry *ret_entry);
void change_entry_format(const struct change_entry *e, uint8_t *out);

/* Read the two heads past all caches. Both are looked at, and what is sound
 * is returned, whichever of them is the damaged one. */
int changes_read_heads(struct storage *s, struct change_head *ret_intent,
		       struct change_head *ret_done);

/* Make the ring of a new domain. */
int changes_format(struct storage *s);

/* Every entry, with what is wrong with it: 0 or -EUCLEAN. */
typedef void change_visitor(void *arg, uint64_t at, int error,
			    const struct change_entry *e);
int changes_each(struct storage *s, change_visitor *visit, void *arg);

/* Mend the ring: damaged entries are emptied, and both heads say number, which
 * is not below any that was ever used. Caller has the domain to itself. */
int changes_reset(struct storage *s, uint64_t number);

/* The ring of an open domain, at rest until changes_begin_turn(). */
int changes_open(struct storage *s, struct changes **ret_changes);
void changes_close(struct changes *c);

/* The domain lease has just come: look at the heads. *ret_all: somebody else
 * wrote, or died, since we looked: read everything. */
int changes_begin_turn(struct changes *c, const struct txn_id *self,
		       bool *ret_all);

/* After everything was read: make the heads agree again, where a host died or
 * a write failed. Nothing while changes are open. Caller has the domain
 * lease. */
int changes_settle(struct changes *c);

/* Do the heads on storage agree? Needs no lease. */
bool changes_are_settled(struct storage *s);

/* Open a change: its number, with an intent that covers it durable. */
int changes_join(struct changes *c, uint64_t *ret_number);

/* The change of this number is over; entry NULL: nothing came of it. The last
 * one that leaves writes entries and done for all. */
int changes_leave(struct changes *c, uint64_t number,
		  const struct change_entry *entry);

uint64_t changes_number(struct changes *c);

/* Has another host begun or made a change since we last looked? Reads the
 * heads; what cannot be read counts as moved. */
bool changes_have_moved(struct changes *c);

#endif
