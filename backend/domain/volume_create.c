/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Create a volume: raw, sparse, empty, legal.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 marker V.meta.new	a marker and nothing else	removes it
 *	3 lease area		a lease no volume names		frees it
 *	4 bytes			bytes no volume names		deletes them
 *	5 names made durable	the same			the same
 *	6 marker -> metadata	a volume			leaves it alone
 *
 * The lease is written before the volume can be seen, so a volume without one
 * is damage and never a state to expect.
 */
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/txn.h"

#define GONE_WAIT_MS 2000

static int check(struct domain *d, const struct uuid *image,
		 const struct uuid *volume)
{
	struct image *img;
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, image);
	if (!img || img->ref.dir != RECORD_LIVE)
		r = err_new(-ENOENT, "no such image");
	else if (model_volume(d, volume))
		r = err_new(-EEXIST, "a volume of this UUID exists in the "
				     "domain, or is being collected");
	else if (model_hash_taken(d, volume))
		r = err_new(-EEXIST, "its inode number is another object's; "
				     "choose another UUID");
	pthread_rwlock_unlock(&d->tree);
	return r;
}

/* Claims the UUID in memory before the first step: a create of the same one
 * in another image must not pass the check meanwhile. */
static int claim(struct domain *d, const struct ref *ref)
{
	struct image *img;
	int r = 0;

	pthread_rwlock_wrlock(&d->tree);
	img = model_image(d, &ref->image);
	if (model_volume(d, &ref->volume))
		r = err_new(-EEXIST, "a volume of this UUID is being created");
	else
		model_volume_add(d, &ref->volume, img);
	pthread_rwlock_unlock(&d->tree);
	return r;
}

static int make_lease(struct domain *d, const struct ref *ref)
{
	struct lease_ref lease;
	int r;

	uuid_format(&ref->volume, lease.name);
	r = storage_lease_create(d->storage, ref);
	if (r < 0)
		return r;
	r = storage_lease_place(d->storage, ref, lease.path, &lease.offset);
	return r < 0 ? r : lease_area_init(&d->space, &lease);
}

static int steps(struct domain *d, struct txn *txn, struct meta *m)
{
	const struct ref *ref = &txn->ref;
	int r;

	r = fault_point("volume_create.intent") ?:
		    txn_write(txn, ref, RECORD_NEW, m);
	if (r < 0)
		return r;
	r = fault_point("volume_create.marker") ?: make_lease(d, ref);
	if (r < 0)
		return r;
	r = fault_point("volume_create.lease") ?:
		    storage_data_create(d->storage, ref);
	if (r < 0)
		return r;
	r = fault_point("volume_create.data") ?:
		    storage_sync_image(d->storage, ref);
	if (r < 0)
		return r;
	r = fault_point("volume_create.sync") ?:
		    storage_record_move(d->storage, ref, RECORD_NEW,
					RECORD_LIVE);
	if (r < 0)
		return r;
	return fault_point("volume_create.commit");
}

static void show(struct domain *d, const struct ref *ref, const struct meta *m)
{
	struct volume *v;

	pthread_rwlock_wrlock(&d->tree);
	v = model_volume(d, &ref->volume);
	volume_from_meta(v, m);
	v->bytes.mtime.tv_sec = m->created;
	model_volume_show(v, true);
	model_image_link(d, v->image);
	pthread_rwlock_unlock(&d->tree);
}

int volume_create(struct domain *d, const struct caller *by,
		  const struct uuid *image, const struct uuid *volume)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	auto_meta struct meta m = { .kind = META_VOLUME,
				    .uuid = *volume,
				    .image = *image };
	struct ref ref = { .image = *image,
			   .volume = *volume,
			   .dir = RECORD_LIVE };
	int r;

	gc_wait_gone(d, volume, GONE_WAIT_MS);
	r = lockset_take_image(&locks, d, image, by->deadline);
	if (r < 0)
		return r;
	r = check(d, image, volume) ?: claim(d, &ref);
	if (r < 0)
		return r;
	/* From here on an abort reads the image again, which forgets the
	 * claim where the storage knows nothing of it. */
	r = txn_begin(d, &ref, OP_CREATE, "create", &txn);
	if (r < 0) {
		(void)load_image(d, image);
		return r;
	}
	r = steps(d, txn, &m);
	if (r < 0)
		return r;
	show(d, &ref, &m);
	return txn_commit(&txn);
}
