/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The tree of images and volumes in memory: find, add, remove, order.
 * Looks at nothing else and waits for nothing. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/model.h"

struct image *model_image(struct domain *d, const struct uuid *id)
{
	size_t cursor = 0;
	struct image *img;

	while ((img = map_find(&d->images, hash_of(id), &cursor)))
		if (uuid_eq(&img->ref.image, id))
			return img;
	return NULL;
}

struct volume *model_volume(struct domain *d, const struct uuid *id)
{
	size_t cursor = 0;
	struct volume *v;

	while ((v = map_find(&d->volumes, hash_of(id), &cursor)))
		if (uuid_eq(&v->id, id))
			return v;
	return NULL;
}

bool model_hash_taken(struct domain *d, const struct uuid *id)
{
	size_t a = 0, b = 0;
	struct image *img;
	struct volume *v;

	while ((img = map_find(&d->images, hash_of(id), &a)))
		if (!uuid_eq(&img->ref.image, id))
			return true;
	while ((v = map_find(&d->volumes, hash_of(id), &b)))
		if (!uuid_eq(&v->id, id))
			return true;
	return false;
}

static void *grow(void *list, size_t *room, size_t n, size_t item)
{
	if (n < *room)
		return list;
	*room = *room ? 2 * *room : 4;
	list = realloc(list, *room * item);
	if (!list)
		abort();
	return list;
}

/* ---- images ---- */

