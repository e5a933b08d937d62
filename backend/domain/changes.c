/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The change ring, ovstorfs-format(7).
 *
 *	block 0		intent: the highest number that may be in work
 *	block 1		done: all up to this number is over
 *	block 2...	64 entries of 64 bytes each; number N stands in
 *			entry N modulo their count
 *
 * Each head and each entry carries a sum of its own. A torn head reads as
 * damaged, which means: read everything. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/changes.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/str.h"

#define HEAD_MAGIC "OVSRING1"
#define ITEM 64
#define CRC_AT 60
#define PENDING_MAX 64

/* ---- 64 bytes from and to storage ---- */

static void put_le(uint8_t *p, uint64_t v, int bytes)
{
	for (; bytes--; v >>= 8)
		*p++ = (uint8_t)v;
}

static uint64_t get_le(const uint8_t *p, int bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | p[bytes];
	return v;
}

static bool sum_is_right(const uint8_t *b)
{
	return get_le(b + CRC_AT, 4) == crc32c(0, b, CRC_AT);
}

int change_head_parse(const uint8_t *b, struct change_head *ret_head)
{
	if (memcmp(b, HEAD_MAGIC, 8) != 0)
		return err_new(-EUCLEAN, "change ring: no head");
	/* The sum first: a flipped bit is no newer version. */
	if (!sum_is_right(b))
		return err_new(-EUCLEAN, "change ring: a damaged head");
	if (get_le(b + 8, 4) != CHANGES_VERSION)
		return err_new(-EPROTONOSUPPORT, "change ring: written by a "
						 "newer version");
	ret_head->txn.host = (uint32_t)get_le(b + 12, 4);
	ret_head->number = get_le(b + 16, 8);
	ret_head->txn.generation = get_le(b + 24, 8);
	ret_head->txn.sequence = get_le(b + 32, 8);
	return 0;
}

void change_head_format(const struct change_head *h, uint8_t *out)
{
	memset(out, 0, ITEM);
	memcpy(out, HEAD_MAGIC, 8);
	put_le(out + 8, CHANGES_VERSION, 4);
	put_le(out + 12, h->txn.host, 4);
	put_le(out + 16, h->number, 8);
	put_le(out + 24, h->txn.generation, 8);
	put_le(out + 32, h->txn.sequence, 8);
	put_le(out + CRC_AT, crc32c(0, out, CRC_AT), 4);
}

int change_entry_parse(const uint8_t *b, struct change_entry *ret_entry)
{
	if (!sum_is_right(b))
		return err_new(-EUCLEAN, "change ring: a damaged entry");
	ret_entry->number = get_le(b, 8);
	ret_entry->host = (uint32_t)get_le(b + 8, 4);
	memcpy(ret_entry->image.b, b + 16, 16);
	memcpy(ret_entry->volume.b, b + 32, 16);
	return 0;
}

void change_entry_format(const struct change_entry *e, uint8_t *out)
{
	memset(out, 0, ITEM);
	put_le(out, e->number, 8);
	put_le(out + 8, e->host, 4);
	memcpy(out + 16, e->image.b, 16);
	memcpy(out + 32, e->volume.b, 16);
	put_le(out + CRC_AT, crc32c(0, out, CRC_AT), 4);
}

/* ---- heads ---- */

static int read_head(struct storage *s, uint64_t block, uint8_t *buf,
		     struct change_head *ret_head)
{
	int r = storage_area_read(s, AREA_CHANGES, block * STORAGE_BLOCK, buf,
				  STORAGE_BLOCK);

	return r < 0 ? r : change_head_parse(buf, ret_head);
}

int changes_read_heads(struct storage *s, struct change_head *ret_intent,
		       struct change_head *ret_done)
{
	auto_free uint8_t *buf = alloc_aligned(STORAGE_BLOCK);
	int done = read_head(s, 1, buf, ret_done);
	int intent = read_head(s, 0, buf, ret_intent);

