/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Remove an image: at once when it is empty, or whole, by way of the trash.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 marker in the image,	the image, with a marker in it	drops the marker
 *	  with its retention
 *	3 I -> I.removed	an image in the trash; with a	collects it when
 *				retention of 0 it is just gone	its time is over
 *
 * Take one back from the trash.
 *
 *	1 intent in the ring	a number that nobody used	-
 *	2 I.removed -> I	the image, with a marker in it	drops the marker
 *	3 drop the marker	the image			leaves it alone
 *
 * Leases. A rename of the directory moves the lease areas, and a lease must be
 * released by the path it was taken by. So the leases of all volumes are
 * taken, which proves that nobody has one open, and released just before the
 * rename, with the domain lease in hand. Who gets one in between finds the
 * marker, or no record, when it reads again after the grant.
 */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/io.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/txn.h"

#define COLLECTED_WAIT_MS 2000

static struct image *find_live(struct domain *d, const struct uuid *image)
{
	struct image *img = model_image(d, image);

	return img && img->ref.dir == RECORD_LIVE ? img : NULL;
}

static int check_damage(const struct image *img)
{
	size_t i;

	if (img->damaged)
		return err_new(-EUCLEAN, "its record is damaged; see "
					 "fsck.ovstorfs");
	for (i = 0; i < img->n_volumes; i++)
		if (img->volumes[i]->damaged)
			return err_new(-EUCLEAN, "a volume in it is damaged; "
						 "see fsck.ovstorfs");
	return 0;
}

static int check_remove(struct domain *d, const struct uuid *image,
			bool must_be_empty)
{
	struct image *img;
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	img = find_live(d, image);
	if (!img)
		r = err_new(-ENOENT, "no such image");
	else if (must_be_empty && img->n_volumes)
		r = err_new(-ENOTEMPTY, "it has %zu volumes", img->n_volumes);
	else
		r = check_damage(img);
	pthread_rwlock_unlock(&d->tree);
	return r;
}

/* The UUIDs of an image's volumes; caller frees. */
static struct uuid *volume_ids(struct domain *d, const struct uuid *image,
			       size_t *ret_n)
{
	struct uuid *ids = NULL;
	struct image *img;
	size_t i;

	*ret_n = 0;
	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, image);
	if (img && img->n_volumes) {
		ids = xcalloc(img->n_volumes, sizeof(*ids));
		for (i = 0; i < img->n_volumes; i++)
			ids[i] = img->volumes[i]->id;
		*ret_n = img->n_volumes;
	}
	pthread_rwlock_unlock(&d->tree);
	return ids;
}

static int check_idle(struct domain *d, const struct uuid *ids, size_t n)
{
	size_t i;
	int r;

	for (i = 0; i < n; i++) {
		r = hold_check_idle(d, &ids[i], false);
		if (r < 0)
			return err_add(r, "one of its volumes");
	}
	return 0;
}

/* Nobody on any host has one of them: all leases were to be had at once. */
static int prove_unused(struct domain *d, const struct uuid *ids, size_t n)
{
	size_t i, taken = 0;
	int r = check_idle(d, ids, n);
	struct volume **held = xcalloc(n + 1, sizeof(struct volume *));

	for (i = 0; i < n && r == 0; i++) {
		struct volume *v;

		pthread_rwlock_rdlock(&d->tree);
		v = model_volume(d, &ids[i]);
		pthread_rwlock_unlock(&d->tree);
		if (!v)
			continue;
		r = hold_get(d, v, LEASE_EXCLUSIVE, 0);
		if (r == 0)
			held[taken++] = v;
	}
	while (taken > 0)
		hold_put(d, held[--taken]);
	free(held);
	return r;
}

static void mark_removed(struct domain *d, const struct uuid *image,
			 const struct meta *m)
{
	struct image *img;

	pthread_rwlock_wrlock(&d->tree);
	img = model_image(d, image);
	img->ref.dir = RECORD_REMOVED;
	img->retention = m->retention;
	img->removed = m->written;
	img->first_seen = now_ms();
	img->purge = false;
	pthread_rwlock_unlock(&d->tree);
}

/* The image's own record, to be written again by a transaction. */
static void image_meta(struct domain *d, const struct uuid *image,
		       struct meta *ret_meta)
{
	pthread_rwlock_rdlock(&d->tree);
	image_to_meta(model_image(d, image), ret_meta);
	pthread_rwlock_unlock(&d->tree);
}

/* What the collector is at work on has its lease by the path of now. */
static bool is_being_collected(struct domain *d, const struct uuid *image)
{
	struct image *img;
	struct volume *v;
	bool busy = false;

	pthread_rwlock_rdlock(&d->tree);
	pthread_mutex_lock(&d->uses_lock);
	img = model_image(d, image);
	if (img)
		LIST_FOREACH(v, &img->all, in_image)
	busy |= !v->visible && v->use;
	pthread_mutex_unlock(&d->uses_lock);
	pthread_rwlock_unlock(&d->tree);
	return busy;
}

