/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The inside of check: what its files share.
 *
 * A pass looks at everything and keeps what it finds; check.c decides what of
 * it is told. Nothing here needs a lease or a mount. */
#ifndef OVSTORFS_CHECK_H
#define OVSTORFS_CHECK_H

#include "ovstorfs/map.h"
#include "ovstorfs/model.h"

struct object {
	struct storage_entry entry;
	struct object *image;  /* a volume's */
	struct object *parent; /* in the same image, and really there */
	unsigned int children;
	bool readable;	     /* meta is its live record */
	bool walked, tailed; /* by the search for cycles */
	struct meta meta;
};

struct problem {
	char *object;
	char *text;
	time_t since; /* 0: no age is known */
	bool repaired;
};

struct check {
	const char *source;
	struct storage *storage;
	bool repair;
	struct meta domain;
	struct lease_space space; /* without a name: not to be had */
	uint64_t highest;	  /* number of a change seen anywhere */
	bool renumbered; /* an object was given a number above the ring's */

	struct object *objects; /* images before their volumes */
	size_t n_objects, room_objects;
	struct map by_uuid; /* volumes */

	struct problem *problems;
	size_t n_problems, room_problems;
};

/* Keep a problem of an object. since may be 0. */
void check_found(struct check *c, const char *object, bool repaired,
		 time_t since, const char *fmt, ...)
	__attribute__((format(printf, 5, 6)));

/* Names and texts may come from an enemy, and terminals obey control
 * characters: replace those, in place; returns s. */
char *make_plain(char *s);

/* A change of this number has been seen. */
static inline void check_number(struct check *c, uint64_t number)
{
	if (number > c->highest)
		c->highest = number;
}

/* check_areas.c: domain record, change ring, mailbox, leases of the domain.
 * check_ring() comes last: it needs the highest number.
 * Errors: those of reading; of the record also -EUCLEAN no copy is sound,
 * -EPROTONOSUPPORT. */
int check_record(struct check *c);
int check_space(struct check *c);
int check_mailbox(struct check *c);
int check_ring(struct check *c);

/* One of the domain record's copies; err_text() says what is wrong with it.
 * block: STORAGE_BLOCK bytes. */
int record_copy_parse(const char *block, struct meta *ret_meta);

/* check_objects.c: images, volumes, markers, bytes and leases. */
int check_objects(struct check *c);

/* check_chains.c: parents, and what is in two places. */
void check_chains(struct check *c);
void check_twins(struct check *c);

/* Counts as a volume: it has a live record in an image that is, or was, one,
 * and no marker says that it is gone. */
bool object_is_member(const struct object *o);

#endif