	return intent < 0 ? intent : done;
}

static int write_head(struct storage *s, uint64_t block,
		      const struct change_head *h)
{
	auto_free uint8_t *buf = alloc_aligned(STORAGE_BLOCK);

	change_head_format(h, buf);
	return storage_area_write(s, AREA_CHANGES, block * STORAGE_BLOCK, buf,
				  STORAGE_BLOCK);
}

int changes_format(struct storage *s)
{
	struct change_head h = { 0 };
	auto_free uint8_t *buf = alloc_aligned(STORAGE_BLOCK);
	struct change_entry e = { 0 };
	uint64_t i;
	int r;

	for (i = 0; i < CHANGES_PER_BLOCK; i++)
		change_entry_format(&e, buf + i * ITEM);
	for (i = 0; i < CHANGES_BLOCKS; i++) {
		r = storage_area_write(s, AREA_CHANGES, (2 + i) * STORAGE_BLOCK,
				       buf, STORAGE_BLOCK);
		if (r < 0)
			return r;
	}
	return write_head(s, 0, &h) ?: write_head(s, 1, &h);
}

/* ---- the whole ring, offline ---- */

/* An entry that was never used has the number 0. */
static int entry_at(const uint8_t *block, uint64_t at,
		    struct change_entry *ret_entry)
{
	struct change_entry e = { 0 };
	int r = change_entry_parse(block + at % CHANGES_PER_BLOCK * ITEM, &e);

	if (r == 0 && e.number && e.number % CHANGES_ENTRIES != at)
		r = err_new(-EUCLEAN, "change ring: an entry in another's "
				      "place");
	if (r == 0)
		*ret_entry = e;
	return r;
}

int changes_each(struct storage *s, change_visitor *visit, void *arg)
{
	auto_free uint8_t *buf = alloc_aligned(STORAGE_BLOCK);
	struct change_entry e;
	uint64_t at;
	int r = 0;

	for (at = 0; at < CHANGES_ENTRIES; at++) {
		if (at % CHANGES_PER_BLOCK == 0)
			r = storage_area_read(s, AREA_CHANGES,
					      (2 + at / CHANGES_PER_BLOCK) *
						      STORAGE_BLOCK,
					      buf, STORAGE_BLOCK);
		if (r < 0)
			return r;
		e = (struct change_entry){ 0 };
		visit(arg, at, entry_at(buf, at, &e), &e);
	}
	return 0;
}

/* Entries that are sound stay. */
static int reset_block(struct storage *s, uint64_t block, uint8_t *buf)
{
	uint64_t offset = (2 + block) * STORAGE_BLOCK;
	struct change_entry e, none = { 0 };
	bool changed = false;
	uint64_t i;
	int r = storage_area_read(s, AREA_CHANGES, offset, buf, STORAGE_BLOCK);

	if (r < 0)
		return r;
	for (i = 0; i < CHANGES_PER_BLOCK; i++) {
		if (entry_at(buf, block * CHANGES_PER_BLOCK + i, &e) == 0)
			continue;
		change_entry_format(&none, buf + i * ITEM);
		changed = true;
	}
	return changed ? storage_area_write(s, AREA_CHANGES, offset, buf,
					    STORAGE_BLOCK) :
			 0;
}

int changes_reset(struct storage *s, uint64_t number)
{
	auto_free uint8_t *buf = alloc_aligned(STORAGE_BLOCK);
	struct change_head h = { .number = number };
	uint64_t i;
	int r = 0;

	for (i = 0; i < CHANGES_BLOCKS && r == 0; i++)
		r = reset_block(s, i, buf);
	return r < 0 ? r : write_head(s, 0, &h) ?: write_head(s, 1, &h);
}

/* ---- the ring of an open domain ---- */

