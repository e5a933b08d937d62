/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the collector does with a marker: finish or undo what it shows.
 *
 * For each the domain lease and the image's lock are taken - so no verb of this
 * host is at work there, and by the lease none of another's: the marker is an
 * orphan by definition - and it is looked at again. Then a third state, DYING
 * or UNDO, is committed, from which nothing comes back: a late rename of a dead
 * owner finds its marker gone. It is cleaned, and the marker dropped last. Each
 * step may run twice.
 *
 *	marker			third state	then
 *	volume NEW		DYING		bytes, lease area, marker
 *	volume SET, REMOVING	UNDO		bytes back to what they were,
 *						marker
 *	volume REMOVED		DYING		record, bytes, lease area,
 *						marker
 *	image NEW, REMOVED	DYING		all that is in it, directory
 *	image SET, REMOVING	UNDO		marker
 *
 * Bytes are deleted without the domain lease, under the volume's own.
 */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/gc.h"
#include "ovstorfs/io.h"
#include "ovstorfs/lockset.h"

#define BIT(state) (1u << (state))
#define MARKERS                                                                \
	(BIT(RECORD_NEW) | BIT(RECORD_SET) | BIT(RECORD_UNDO) |                \
	 BIT(RECORD_REMOVING) | BIT(RECORD_REMOVED) | BIT(RECORD_DYING))

bool gc_is_marked(const struct storage_entry *e)
{
	unsigned int markers = e->records & MARKERS;

	if (ref_is_volume(&e->ref))
		/* What lies in a dying or new image goes with it. */
		return (e->ref.dir == RECORD_LIVE ||
			e->ref.dir == RECORD_REMOVED) &&
		       markers;
	if (e->ref.dir != RECORD_LIVE)
		return true;
	return markers;
}

/* ---- look again ---- */

struct again {
	const struct uuid *volume;
	struct storage_entry entry;
	bool met;
};

static int visit_again(void *arg, const struct storage_entry *e)
{
	struct again *a = arg;

	if (!uuid_eq(&e->ref.volume, a->volume))
		return 0;
	a->entry = *e;
	a->met = true;
	return 0;
}

/* The object as it is now; records is 0 when it is not there. */
static int look_again(struct domain *d, const struct ref *ref,
		      struct storage_entry *ret_entry)
{
	struct again a = { .volume = &ref->volume };
	struct storage_visitor v = { .entry = visit_again, .arg = &a };
	int r = storage_scan_image(d->storage, ref, &v);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret_entry = a.entry;
	if (!a.met)
		*ret_entry = (struct storage_entry){ .ref = *ref };
	return a.met ? 0 : -ENOENT;
}

/* ---- volumes ---- */

/* Cut the bytes back to what they were before the marker's transaction. A
 * marker that cannot be read was torn, and nothing was done under it. */
static int undo_bytes(struct domain *d, const struct ref *ref)
{
	auto_meta struct meta m = { 0 };
	struct storage_bytes b = { 0 };
	int r = load_meta(d->storage, ref, RECORD_UNDO, META_VOLUME, &m);

	if (r == -EUCLEAN)
		return 0;
	if (r < 0)
		return r;
	if (m.op == OP_SNAPSHOT)
		return storage_data_resize(d->storage, ref, m.size_before);
	if (m.op != OP_RESIZE)
		return 0;
	r = storage_data_stat(d->storage, ref, &b);
	return r < 0 ? r : storage_data_resize(d->storage, ref, b.size);
}

static struct volume *volume_here(struct domain *d, const struct ref *ref)
{
	struct volume *v;

	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, &ref->volume);
	if (v && !uuid_eq(&v->image->ref.image, &ref->image))
		v = NULL;
	pthread_rwlock_unlock(&d->tree);
	return v;
}

/* Has the marker's transaction touched bytes? Then nobody may be writing them
 * while they are cut back, here or on another host. */
static int claim_bytes(struct domain *d, const struct ref *ref,
		       enum record state, struct lockset *locks)
{
	auto_meta struct meta m = { 0 };
	struct volume *v = volume_here(d, ref);
	int r = load_meta(d->storage, ref, state, META_VOLUME, &m);

	if (r == -EUCLEAN || !v)
		return 0;
	if (r < 0 || (m.op != OP_SNAPSHOT && m.op != OP_RESIZE))
		return r;
	return hold_check_idle(d, &ref->volume, true) ?:
		       lockset_try_volume(locks, v);
}

static int undo_volume(struct domain *d, const struct storage_entry *e,
		       enum record state, struct lockset *locks)
{
	int r = claim_bytes(d, &e->ref, state, locks);