static size_t image_slot(struct domain *d, uint64_t number)
{
	size_t lo = 0, hi = d->n_images;

	while (lo < hi) {
		size_t mid = (lo + hi) / 2;

		if (d->by_number[mid]->number <= number)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo;
}

static void image_insert(struct domain *d, struct image *img)
{
	size_t at = image_slot(d, img->number);

	d->by_number = grow(d->by_number, &d->room, d->n_images,
			    sizeof(*d->by_number));
	memmove(d->by_number + at + 1, d->by_number + at,
		(d->n_images - at) * sizeof(*d->by_number));
	d->by_number[at] = img;
	d->n_images++;
}

static void image_extract(struct domain *d, struct image *img)
{
	size_t i = image_slot(d, img->number);

	while (i > 0 && d->by_number[i - 1] != img)
		i--;
	if (i == 0)
		return;
	memmove(d->by_number + i - 1, d->by_number + i,
		(d->n_images - i) * sizeof(*d->by_number));
	d->n_images--;
}

/* An object whose record cannot be read still needs a place in a listing. */
static uint64_t number_from_hash(const struct uuid *id)
{
	return 1ull << 47 | uuid_hash(id) >> 17;
}

struct image *model_image_add(struct domain *d, const struct ref *ref)
{
	struct image *img = xcalloc(1, sizeof(*img));

	img->ref.image = ref->image;
	img->ref.dir = ref->dir;
	img->number = number_from_hash(&ref->image);
	map_add(&d->images, hash_of(&ref->image), img);
	image_insert(d, img);
	return img;
}

void model_image_renumber(struct domain *d, struct image *img, uint64_t number)
{
	image_extract(d, img);
	img->number = number;
	image_insert(d, img);
}

void model_image_del(struct domain *d, struct image *img)
{
	struct volume *v;

	while ((v = LIST_FIRST(&img->all)))
		model_volume_del(d, v);
	image_extract(d, img);
	map_del(&d->images, hash_of(&img->ref.image), img);
	if (img->damaged)
		d->damaged--;
	free(img->volumes);
	free(img->description);
	free(img->extra);
	free(img->error);
	free(img);
}

void image_from_meta(struct image *img, const struct meta *m)
{
	img->txn = m->txn;
	img->created = m->created;
	img->written = m->written;
	free(img->description);
	img->description = m->description ? xstrdup(m->description) : NULL;
	free(img->extra);
	img->extra = m->extra ? xstrdup(m->extra) : NULL;
}

void image_to_meta(const struct image *img, struct meta *ret_meta)
{
	*ret_meta = (struct meta){
		.kind = META_IMAGE,
		.uuid = img->ref.image,
		.txn = img->txn,
		.number = img->number,
		.created = img->created,
		.written = img->written,
		.description = img->description ? xstrdup(img->description) :
						  NULL,
		.extra = img->extra ? xstrdup(img->extra) : NULL,
	};
}

/* ---- volumes ---- */

uint64_t volume_cookie(const struct volume *v)
{
	return (uint64_t)(0x7ffe - v->depth) << 48 |
	       (v->number & 0xffffffffffffull);
}

struct ref volume_ref(const struct volume *v)
{
	struct ref ref = v->image->ref;

	ref.volume = v->id;
	return ref;
}

enum volume_type volume_type(const struct volume *v)
{
	if (!v->children)
		return TYPE_LEAF;
	return uuid_is_nil(&v->parent_id) ? TYPE_BASE : TYPE_INTERNAL;
}

struct volume *model_volume_add(struct domain *d, const struct uuid *id,
				struct image *img)
{
	struct volume *v = xcalloc(1, sizeof(*v));

	v->id = *id;
	v->image = img;
	v->illegal_by = (uid_t)-1;
	v->number = number_from_hash(id);
	map_add(&d->volumes, hash_of(id), v);
	LIST_INSERT_HEAD(&img->all, v, in_image);
	return v;
}

void model_volume_del(struct domain *d, struct volume *v)
{
	model_volume_show(v, false);
	LIST_REMOVE(v, in_image);
	map_del(&d->volumes, hash_of(&v->id), v);
	if (v->damaged)
		d->damaged--;
	free(v->description);
	free(v->extra);
	free(v->error);
	free(v->use);
	free(v);
}

void model_volume_show(struct volume *v, bool visible)
{
	struct image *img = v->image;
	size_t i;

	if (v->visible == visible)
		return;
	v->visible = visible;
	if (visible) {
		img->volumes = grow(img->volumes, &img->room, img->n_volumes,
				    sizeof(*img->volumes));
		img->volumes[img->n_volumes++] = v;
	} else {
		for (i = 0; img->volumes[i] != v; i++)
			;
		memmove(img->volumes + i, img->volumes + i + 1,
			(--img->n_volumes - i) * sizeof(*img->volumes));
	}
}

static int by_cookie(const void *a, const void *b)
{
	uint64_t x = volume_cookie(*(struct volume *const *)a);
	uint64_t y = volume_cookie(*(struct volume *const *)b);

	return x < y ? -1 : x > y;
}

/* The depth of v; a chain that bites its tail ends at the bound. */
static unsigned int depth_of(const struct volume *v, size_t bound)
{
	unsigned int depth = 0;

	while (v->parent && depth <= bound) {
		v = v->parent;
		depth++;
	}
	return depth < 0x7ffe ? depth : 0x7ffe;
}

void model_image_link(struct domain *d, struct image *img)
{
	size_t i;

	for (i = 0; i < img->n_volumes; i++) {
		struct volume *v = img->volumes[i];

		v->children = 0;
		v->parent = uuid_is_nil(&v->parent_id) ?
				    NULL :
				    model_volume(d, &v->parent_id);
		if (v->parent &&
		    (v->parent->image != img || !v->parent->visible))
			v->parent = NULL;
	}
	for (i = 0; i < img->n_volumes; i++) {
		struct volume *v = img->volumes[i];

		v->depth = depth_of(v, img->n_volumes);
		if (v->parent)
			v->parent->children++;
	}
	if (img->n_volumes)
		qsort(img->volumes, img->n_volumes, sizeof(*img->volumes),
		      by_cookie);
}

void volume_from_meta(struct volume *v, const struct meta *m)
{
	v->parent_id = m->parent;
	v->number = m->number;
	v->data_generation = m->generation;
	v->txn = m->txn;
	v->created = m->created;
	v->written = m->written;
	v->format = m->format;
	v->allocation = m->allocation;
	v->legality = m->legality;
	v->wipe = m->wipe;
	free(v->description);
	v->description = m->description ? xstrdup(m->description) : NULL;
	free(v->extra);
	v->extra = m->extra ? xstrdup(m->extra) : NULL;
}

void volume_to_meta(const struct volume *v, struct meta *ret_meta)
{
	*ret_meta = (struct meta){
		.kind = META_VOLUME,
		.uuid = v->id,
		.image = v->image->ref.image,
		.parent = v->parent_id,
		.txn = v->txn,
		.number = v->number,
		.created = v->created,
		.written = v->written,
		.format = v->format,
		.allocation = v->allocation,
		.legality = v->legality,
		.wipe = v->wipe,
		.generation = v->data_generation,
		.description = v->description ? xstrdup(v->description) : NULL,
		.extra = v->extra ? xstrdup(v->extra) : NULL,
	};
}
