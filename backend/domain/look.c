/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Looking: answered from memory. */
#include <fcntl.h>
#include <sys/stat.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/model.h"

static bool is_listed(const struct image *img)
{
	return img->ref.dir == RECORD_LIVE ||
	       (img->ref.dir == RECORD_REMOVED && img->retention);
}

static void image_tell(const struct image *img, struct image_info *i)
{
	*i = (struct image_info){
		.ref = img->ref,
		.number = img->number,
		.generation = img->number,
		.created = img->created,
		.changed = img->written,
		.trashed = img->ref.dir == RECORD_REMOVED,
		.deleted = img->removed,
		.expires = img->removed + (time_t)img->retention,
	};
}

/* While it is open the file itself knows best, and tells without asking the
 * server of a network file system. */
bool volume_bytes_now(struct domain *d, const struct volume *v,
		      struct storage_bytes *ret_bytes)
{
	auto_unlock(guard, &d->uses_lock);
	struct statx sx;

	*ret_bytes = v->bytes;
	if (!v->use || v->use->fd < 0)
		return false;
	if (statx(v->use->fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC,
		  STATX_SIZE | STATX_BLOCKS | STATX_MTIME, &sx) < 0)
		return true;
	ret_bytes->size = sx.stx_size;
	ret_bytes->allocated = sx.stx_blocks * 512;
	ret_bytes->mtime.tv_sec = sx.stx_mtime.tv_sec;
	ret_bytes->mtime.tv_nsec = sx.stx_mtime.tv_nsec;
	return true;
}

static void volume_tell(struct domain *d, const struct volume *v,
			struct volume_info *i)
{
	*i = (struct volume_info){
		.ref = volume_ref(v),
		.cookie = volume_cookie(v),
		.generation = v->number,
		.type = volume_type(v),
		.damaged = v->damaged,
		.illegal = v->legality == LEGALITY_ILLEGAL,
		.created = v->created,
		.bytes = v->bytes,
	};
	i->open = volume_bytes_now(d, v, &i->bytes);
}

static struct image *live_image(struct domain *d, const struct uuid *id)
{
	struct image *img = model_image(d, id);

	return img && is_listed(img) ? img : NULL;
}

int image_by_hash(struct domain *d, uint64_t hash, struct image_info *ret_info)
{
	struct image *img;
	size_t cursor = 0;
	int r = -ENOENT;

	pthread_rwlock_rdlock(&d->tree);
	while (r < 0 &&
	       (img = map_find(&d->images, hash & HASH_MASK, &cursor))) {
		if (!is_listed(img))
			continue;
		image_tell(img, ret_info);
		r = 0;
	}
	pthread_rwlock_unlock(&d->tree);
	return r;
}

int volume_by_hash(struct domain *d, uint64_t hash,
		   struct volume_info *ret_info)
{
	struct volume *v;
	size_t cursor = 0;
	int r = -ENOENT;

	pthread_rwlock_rdlock(&d->tree);
	while (r < 0 &&
	       (v = map_find(&d->volumes, hash & HASH_MASK, &cursor))) {
		if (!v->visible)
			continue;
		volume_tell(d, v, ret_info);
		r = 0;
	}
	pthread_rwlock_unlock(&d->tree);
	return r;
}

int image_stat(struct domain *d, const struct uuid *image,
	       struct image_info *ret_info)
{
	struct image *img;

	pthread_rwlock_rdlock(&d->tree);
	img = live_image(d, image);
	if (img)
		image_tell(img, ret_info);
	pthread_rwlock_unlock(&d->tree);
	return img ? 0 : err_new(-ENOENT, "no such image");
}

int volume_stat(struct domain *d, const struct uuid *image,
		const struct uuid *volume, struct volume_info *ret_info)
{
	struct volume *v;

	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, volume);
	if (v && (!v->visible || !uuid_eq(&v->image->ref.image, image)))
		v = NULL;
	if (v)
		volume_tell(d, v, ret_info);
	pthread_rwlock_unlock(&d->tree);
	return v ? 0 : err_new(-ENOENT, "no such volume");
}

/* The first index whose number is over `after`. */
static size_t image_start(struct domain *d, uint64_t after)
{
	size_t lo = 0, hi = d->n_images;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (d->by_number[mid]->number <= after)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

size_t image_list(struct domain *d, bool trashed, uint64_t after,
		  struct image_info *ret_infos, size_t max)
{
	size_t i, n = 0;

	pthread_rwlock_rdlock(&d->tree);
	for (i = after ? image_start(d, after) : 0; i < d->n_images && n < max;
	     i++) {
		const struct image *img = d->by_number[i];

		if (is_listed(img) &&
		    (img->ref.dir == RECORD_REMOVED) == trashed)
			image_tell(img, &ret_infos[n++]);
	}
	pthread_rwlock_unlock(&d->tree);
	return n;
}

static size_t volume_start(const struct image *img, uint64_t after)
{
	size_t lo = 0, hi = img->n_volumes;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (volume_cookie(img->volumes[mid]) <= after)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

size_t volume_list(struct domain *d, const struct uuid *image, uint64_t after,
		   struct volume_info *ret_infos, size_t max)
{
	struct image *img;
	size_t i, n = 0;

	pthread_rwlock_rdlock(&d->tree);
	img = live_image(d, image);
	for (i = img && after ? volume_start(img, after) : 0;
	     img && i < img->n_volumes && n < max; i++)
		volume_tell(d, img->volumes[i], &ret_infos[n++]);
	pthread_rwlock_unlock(&d->tree);
	return n;
}