struct changes {
	struct storage *storage;
	pthread_mutex_t mutex;	/* all below */
	pthread_cond_t written; /* an intent write ended */
	struct txn_id self;
	bool known;	   /* the heads are as we left them */
	bool unsettled;	   /* they may differ, or be damaged */
	uint64_t intent;   /* durable */
	uint64_t done;	   /* durable */
	uint64_t next;	   /* last number given out */
	bool writing;	   /* an intent write is under way */
	unsigned int open; /* changes between join and leave */
	struct change_entry pending[PENDING_MAX];
	size_t n_pending;
	uint8_t *block; /* of entries, as on storage */
	uint64_t block_at;
};

int changes_open(struct storage *s, struct changes **ret_changes)
{
	struct changes *c = xcalloc(1, sizeof(*c));

	c->storage = s;
	pthread_mutex_init(&c->mutex, NULL);
	pthread_cond_init(&c->written, NULL);
	c->block = alloc_aligned(STORAGE_BLOCK);
	c->block_at = UINT64_MAX;
	*ret_changes = c;
	return 0;
}

void changes_close(struct changes *c)
{
	if (!c)
		return;
	pthread_cond_destroy(&c->written);
	pthread_mutex_destroy(&c->mutex);
	free(c->block);
	free(c);
}

uint64_t changes_number(struct changes *c)
{
	auto_unlock(guard, &c->mutex);

	return c->done;
}

static void highest(void *arg, uint64_t at, int error,
		    const struct change_entry *e)
{
	uint64_t *number = arg;

	(void)at;
	if (error == 0 && e->number > *number)
		*number = e->number;
}

int changes_begin_turn(struct changes *c, const struct txn_id *self,
		       bool *ret_all)
{
	struct change_head intent = { 0 }, done = { 0 };
	auto_unlock(guard, &c->mutex);
	int r;

	r = changes_read_heads(c->storage, &intent, &done);
	if (r == -EUCLEAN)
		r = changes_each(c->storage, highest, &c->next) ?: -EUCLEAN;
	if (r < 0 && r != -EUCLEAN)
		return r;
	*ret_all = r < 0 || !c->known || intent.number != done.number ||
		   done.number != c->done;
	c->self = *self;
	c->block_at = UINT64_MAX;
	/* Numbers only grow, whichever head is the damaged one. */
	if (intent.number > c->next)
		c->next = intent.number;
	if (done.number > c->next)
		c->next = done.number;
	if (c->done > c->next)
		c->next = c->done;
	c->unsettled = r < 0 || intent.number != done.number;
	c->done = c->intent = c->next;
	c->known = true;
	return 0;
}

/* What a dead host meant to write, and what we could not, is over: by now it
 * is read. Entries may be missing below the new number; hosts that miss one
 * read everything. */
int changes_settle(struct changes *c)
{
	auto_unlock(guard, &c->mutex);
	struct change_head h = { .number = c->next, .txn = c->self };
	int r;

	if (!c->unsettled || c->open || !c->known)
		return 0;
	r = write_head(c->storage, 0, &h) ?: write_head(c->storage, 1, &h);
	if (r < 0)
		return err_add(r, "change ring");
	c->intent = c->done = c->next;
	c->unsettled = false;
	return 0;
}

bool changes_are_settled(struct storage *s)
{
	struct change_head intent = { 0 }, done = { 0 };

	return changes_read_heads(s, &intent, &done) == 0 &&
	       intent.number == done.number;
}

/* Durable up to `number`, without the mutex while it is written: those who
 * come meanwhile share the next write. */
static int write_intent(struct changes *c, uint64_t number)
{
	struct change_head h = { .number = number, .txn = c->self };
	int r;

	c->writing = true;
	pthread_mutex_unlock(&c->mutex);
	r = fault_point("changes.intent");
	if (r == 0)
		r = write_head(c->storage, 0, &h);
	pthread_mutex_lock(&c->mutex);
	c->writing = false;
	if (r == 0)
		c->intent = number;
	else
		c->unsettled = true;
	pthread_cond_broadcast(&c->written);
	return r;
}

