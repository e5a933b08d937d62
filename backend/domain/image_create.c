/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Create an image.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 marker		I.new with its record (or	removes it
 *				without)
 *	3 marker -> image	the image			leaves it alone
 */
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/txn.h"

#define GONE_WAIT_MS 2000

static int check(struct domain *d, const struct uuid *image)
{
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	if (model_image(d, image))
		r = err_new(-EEXIST, "an image of this UUID exists, is in the "
				     "trash, or is being collected");
	else if (model_hash_taken(d, image))
		r = err_new(-EEXIST, "its inode number is another object's; "
				     "choose another UUID");
	pthread_rwlock_unlock(&d->tree);
	return r;
}

static void remember(struct domain *d, const struct ref *ref,
		     const struct meta *m)
{
	struct image *img;

	pthread_rwlock_wrlock(&d->tree);
	img = model_image_add(d, ref);
	img->ref.dir = RECORD_LIVE;
	image_from_meta(img, m);
	model_image_renumber(d, img, m->number);
	pthread_rwlock_unlock(&d->tree);
}

int image_create(struct domain *d, const struct caller *by,
		 const struct uuid *image)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	auto_meta struct meta m = { .kind = META_IMAGE, .uuid = *image };
	struct ref ref = { .image = *image, .dir = RECORD_NEW };
	int r;

	gc_wait_gone(d, image, GONE_WAIT_MS);
	r = lockset_take_image(&locks, d, image, by->deadline);
	if (r < 0)
		return r;
	r = check(d, image);
	if (r < 0)
		return r;
	r = txn_begin(d, &ref, OP_CREATE, "create", &txn);
	if (r < 0)
		return r;
	r = fault_point("image_create.intent") ?:
		    txn_write(txn, &ref, RECORD_NEW, &m);
	if (r < 0)
		return r;
	r = fault_point("image_create.marker") ?:
		    storage_record_move(d->storage, &ref, RECORD_NEW, RECORD_LIVE) ?:
		    fault_point("image_create.commit");
	if (r < 0)
		return r;
	remember(d, &ref, &m);
	return txn_commit(&txn);
}
