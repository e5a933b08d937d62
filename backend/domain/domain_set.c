/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Set an attribute of the domain.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 the older copy of the	the new value; the other copy	writes both
 *	  record, in one block	is one behind
 *	3 the other copy	the new value
 */
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/set.h"
#include "ovstorfs/txn.h"

static char **member_of(struct meta *m, const char *key)
{
	if (streq(key, "warn_free"))
		return &m->warn_free;
	if (streq(key, "critical_free"))
		return &m->critical_free;
	return &m->description;
}

static int check(const char *key, const char *value)
{
	uint64_t bytes;

	if (streq(key, "description"))
		return 0;
	return threshold_parse(value, 100, &bytes);
}

static void keep(struct domain *d, struct meta *m)
{
	struct meta old;

	pthread_rwlock_wrlock(&d->tree);
	old = d->meta;
	d->meta = *m;
	/* domain_info() lends the name for the life of the domain. */
	free(d->meta.name);
	d->meta.name = old.name;
	old.name = NULL;
	pthread_rwlock_unlock(&d->tree);
	meta_fini(&old);
	memset(m, 0, sizeof(*m));
}

/* What the storage says now is what happened. */
static void read_again(struct domain *d)
{
	struct meta m = { 0 };

	if (load_record(d->storage, &m, NULL) == 0)
		keep(d, &m);
	gc_wake(d, NULL);
}

int domain_set(struct domain *d, const struct caller *by, const struct ref *at,
	       const char *key, const char *value)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	auto_meta struct meta m = { 0 };
	struct ref ref = { .dir = RECORD_LIVE };
	char **member;
	int r;

	(void)at;
	r = check(key, value);
	if (r < 0)
		return r;
	lockset_add(&locks, RANK_DOMAIN_LEASE, NULL, true);
	lockset_add(&locks, RANK_DOMAIN, NULL, true);
	r = lockset_take(&locks, d, by->deadline);
	if (r < 0)
		return r;
	r = load_record(d->storage, &m, NULL);
	if (r < 0)
		return r;
	member = member_of(&m, key);
	if (*member && streq(*member, value))
		return 0;
	free(*member);
	*member = *value ? xstrdup(value) : NULL;
	r = txn_begin(d, &ref, OP_SET, "set", &txn);
	if (r < 0)
		return r;
	txn_stamp(txn, &m);
	r = fault_point("domain_set.intent")	 ?:
		    store_record(d->storage, &m) ?:
		    fault_point("domain_set.commit");
	if (r < 0) {
		read_again(d);
		return r;
	}
	keep(d, &m);
	return txn_commit(&txn);
}