	if (r < 0)
		return r;
	if (state != RECORD_UNDO)
		r = storage_record_move(d->storage, &e->ref, state, RECORD_UNDO) ?:
			    fault_point("gc.undo");
	if (r == 0)
		r = undo_bytes(d, &e->ref);
	if (r == 0)
		r = fault_point("gc.undone") ?:
			    storage_record_drop(d->storage, &e->ref,
						RECORD_UNDO);
	return r;
}

/* Deleting bytes may take long: without the domain lease. */
static int delete_bytes(struct domain *d, const struct ref *ref)
{
	int r = storage_data_drop(d->storage, ref);

	return r < 0 ? r : fault_point("gc.data");
}

/* The lease that keeps others from the bytes while they are deleted. A create
 * that never was has nobody who could hold it, and maybe no lease area; what
 * is no sound area nobody holds either. */
static int claim_dying(struct domain *d, const struct storage_entry *e,
		       struct volume **ret_held)
{
	struct volume *v = volume_here(d, &e->ref);
	int r;

	*ret_held = NULL;
	if (!v || !e->has_lease || e->records & BIT(RECORD_NEW))
		return 0;
	r = hold_get(d, v, LEASE_EXCLUSIVE, 0);
	if (r == 0)
		*ret_held = v;
	return r == -EUCLEAN ? 0 : r;
}

/* With the domain lease again: is it still ours to finish? Another collector
 * may have been here, and the name may be somebody else's by now. */
static int delete_rest(struct domain *d, const struct ref *ref)
{
	struct storage_entry e;
	int r = look_again(d, ref, &e);

	if (r == -ENOENT || (r == 0 && !(e.records & BIT(RECORD_DYING))))
		return 0;
	if (r == 0)
		r = storage_lease_drop(d->storage, ref) ?:
							  fault_point("gc.lease");
	return r < 0 ? r : storage_record_drop(d->storage, ref, RECORD_DYING);
}

static int bury_volume(struct domain *d, const struct storage_entry *e,
		       struct lockset *locks)
{
	bool removed = e->records & BIT(RECORD_REMOVED);
	const struct ref *ref = &e->ref;
	struct volume *held = NULL;
	int r = claim_dying(d, e, &held);

	if (r < 0)
		return r;
	if (!(e->records & BIT(RECORD_DYING)))
		r = storage_record_move(d->storage, ref,
					removed ? RECORD_REMOVED : RECORD_NEW,
					RECORD_DYING);
	if (r == 0)
		r = fault_point("gc.dying") ?:
			    storage_record_drop(d->storage, ref, RECORD_LIVE);
	lockset_release(locks);
	if (r == 0)
		r = fault_point("gc.record") ?: delete_bytes(d, ref);
	if (r == 0)
		r = lockset_take_image(locks, d, &ref->image,
				       now_ms() + GC_TAKE_MS);
	/* Given back before its area goes, with the domain lease in hand. */
	if (held)
		hold_put(d, held);
	return r < 0 ? r : delete_rest(d, ref);
}

/* Memory follows: cheaper than reading the image again. */
static void forget_volume(struct domain *d, const struct ref *ref)
{
	struct volume *v;

	pthread_rwlock_wrlock(&d->tree);
	v = model_volume(d, &ref->volume);
	pthread_mutex_lock(&d->uses_lock);
	if (v && (v->visible || v->use))
		v = NULL;
	pthread_mutex_unlock(&d->uses_lock);
	if (v)
		model_volume_del(d, v);
	pthread_rwlock_unlock(&d->tree);
}

static int collect_volume(struct domain *d, const struct storage_entry *e,
			  struct lockset *locks)
{
	unsigned int has = e->records;
	bool gone = has & (BIT(RECORD_DYING) | BIT(RECORD_REMOVED));
	enum record state = has & BIT(RECORD_UNDO) ? RECORD_UNDO :
			    has & BIT(RECORD_SET)  ? RECORD_SET :
						     RECORD_REMOVING;
	int r;

	if (!gone && has & BIT(RECORD_NEW) && has & BIT(RECORD_LIVE))
		return storage_record_drop(d->storage, &e->ref, RECORD_NEW);
	if (!gone && !(has & BIT(RECORD_NEW))) {
		r = undo_volume(d, e, state, locks);
		return r < 0 ? r : load_image(d, &e->ref.image);
	}
	r = bury_volume(d, e, locks);
	if (r == 0)
		forget_volume(d, &e->ref);
	return r;
}

/* ---- images ---- */

static int undo_image(struct domain *d, const struct storage_entry *e)
{
	enum record state = e->records & BIT(RECORD_UNDO) ? RECORD_UNDO :
			    e->records & BIT(RECORD_SET)  ? RECORD_SET :
							    RECORD_REMOVING;
	int r = 0;

	if (state != RECORD_UNDO)
		r = storage_record_move(d->storage, &e->ref, state,
					RECORD_UNDO);
	return r < 0 ? r :
		       storage_record_drop(d->storage, &e->ref, RECORD_UNDO);
}

