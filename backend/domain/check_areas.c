/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check: what a domain has once. The domain record, the leases of the domain
 * itself, the mailbox, the change ring. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/check.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"

#define RECORD "domain record"
#define RING "change ring"

static bool is_zero(const void *data, size_t len)
{
	const char *p = data;

	return len == 0 || (p[0] == 0 && memcmp(p, p + 1, len - 1) == 0);
}

/* ---- the domain record ---- */

int record_copy_parse(const char *block, struct meta *ret_meta)
{
	size_t len = strnlen(block, STORAGE_BLOCK);
	auto_free char *text = xstrndup(block, len);
	auto_meta struct meta m = { 0 };
	int r = meta_parse(text, len, &m);

	if (r < 0)
		return r;
	if (m.kind != META_DOMAIN)
		return err_new(-EUCLEAN, "damaged record: no domain's");
	if (!is_zero(block + len, STORAGE_BLOCK - len))
		return err_new(-EUCLEAN, "damaged record: there are bytes "
					 "after its end");
	*ret_meta = m;
	memset(&m, 0, sizeof(m));
	return 0;
}

static void check_copy(struct check *c, const char *block, int copy,
		       bool repaired)
{
	auto_meta struct meta m = { 0 };
	int r = record_copy_parse(block, &m);

	if (r < 0)
		check_found(c, RECORD, repaired, 0, "copy %d: %s", copy,
			    err_text(r));
	else if (m.sequence != c->domain.sequence)
		check_found(c, RECORD, repaired, 0,
			    "copy %d is behind: sequence %llu instead of %llu",
			    copy, (unsigned long long)m.sequence,
			    (unsigned long long)c->domain.sequence);
}

static bool copies_agree(const char *blocks)
{
	struct meta m = { 0 };
	int i, r = 0;

	for (i = 0; i < 2 && r == 0; i++) {
		r = record_copy_parse(blocks + i * STORAGE_BLOCK, &m);
		if (r == 0)
			meta_fini(&m);
	}
	return r == 0 &&
	       memcmp(blocks, blocks + STORAGE_BLOCK, STORAGE_BLOCK) == 0;
}

int check_record(struct check *c)
{
	auto_free char *blocks = alloc_aligned(STORAGE_DOMAIN_SIZE);
	struct meta m = { 0 };
	bool repaired = false;
	int i, r;

	r = load_record(c->storage, &c->domain, NULL);
	if (r == -EUCLEAN)
		check_found(c, RECORD, false, 0, "%s", err_text(r));
	if (r < 0)
		return r;
	r = storage_area_read(c->storage, AREA_DOMAIN, 0, blocks,
			      STORAGE_DOMAIN_SIZE);
	if (r < 0 || copies_agree(blocks))
		return r;
	if (c->repair) {
		meta_copy(&c->domain, &m);
		repaired = store_record(c->storage, &m) == 0;
		meta_fini(&m);
	}
	for (i = 0; i < 2; i++)
		check_copy(c, blocks + i * STORAGE_BLOCK, i, repaired);
	return 0;
}

/* ---- leases of the domain ---- */

int check_space(struct check *c)
{
	struct lease_ref ids = { 0 }, domain = { 0 };
	bool repaired;
	int r = domain_lease_space(c->source, true, &c->space);

	if (r < 0) {
		check_found(c, "leases", false, 0, "%s", err_text(r));
		return 0;
	}
	r = lease_area_check(&c->space, &ids);
	if (r < 0) {
		auto_free char *why = xstrdup(err_text(r));

		/* The ids are of one piece, so they are made anew with all
		 * that a domain's leases have. */
		repaired = c->repair && lease_space_format(&c->space) == 0;
		check_found(c, "host ids", repaired, 0, "%s", why);
	}
	lease_ref_domain(&c->space, &domain);
	r = lease_area_check(&c->space, &domain);
	if (r < 0) {
		auto_free char *why = xstrdup(err_text(r));

		repaired = c->repair &&
			   lease_area_init(&c->space, &domain) == 0;
		check_found(c, "domain lease", repaired, 0, "%s", why);
	}
	return 0;
}

/* ---- the mailbox ---- */

/* Nobody writes to it in this version. */
int check_mailbox(struct check *c)
{
	auto_free char *block = alloc_aligned(STORAGE_BLOCK);
	uint64_t at;
	int r;

	for (at = 0; at < STORAGE_MAILBOX_SIZE; at += STORAGE_BLOCK) {
		bool repaired = false;

		r = storage_area_read(c->storage, AREA_MAILBOX, at, block,
				      STORAGE_BLOCK);
		if (r < 0)
			return r;
		if (is_zero(block, STORAGE_BLOCK))
			continue;
		memset(block, 0, STORAGE_BLOCK);
		if (c->repair)
			repaired = storage_area_write(c->storage, AREA_MAILBOX,
						      at, block,
						      STORAGE_BLOCK) == 0;
		check_found(c, "mailbox", repaired, 0,
			    "block %llu is not empty",
			    (unsigned long long)(at / STORAGE_BLOCK));
	}
	return 0;
}

/* ---- the change ring ---- */

struct ring {
	struct check *c;
	uint64_t block;
	unsigned int damaged; /* entries of that block */
	uint64_t first;	      /* of them */
};

static void ring_block_end(struct ring *g)
{
	if (g->damaged)
		check_found(g->c, RING, false, 0,
			    "block %llu: %u damaged entries, the first is "
			    "entry %llu",
			    (unsigned long long)g->block + 2, g->damaged,
			    (unsigned long long)g->first);
	g->damaged = 0;
}

static void ring_entry(void *arg, uint64_t at, int error,
		       const struct change_entry *e)
{
	struct ring *g = arg;

	if (at / CHANGES_PER_BLOCK != g->block)
		ring_block_end(g);
	g->block = at / CHANGES_PER_BLOCK;
	if (error == 0) {
		check_number(g->c, e->number);
		return;
	}
	if (!g->damaged++)
		g->first = at;
}

static void check_heads(struct check *c)
{
	struct change_head intent = { 0 }, done = { 0 };
	int r = changes_read_heads(c->storage, &intent, &done);

	check_number(c, intent.number);
	check_number(c, done.number);
	if (r == -EPROTONOSUPPORT)
		c->repair = false;
	if (r < 0) {
		check_found(c, RING, false, 0, "%s", err_text(r));
	} else if (intent.number != done.number) {
		check_found(c, RING, false, 0,
			    "host %u died in a change: intent is %llu, done is "
			    "%llu",
			    intent.txn.host, (unsigned long long)intent.number,
			    (unsigned long long)done.number);
	} else if (c->highest > intent.number) {
		check_found(c, RING, false, 0,
			    "its number %llu is below one that was used, %llu",
			    (unsigned long long)intent.number,
			    (unsigned long long)c->highest);
	}
}

int check_ring(struct check *c)
{
	struct ring g = { .c = c };
	size_t before = c->n_problems, i;
	int r = changes_each(c->storage, ring_entry, &g);

	if (r < 0)
		return r;
	ring_block_end(&g);
	check_heads(c);
	if (!c->repair || (c->n_problems == before && !c->renumbered))
		return 0;
	if (changes_reset(c->storage, c->highest) < 0)
		return 0;
	for (i = before; i < c->n_problems; i++)
		c->problems[i].repaired = true;
	return 0;
}
