/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Resize a volume.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 marker V.meta.set	the volume, with a marker	drops the marker
 *	3 reserve the bytes	space past the end		cuts it off
 *	4 size, made durable	the new size			drops the marker
 *	5 drop the marker	the new size			-
 *
 * Steps 2, 3 and 5 are only taken to extend a preallocated volume: setting a
 * size is atomic by itself. Where this host has the volume open for writing,
 * its lease covers the size, and a sparse one needs no transaction; the last
 * close tells the other hosts.
 */
#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/txn.h"

struct resize {
	struct domain *d;
	const struct caller *by;
	struct ref ref;
	uint64_t size;
	struct volume *volume;
	bool reserve; /* a preallocated one grows */
	bool open;    /* for writing, on this host */
};

static int check(struct resize *z)
{
	struct domain *d = z->d;
	struct volume *v;
	int r = 0;

	if (z->size > OVSTORFS_SIZE_MAX)
		return err_new(-EFBIG, "a size over 2^63 - 1");
	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, &z->ref.volume);
	if (!v || !v->visible ||
	    !uuid_eq(&v->image->ref.image, &z->ref.image)) {
		r = err_new(-ENOENT, "no such volume");
	} else if (v->image->ref.dir != RECORD_LIVE) {
		r = err_new(-EPERM, "its image is in the trash");
	} else if (v->damaged) {
		r = err_new(-EUCLEAN, "it is damaged; see fsck.ovstorfs");
	} else if (v->children) {
		r = err_new(-EROFS,
			    "it is not a leaf: %u volumes are layered "
			    "over it",
			    v->children);
	} else if (v->legality == LEGALITY_ILLEGAL &&
		   v->illegal_by != z->by->uid) {
		r = err_new(-EUCLEAN, "it is illegal");
	} else {
		z->volume = v;
		pthread_mutex_lock(&d->uses_lock);
		z->open = v->use && v->use->writers && v->use->held;
		pthread_mutex_unlock(&d->uses_lock);
		z->reserve = v->allocation == ALLOCATION_PREALLOCATED;
	}
	pthread_rwlock_unlock(&d->tree);
	return r;
}

static void take_bytes(struct resize *z)
{
	struct storage_bytes b = { 0 };
	int r = storage_data_stat(z->d->storage, &z->ref, &b);

	pthread_rwlock_wrlock(&z->d->tree);
	if (r == 0)
		z->volume->bytes = b;
	else
		z->volume->bytes.size = z->size; /* that much is certain */
	if (z->volume->format == FORMAT_RAW)
		z->volume->capacity = z->volume->bytes.size;
	pthread_rwlock_unlock(&z->d->tree);
}

/* The lease is this host's already: nobody else can see or change the size.
 * *ret_done: false when the volume was closed before we had its lock. */
static int resize_open(struct resize *z, bool *ret_done)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	int r;

	lockset_add(&locks, RANK_IMAGE, &z->ref.image, false);
	lockset_add(&locks, RANK_VOLUME, &z->ref.volume, true);
	r = lockset_take(&locks, z->d, z->by->deadline);
	if (r < 0)
		return r;
	r = check(z);
	if (r < 0)
		return r;
	*ret_done = z->open && hold_written(z->d, z->volume);
	if (!*ret_done)
		return 0;
	r = fault_point("volume_resize.open") ?:
		    storage_data_resize(z->d->storage, &z->ref, z->size);
	if (r == 0)
		take_bytes(z);
	hold_put(z->d, z->volume);
	return r;
}

static int reserve(struct resize *z, struct txn *txn)
{
	auto_meta struct meta m = { 0 };
	int r;

	pthread_rwlock_rdlock(&z->d->tree);
	volume_to_meta(z->volume, &m);
	pthread_rwlock_unlock(&z->d->tree);
	r = txn_write(txn, &z->ref, RECORD_SET, &m);
	if (r < 0)
		return r;
	r = fault_point("volume_resize.marker") ?:
		    storage_data_reserve(z->d->storage, &z->ref, z->size);
	return r < 0 ? r : fault_point("volume_resize.reserve");
}

static int steps(struct resize *z, struct txn *txn)
{
	struct storage_bytes before = { 0 };
	int r;

	r = storage_data_stat(z->d->storage, &z->ref, &before);
	if (r < 0)
		return r;
	z->reserve = z->reserve && z->size > before.size;
	r = fault_point("volume_resize.intent");
	if (r == 0 && z->reserve)
		r = reserve(z, txn);
	if (r < 0)
		return r;
	r = storage_data_resize(z->d->storage, &z->ref, z->size) ?:
		    fault_point("volume_resize.commit");
	if (r == 0 && z->reserve)
		r = storage_record_drop(z->d->storage, &z->ref, RECORD_SET);
	return r;
}

static int resize_txn(struct resize *z)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	int r;

	r = lockset_take_image(&locks, z->d, &z->ref.image, z->by->deadline);
	if (r < 0)
		return r;
	r = check(z) ?: lockset_try_volume(&locks, z->volume);
	if (r < 0)
		return r;
	r = txn_begin(z->d, &z->ref, OP_RESIZE, "resize", &txn);
	if (r < 0)
		return r;
	r = steps(z, txn);
	if (r < 0)
		return r;
	take_bytes(z);
	return txn_commit(&txn);
}

int volume_resize(struct domain *d, const struct caller *by,
		  const struct uuid *image, const struct uuid *volume,
		  uint64_t size)
{
	struct resize z = { .d = d,
			    .by = by,
			    .ref = { .image = *image,
				     .volume = *volume,
				     .dir = RECORD_LIVE },
			    .size = size };
	bool done = false;
	int r = domain_may_change(d);

	if (r == 0 || r == -EAGAIN)
		r = check(&z);
	if (r == 0 && z.open && !z.reserve)
		r = resize_open(&z, &done);
	return r < 0 || done ? r : resize_txn(&z);
}