/* Is its time in the trash over, by our own clock? What we do not know as
 * trashed was trashed elsewhere, a moment ago. */
static bool is_due(struct domain *d, const struct ref *ref)
{
	struct image *img;
	bool due = false;

	if (ref->dir != RECORD_REMOVED)
		return true;
	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, &ref->image);
	if (img && img->ref.dir == RECORD_REMOVED)
		due = !img->retention || img->purge ||
		      now_ms() >= img->first_seen + img->retention * 1000;
	pthread_rwlock_unlock(&d->tree);
	return due;
}

struct bury {
	struct domain *d;
	struct ref image;
};

static int visit_use(void *arg, const struct storage_entry *e)
{
	struct bury *b = arg;
	struct volume *v;
	int r;

	if (!ref_is_volume(&e->ref))
		return 0;
	v = volume_here(b->d, &e->ref);
	if (!v)
		return 0;
	r = hold_check_idle(b->d, &v->id, false) ?:
		    hold_get(b->d, v, LEASE_EXCLUSIVE, 0);
	/* To be had is enough: see image_remove.c. */
	if (r == 0)
		hold_put(b->d, v);
	return r;
}

static int visit_delete(void *arg, const struct storage_entry *e)
{
	struct bury *b = arg;

	return ref_is_volume(&e->ref) ? delete_bytes(b->d, &e->ref) : 0;
}

static int bury_image(struct domain *d, const struct ref *ref,
		      struct lockset *locks)
{
	struct bury b = { d, *ref };
	struct storage_visitor use = { .entry = visit_use, .arg = &b };
	struct storage_visitor del = { .entry = visit_delete, .arg = &b };
	struct image *img;
	int r = 0;

	if (ref->dir == RECORD_REMOVED)
		r = storage_scan_image(d->storage, ref, &use);
	if (r == 0 && ref->dir != RECORD_DYING)
		r = storage_record_move(d->storage, ref, ref->dir,
					RECORD_DYING);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->tree);
	img = model_image(d, &ref->image);
	if (img)
		img->ref.dir = RECORD_DYING;
	pthread_rwlock_unlock(&d->tree);
	lockset_release(locks);
	b.image.dir = RECORD_DYING;
	r = fault_point("gc.image_dying") ?:
		    storage_scan_image(d->storage, &b.image, &del);
	if (r < 0)
		return r;
	r = lockset_take_image(locks, d, &ref->image, now_ms() + GC_TAKE_MS);
	if (r < 0)
		return r;
	return fault_point("gc.image_empty") ?:
		       storage_record_drop(d->storage, &b.image, RECORD_DYING);
}

static int collect_image(struct domain *d, const struct storage_entry *e,
			 struct lockset *locks)
{
	int r = e->ref.dir == RECORD_LIVE ? undo_image(d, e) :
					    bury_image(d, &e->ref, locks);

	return r < 0 ? r : load_image(d, &e->ref.image);
}

static bool image_is_damaged(struct domain *d, const struct ref *ref)
{
	struct image *img;
	bool damaged;
	size_t i;

	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, &ref->image);
	damaged = img && img->damaged;
	for (i = 0; img && i < img->n_volumes; i++)
		damaged |= img->volumes[i]->damaged;
	pthread_rwlock_unlock(&d->tree);
	return damaged;
}

static bool knows_image(struct domain *d, const struct ref *ref)
{
	struct image *img;
	bool known;

	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, &ref->image);
	known = img && img->ref.dir == ref->dir;
	pthread_rwlock_unlock(&d->tree);
	return known;
}

int gc_collect(struct domain *d, const struct ref *ref, bool *ret_collected)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	struct storage_entry e;
	int r;

	*ret_collected = false;
	r = lockset_take_image(&locks, d, &ref->image, now_ms() + GC_TAKE_MS);
	if (r < 0)
		return r;
	r = look_again(d, ref, &e);
	if (r == -ENOENT || (r == 0 && !gc_is_marked(&e)))
		return 0;
	/* Under the lease: before, memory may not know what others did. */
	if (r == 0 && !ref_is_volume(ref) && !is_due(d, ref))
		return knows_image(d, ref) ? 0 : load_image(d, &ref->image);
	if (r == 0 && image_is_damaged(d, ref))
		r = err_new(-EUCLEAN, "nothing is deleted in a damaged "
				      "image; see fsck.ovstorfs");
	if (r == 0)
		r = ref_is_volume(ref) ? collect_volume(d, &e, &locks) :
					 collect_image(d, &e, &locks);
	lockset_release(&locks);
	*ret_collected = r == 0;
	return r;
}
