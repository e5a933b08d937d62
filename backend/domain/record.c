/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The domain record: two copies of a block, each with a sequence. The file is
 * written in place and never replaced, since its inode carries the lock that
 * keeps two mounts of one machine apart. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/io.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/model.h"

#define TAKE_MS 10000

/* The record ends where its first line says; the rest of the block is zeros. */
static int copy_parse(const char *block, struct meta *ret_meta)
{
	auto_free char *text = xstrndup(block, STORAGE_BLOCK);
	struct meta m = { 0 };
	int r = meta_parse(text, strlen(text), &m);

	if (r < 0)
		return r;
	if (m.kind != META_DOMAIN) {
		meta_fini(&m);
		return err_new(-EUCLEAN, "damaged record: no domain's");
	}
	*ret_meta = m;
	return 0;
}

int load_record(struct storage *s, struct meta *ret_meta, bool *ret_agree)
{
	auto_free char *block = alloc_aligned(STORAGE_DOMAIN_SIZE);
	struct meta m[2] = { 0 };
	int err[2], best, i, r;

	r = storage_area_read(s, AREA_DOMAIN, 0, block, STORAGE_DOMAIN_SIZE);
	if (r < 0)
		return err_add(r, "domain record");
	for (i = 0; i < 2; i++)
		err[i] = copy_parse(block + i * STORAGE_BLOCK, &m[i]);
	/* A newer version in either copy: hands off. */
	for (i = 0; i < 2; i++) {
		if (err[i] != -EPROTONOSUPPORT)
			continue;
		meta_fini(&m[!i]);
		return err_new(-EPROTONOSUPPORT, "the domain was written by a "
						 "newer version of ovstorfs");
	}
	if (err[0] < 0 && err[1] < 0)
		return err_new(-EUCLEAN, "both copies of the domain record "
					 "are damaged");
	best = err[0] < 0 || (err[1] == 0 && m[1].sequence > m[0].sequence);
	if (ret_agree)
		*ret_agree = err[0] == 0 && err[1] == 0 &&
			     m[0].sequence == m[1].sequence;
	meta_fini(&m[!best]);
	*ret_meta = m[best];
	return 0;
}

static int write_copy(struct storage *s, const char *block, uint64_t copy)
{
	return storage_area_write(s, AREA_DOMAIN, copy * STORAGE_BLOCK, block,
				  STORAGE_BLOCK);
}

int store_record(struct storage *s, struct meta *m)
{
	auto_free char *block = alloc_aligned(STORAGE_BLOCK);
	auto_strbuf struct strbuf text = { 0 };
	uint64_t older;
	int r;

	m->sequence++;
	older = m->sequence & 1;
	meta_format(m, &text);
	if (text.len > STORAGE_BLOCK)
		return err_new(-EFBIG, "the domain record is too long");
	memcpy(block, text.text, text.len);
	r = write_copy(s, block, older);
	if (r == 0)
		r = fault_point("domain_set.second_copy");
	return r < 0 ? r : write_copy(s, block, !older);
}

int record_settle(struct domain *d)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_meta struct meta seen = { 0 }, m = { 0 };
	bool agree = false;
	int r = load_record(d->storage, &seen, &agree);

	if (r < 0 || agree)
		return r;
	lockset_add(&locks, RANK_DOMAIN_LEASE, NULL, true);
	lockset_add(&locks, RANK_DOMAIN, NULL, true);
	r = lockset_take(&locks, d, now_ms() + TAKE_MS) ?:
		    load_record(d->storage, &m, &agree);
	return r < 0 || agree ? r : store_record(d->storage, &m);
}
