/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Set an attribute of an image.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 marker: image.set	the image as it was		drops the marker
 *	3 marker -> record	the image with the new value	leaves it alone
 */
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/set.h"
#include "ovstorfs/txn.h"

static int prepare(struct domain *d, const struct uuid *image,
		   const char *value, struct meta *ret_meta, bool *ret_same)
{
	struct image *img;
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, image);
	if (!img || img->ref.dir != RECORD_LIVE) {
		r = err_new(-EPERM, "the image is in the trash or gone");
	} else if (img->damaged) {
		r = err_new(-EUCLEAN, "its record is damaged");
	} else {
		*ret_same = streq(img->description ?: "", value);
		image_to_meta(img, ret_meta);
	}
	pthread_rwlock_unlock(&d->tree);
	return r;
}

int image_set(struct domain *d, const struct caller *by, const struct ref *at,
	      const char *key, const char *value)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	auto_meta struct meta m = { 0 };
	struct ref ref = { .image = at->image, .dir = RECORD_LIVE };
	bool same = false;
	int r;

	(void)key; /* description is the only one */
	r = lockset_take_image(&locks, d, &ref.image, by->deadline);
	if (r < 0)
		return r;
	r = prepare(d, &ref.image, value, &m, &same);
	if (r < 0 || same)
		return r;
	free(m.description);
	m.description = *value ? xstrdup(value) : NULL;
	r = txn_begin(d, &ref, OP_SET, "set", &txn);
	if (r < 0)
		return r;
	r = fault_point("image_set.intent") ?:
		    txn_write(txn, &ref, RECORD_SET, &m);
	if (r < 0)
		return r;
	r = fault_point("image_set.marker") ?:
		    storage_record_move(d->storage, &ref, RECORD_SET, RECORD_LIVE) ?:
		    fault_point("image_set.commit");
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->tree);
	image_from_meta(model_image(d, &ref.image), &m);
	pthread_rwlock_unlock(&d->tree);
	return txn_commit(&txn);
}
