/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Set an attribute of a volume.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 marker V.meta.set	the volume as it was		drops the marker
 *	3 marker -> metadata	the volume with the new value	leaves it alone
 */
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/set.h"
#include "ovstorfs/txn.h"

static int change_format(struct meta *m, const char *value)
{
	return format_parse(value, &m->format);
}

static int change_allocation(struct meta *m, const char *value)
{
	return allocation_parse(value, &m->allocation);
}

static int change_legality(struct meta *m, const char *value)
{
	return legality_parse(value, &m->legality);
}

static int change_wipe(struct meta *m, const char *value)
{
	return wipe_parse(value, &m->wipe);
}

static int change_description(struct meta *m, const char *value)
{
	free(m->description);
	m->description = *value ? xstrdup(value) : NULL;
	return 0;
}

static const struct key {
	const char *name;
	int (*change)(struct meta *m, const char *value);
	bool while_empty; /* says how the bytes are read */
} keys[] = {
	{ "format", change_format, true },
	{ "allocation", change_allocation, true },
	{ "legality", change_legality, false },
	{ "wipe", change_wipe, false },
	{ "description", change_description, false },
};

static const struct key *key_find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(keys); i++)
		if (streq(keys[i].name, name))
			return &keys[i];
	return NULL;
}

static int find(struct domain *d, const struct ref *ref,
		struct volume **ret_volume, struct meta *ret_meta)
{
	struct volume *v;
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, &ref->volume);
	if (!v || !v->visible)
		r = err_new(-ENOENT, "no such volume");
	else if (v->image->ref.dir != RECORD_LIVE)
		r = err_new(-EPERM, "its image is in the trash");
	else if (v->damaged)
		r = err_new(-EUCLEAN, "it is damaged; see fsck.ovstorfs");
	else
		volume_to_meta(v, ret_meta);
	pthread_rwlock_unlock(&d->tree);
	if (r == 0)
		*ret_volume = v;
	return r;
}

static bool same_text(const char *a, const char *b)
{
	return streq(a ?: "", b ?: "");
}

static bool is_same(const struct meta *a, const struct meta *b)
{
	return a->format == b->format && a->allocation == b->allocation &&
	       a->legality == b->legality && a->wipe == b->wipe &&
	       same_text(a->description, b->description);
}

/* Its bytes may not be another's to write, and there may be none. */
static int check_empty(struct domain *d, struct lockset *locks,
		       struct volume *v, const char *key)
{
	struct ref ref = volume_ref(v);
	struct storage_bytes b;
	int r;

	r = lockset_try_volume(locks, v);
	if (r < 0)
		return r;
	r = storage_data_stat(d->storage, &ref, &b);
	if (r < 0)
		return r;
	if (b.size || v->children || !uuid_is_nil(&v->parent_id))
		return err_new(-EPERM,
			       "%s can be set only while the volume "
			       "is empty",
			       key);
	return 0;
}

static void take_over(struct domain *d, const struct caller *by,
		      const struct ref *ref, const struct meta *m)
{
	struct volume *v;

	pthread_rwlock_wrlock(&d->tree);
	v = model_volume(d, &ref->volume);
	if (v->legality != m->legality)
		v->illegal_by = m->legality == LEGALITY_ILLEGAL ? by->uid :
								  (uid_t)-1;
	volume_from_meta(v, m);
	if (m->format == FORMAT_QCOW2)
		v->capacity = 0;
	pthread_rwlock_unlock(&d->tree);
}

int volume_set(struct domain *d, const struct caller *by, const struct ref *at,
	       const char *key, const char *value)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	auto_meta struct meta before = { 0 }, m = { 0 };
	struct ref ref = { .image = at->image,
			   .volume = at->volume,
			   .dir = RECORD_LIVE };
	const struct key *k = key_find(key);
	struct volume *v = NULL;
	int r;

	r = lockset_take_image(&locks, d, &ref.image, by->deadline);
	if (r < 0)
		return r;
	r = find(d, &ref, &v, &before);
	if (r < 0)
		return r;
	meta_copy(&before, &m);
	r = k->change(&m, value);
	if (r < 0 || is_same(&before, &m))
		return r;
	r = k->while_empty ? check_empty(d, &locks, v, key) : 0;
	if (r < 0)
		return r;
	r = txn_begin(d, &ref, OP_SET, "set", &txn);
	if (r < 0)
		return r;
	r = fault_point("volume_set.intent") ?:
		    txn_write(txn, &ref, RECORD_SET, &m);
	if (r < 0)
		return r;
	r = fault_point("volume_set.marker") ?:
		    storage_record_move(d->storage, &ref, RECORD_SET, RECORD_LIVE) ?:
		    fault_point("volume_set.commit");
	if (r < 0)
		return r;
	take_over(d, by, &ref, &m);
	return txn_commit(&txn);
}