/* Bring the block that holds number's entry into memory. */
static int block_of(struct changes *c, uint64_t number)
{
	uint64_t at = number % CHANGES_ENTRIES / CHANGES_PER_BLOCK;
	int r;

	if (c->block_at == at)
		return 0;
	c->block_at = UINT64_MAX;
	r = storage_area_read(c->storage, AREA_CHANGES,
			      (2 + at) * STORAGE_BLOCK, c->block,
			      STORAGE_BLOCK);
	if (r == 0)
		c->block_at = at;
	return r;
}

static int flush_block(struct changes *c)
{
	return storage_area_write(c->storage, AREA_CHANGES,
				  (2 + c->block_at) * STORAGE_BLOCK, c->block,
				  STORAGE_BLOCK);
}

static int by_number(const void *a, const void *b)
{
	const struct change_entry *x = a, *y = b;

	return x->number < y->number ? -1 : x->number > y->number;
}

static int write_entries(struct changes *c)
{
	size_t i;
	int r = 0;

	qsort(c->pending, c->n_pending, sizeof(*c->pending), by_number);
	for (i = 0; i < c->n_pending && r == 0; i++) {
		const struct change_entry *e = &c->pending[i];
		uint64_t at = e->number % CHANGES_ENTRIES;

		if (c->block_at != at / CHANGES_PER_BLOCK && i > 0)
			r = flush_block(c);
		if (r == 0)
			r = block_of(c, e->number);
		if (r == 0)
			change_entry_format(
				e, c->block + at % CHANGES_PER_BLOCK * ITEM);
	}
	if (r == 0 && c->n_pending)
		r = flush_block(c);
	return r;
}

/* Up to the durable intent: a number beyond it was never given out. */
static int write_done(struct changes *c)
{
	struct change_head h = { .number = c->intent, .txn = c->self };
	int r;

	r = write_entries(c);
	if (r == 0)
		r = fault_point("changes.done");
	if (r == 0)
		r = write_head(c->storage, 1, &h);
	c->n_pending = 0;
	if (r == 0)
		c->done = c->intent;
	else
		c->unsettled = true;
	return r;
}

/* The last one that goes writes for all, also when it is one that could not
 * even begin. */
static int close_one(struct changes *c)
{
	if (--c->open || c->done == c->intent)
		return 0;
	return write_done(c);
}

int changes_join(struct changes *c, uint64_t *ret_number)
{
	auto_unlock(guard, &c->mutex);
	uint64_t number = ++c->next;
	int r;

	c->open++;
	while (c->intent < number) {
		if (c->writing) {
			pthread_cond_wait(&c->written, &c->mutex);
			continue;
		}
		r = write_intent(c, c->next);
		if (r < 0) {
			(void)close_one(c);
			return err_add(r, "change ring");
		}
	}
	*ret_number = number;
	return 0;
}

int changes_leave(struct changes *c, uint64_t number,
		  const struct change_entry *entry)
{
	auto_unlock(guard, &c->mutex);
	struct change_entry *e;
	int r = 0;

	if (c->n_pending == PENDING_MAX)
		r = write_entries(c);
	if (c->n_pending == PENDING_MAX)
		c->n_pending = 0;
	e = &c->pending[c->n_pending++];
	*e = entry ? *entry : (struct change_entry){ 0 };
	e->number = number;
	e->host = c->self.host;
	r = close_one(c) ?: r;
	return r < 0 ? err_add(r, "change ring") : 0;
}

bool changes_have_moved(struct changes *c)
{
	struct change_head intent = { 0 }, done = { 0 };
	auto_unlock(guard, &c->mutex);

	/* Ours are under way between the two reads. */
	if (c->open || c->writing)
		return false;
	return changes_read_heads(c->storage, &intent, &done) < 0 ||
	       intent.number != c->intent || done.number != c->done;
}
