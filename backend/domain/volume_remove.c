/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Remove a volume that has no children.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 V.meta.removing	the volume, with a marker	drops the marker
 *	3 V.meta.removed	no volume, but its files	deletes them
 *
 * Its exclusive lease is held throughout: nobody has it open on any host.
 * The record V.meta stays until the collector has it; V.meta.removed beside
 * it says that it counts no more.
 */
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/txn.h"

/* Also gives v, which stays while the image is locked. */
static int check(struct domain *d, const struct ref *ref,
		 struct volume **ret_volume)
{
	struct volume *v;
	size_t i;
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, &ref->volume);
	if (!v || !v->visible || !uuid_eq(&v->image->ref.image, &ref->image))
		r = err_new(-ENOENT, "no such volume");
	else if (v->image->ref.dir != RECORD_LIVE)
		r = err_new(-EPERM, "its image is in the trash");
	else if (v->children)
		r = err_new(-ENOTEMPTY, "%u volumes are layered over it",
			    v->children);
	else if (v->image->damaged)
		r = err_new(-EUCLEAN, "its image is damaged; see "
				      "fsck.ovstorfs");
	for (i = 0; r == 0 && i < v->image->n_volumes; i++)
		if (v->image->volumes[i]->damaged)
			r = err_new(-EUCLEAN, "a volume of its image is "
					      "damaged, which may be layered "
					      "over it; see fsck.ovstorfs");
	pthread_rwlock_unlock(&d->tree);
	if (r == 0)
		*ret_volume = v;
	return r;
}

static void hide(struct domain *d, struct volume *v, struct ref *ret_parent)
{
	pthread_rwlock_wrlock(&d->tree);
	if (v->parent)
		*ret_parent = volume_ref(v->parent);
	model_volume_show(v, false);
	model_image_link(d, v->image);
	pthread_rwlock_unlock(&d->tree);
}

int volume_remove(struct domain *d, const struct caller *by,
		  const struct uuid *image, const struct uuid *volume)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	auto_meta struct meta m = { 0 };
	struct ref ref = { .image = *image,
			   .volume = *volume,
			   .dir = RECORD_LIVE };
	struct ref parent = { 0 };
	struct volume *v = NULL;
	int r;

	/* Before any lock: a handle that is about to go needs none of ours,
	 * but others should not wait for it with us. */
	r = hold_check_idle(d, volume, false);
	if (r < 0)
		return r;
	r = lockset_take_image(&locks, d, image, by->deadline);
	if (r < 0)
		return r;
	r = check(d, &ref, &v)			      ?:
		    hold_check_idle(d, volume, false) ?:
		    lockset_try_volume(&locks, v);
	if (r < 0)
		return r;
	r = txn_begin(d, &ref, OP_REMOVE, "remove", &txn);
	if (r < 0)
		return r;
	pthread_rwlock_rdlock(&d->tree);
	volume_to_meta(v, &m);
	pthread_rwlock_unlock(&d->tree);
	r = fault_point("volume_remove.intent") ?:
		    txn_write(txn, &ref, RECORD_REMOVING, &m);
	if (r < 0)
		return r;
	r = fault_point("volume_remove.marker") ?:
		    storage_record_move(d->storage, &ref, RECORD_REMOVING, RECORD_REMOVED) ?:
		    fault_point("volume_remove.commit");
	if (r < 0)
		return r;
	hide(d, v, &parent);
	r = txn_commit(&txn);
	if (ref_is_volume(&parent))
		domain_changed(d, &parent);
	lockset_release(&locks);
	gc_wake(d, image);
	return r;
}