static int take_locks(struct lockset *locks, struct domain *d,
		      const struct caller *by, const struct uuid *image)
{
	uint64_t until = now_ms() + COLLECTED_WAIT_MS;
	int r;

	for (;;) {
		r = lockset_take_image(locks, d, image, by->deadline);
		if (r < 0 || !is_being_collected(d, image))
			return r;
		lockset_release(locks);
		if (!gc_wait_round(d, image, until))
			return err_new(-EBUSY, "deleted volumes in it are "
					       "being collected");
	}
}

static int remove_image(struct domain *d, const struct caller *by,
			const struct uuid *image, bool must_be_empty,
			uint64_t retention)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	auto_meta struct meta m = { 0 };
	auto_free struct uuid *ids = NULL;
	struct ref ref = { .image = *image, .dir = RECORD_LIVE };
	size_t n = 0;
	int r;

	r = take_locks(&locks, d, by, image);
	if (r < 0)
		return r;
	r = check_remove(d, image, must_be_empty);
	if (r < 0)
		return r;
	ids = volume_ids(d, image, &n);
	r = prove_unused(d, ids, n);
	if (r < 0)
		return r;
	r = txn_begin(d, &ref, OP_REMOVE, retention ? "trash" : "remove", &txn);
	if (r < 0)
		return r;
	image_meta(d, image, &m);
	m.retention = retention;
	r = fault_point("image_remove.intent") ?:
		    txn_write(txn, &ref, RECORD_REMOVING, &m);
	if (r < 0)
		return r;
	r = fault_point("image_remove.marker") ?: prove_unused(d, ids, n);
	if (r < 0)
		return r;
	r = fault_point("image_remove.proof") ?:
		    storage_record_move(d->storage, &ref, RECORD_LIVE, RECORD_REMOVED) ?:
		    fault_point("image_remove.commit");
	if (r < 0)
		return r;
	mark_removed(d, image, &m);
	r = txn_commit(&txn);
	/* It collects the image now, or learns when that is due. */
	gc_wake(d, image);
	return r;
}

int image_remove(struct domain *d, const struct caller *by,
		 const struct uuid *image)
{
	return remove_image(d, by, image, true, 0);
}

int image_trash(struct domain *d, const struct caller *by,
		const struct uuid *image)
{
	/* Zero is how a removal without trash is written. */
	uint64_t retention = d->options.trash_retention ?: 1;

	return remove_image(d, by, image, false, retention);
}

static int check_restore(struct domain *d, const struct uuid *image)
{
	struct image *img;
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, image);
	if (!img || img->ref.dir == RECORD_DYING)
		r = err_new(-ESTALE, "the collector has begun to delete it");
	else if (img->ref.dir != RECORD_REMOVED || !img->retention)
		r = err_new(-ENOENT, "it is not in the trash");
	pthread_rwlock_unlock(&d->tree);
	return r;
}

static void mark_live(struct domain *d, const struct uuid *image)
{
	struct image *img;

	pthread_rwlock_wrlock(&d->tree);
	img = model_image(d, image);
	img->ref.dir = RECORD_LIVE;
	img->retention = 0;
	img->first_seen = 0;
	img->purge = false;
	pthread_rwlock_unlock(&d->tree);
}

int image_restore(struct domain *d, const struct caller *by,
		  const struct uuid *image)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	struct ref ref = { .image = *image, .dir = RECORD_REMOVED };
	int r;

	r = lockset_take_image(&locks, d, image, by->deadline);
	if (r < 0)
		return r;
	r = check_restore(d, image);
	if (r < 0)
		return r;
	r = txn_begin(d, &ref, OP_SET, "restore", &txn);
	if (r < 0)
		return r;
	r = fault_point("image_restore.intent") ?:
		    storage_record_move(d->storage, &ref, RECORD_REMOVED, RECORD_LIVE) ?:
		    fault_point("image_restore.commit");
	if (r < 0)
		return r;
	mark_live(d, image);
	ref.dir = RECORD_LIVE;
	txn->ref.dir = RECORD_LIVE;
	/* Committed: what is left of the marker is the collector's. */
	if (storage_record_drop(d->storage, &ref, RECORD_REMOVING) < 0)
		gc_wake(d, image);
	return txn_commit(&txn);
}

/* Returns whether it is in the trash still. */
static bool set_purge(struct domain *d, const struct uuid *image, bool purge)
{
	struct image *img;
	bool there;

	pthread_rwlock_wrlock(&d->tree);
	img = model_image(d, image);
	there = img && img->ref.dir == RECORD_REMOVED;
	if (there)
		img->purge = purge;
	pthread_rwlock_unlock(&d->tree);
	return there;
}

int image_purge(struct domain *d, const struct caller *by,
		const struct uuid *image)
{
	uint64_t cleaned, left;
	int r = check_restore(d, image);

	(void)by;
	if (r < 0)
		return r;
	set_purge(d, image, true);
	r = gc_run(d, &cleaned, &left);
	/* A wish that was not granted does not wait for its chance. */
	if (set_purge(d, image, false) && r == 0)
		r = err_new(-EBUSY, "a volume in it is in use");
	return r;
}
