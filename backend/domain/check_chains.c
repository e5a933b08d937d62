/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check: what objects have to do with each other. Parents and children,
 * cycles, what a layer's header says of its parent, and what is in two
 * places. */
#include <fcntl.h>
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/check.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"

bool object_is_member(const struct object *o)
{
	unsigned int gone = 1u << RECORD_REMOVED | 1u << RECORD_DYING;
	enum record dir = o->entry.ref.dir;

	return ref_is_volume(&o->entry.ref) &&
	       (dir == RECORD_LIVE || dir == RECORD_REMOVED) &&
	       (o->entry.records & 1u << RECORD_LIVE) &&
	       !(o->entry.records & gone);
}

static const char *name_of(const struct object *o)
{
	return ref_name(&o->entry.ref);
}

/* ---- in two places ---- */

static struct object *twin_of(struct check *c, const struct object *o)
{
	uint64_t key = uuid_hash(&o->entry.ref.volume);
	struct object *other;
	size_t cursor = 0;

	while ((other = map_find(&c->by_uuid, key, &cursor)))
		if (other != o &&
		    uuid_eq(&other->entry.ref.volume, &o->entry.ref.volume))
			return other;
	return NULL;
}

static int image_cmp(const void *a, const void *b)
{
	const struct object *const *x = a, *const *y = b;

	return uuid_cmp(&(*x)->entry.ref.image, &(*y)->entry.ref.image);
}

static const char *dir_word(const struct object *image)
{
	switch (image->entry.ref.dir) {
	case RECORD_NEW:
		return "being created";
	case RECORD_REMOVED:
		return "removed";
	case RECORD_DYING:
		return "being deleted";
	default:
		return "live";
	}
}

static void check_twin_images(struct check *c)
{
	auto_free struct object **images =
		xcalloc(c->n_objects + 1, sizeof(*images));
	size_t i, n = 0;

	for (i = 0; i < c->n_objects; i++)
		if (!ref_is_volume(&c->objects[i].entry.ref))
			images[n++] = &c->objects[i];
	qsort(images, n, sizeof(struct object *), image_cmp);
	for (i = 1; i < n; i++)
		if (image_cmp(&images[i - 1], &images[i]) == 0)
			check_found(c, name_of(images[i]), false, 0,
				    "in two states at once: %s and %s",
				    dir_word(images[i - 1]),
				    dir_word(images[i]));
}

void check_twins(struct check *c)
{
	size_t i;

	check_twin_images(c);
	for (i = 0; i < c->n_objects; i++) {
		struct object *o = &c->objects[i], *other;

		if (!ref_is_volume(&o->entry.ref))
			continue;
		other = twin_of(c, o);
		/* Under the same image twice: told of the image already. */
		if (other &&
		    !uuid_eq(&other->entry.ref.image, &o->entry.ref.image))
			check_found(c, name_of(o), false, 0,
				    "its UUID is in two images: %s too",
				    name_of(other));
	}
}

/* ---- parents ---- */

static struct object *find_member(struct check *c, const struct uuid *volume,
				  const struct object *image)
{
	uint64_t key = uuid_hash(volume);
	struct object *o;
	size_t cursor = 0;

	while ((o = map_find(&c->by_uuid, key, &cursor)))
		if (uuid_eq(&o->entry.ref.volume, volume) &&
		    object_is_member(o) && (!image || o->image == image))
			return o;
	return NULL;
}

static void check_parent(struct check *c, struct object *o)
{
	struct object *elsewhere;
	char id[UUID_TEXT];

	uuid_format(&o->meta.parent, id);
	if (o->meta.format != FORMAT_QCOW2)
		check_found(c, name_of(o), false, 0,
			    "it has a parent, but its format is %s",
			    format_word(o->meta.format));
	o->parent = find_member(c, &o->meta.parent, o->image);
	if (o->parent) {
		o->parent->children++;
		return;
	}
	elsewhere = find_member(c, &o->meta.parent, NULL);
	if (elsewhere)
		check_found(c, name_of(o), false, 0,
			    "its parent is in another image: %s",
			    name_of(elsewhere));
	else
		check_found(c, name_of(o), false, 0, "its parent %s is missing",
			    id);
}

/* Walk up until a base, or until what another walk has seen; what this walk
 * itself has seen closes a circle. */
static void check_cycle(struct check *c, struct object *from)
{
	struct object *o;

	for (o = from; o && !o->walked; o = o->parent)
		o->walked = o->tailed = true;
	if (o && o->tailed)
		check_found(c, name_of(o), false, 0,
			    "its chain bites its own tail");
	for (o = from; o && o->tailed; o = o->parent)
		o->tailed = false;
}

/* ---- what the header says ---- */

static bool is_zero(const uint8_t *p, size_t len)
{
	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

static int read_backing(int fd, const struct qcow2_backing *b, char *name)
{
	int r = pread_full(fd, name, b->len, b->offset);

	name[r < 0 ? 0 : b->len] = '\0';
	return r;
}

/* The layer was made over a file of its parent's name. */
static void check_backing(struct check *c, const struct object *o, int fd,
			  const uint8_t *header)
{
	char name[QCOW2_BACKING_MAX + 1], id[UUID_TEXT];
	struct qcow2_backing b = { 0 };
	int r = qcow2_parse_backing(header, QCOW2_HEADER, &b);

	if (r == 0 && b.len)
		r = read_backing(fd, &b, name);
	uuid_format(&o->meta.parent, id);
	if (r < 0)
		check_found(c, name_of(o), false, 0, "its qcow2 header: %s",
			    err_text(r));
	else if (!b.len)
		check_found(c, name_of(o), false, 0,
			    "its qcow2 header names no backing file, but it "
			    "has a parent");
	else if (!streq(name, id))
		check_found(c, name_of(o), false, 0,
			    "its parent is %s, but its qcow2 header names %s",
			    id, name);
}

/* A volume whose format was set and that has no header yet reads as zeros. */
static void check_qcow2(struct check *c, const struct object *o)
{
	bool layer = !uuid_is_nil(&o->meta.parent);
	uint8_t header[QCOW2_HEADER] = { 0 };
	auto_close int fd = -1;
	uint64_t size;
	int r;

	if (!o->entry.has_data || o->entry.odd ||
	    (o->entry.bytes.size == 0 && !layer))
		return;
	r = storage_data_open(c->storage, &o->entry.ref, O_RDONLY, &fd);
	if (r == 0 && o->entry.bytes.size >= QCOW2_HEADER)
		r = pread_full(fd, header, sizeof(header), 0);
	if (r < 0) {
		check_found(c, name_of(o), false, 0, "its bytes: %s",
			    err_text(r));
		return;
	}
	if (!layer && is_zero(header, sizeof(header)))
		return;
	if (qcow2_parse_size(header, sizeof(header), &size) < 0)
		check_found(c, name_of(o), false, 0,
			    "its format is qcow2, but it has no qcow2 header");
	else if (layer)
		check_backing(c, o, fd, header);
}

void check_chains(struct check *c)
{
	size_t i;

	for (i = 0; i < c->n_objects; i++) {
		struct object *o = &c->objects[i];

		if (!object_is_member(o) || !o->readable)
			continue;
		if (!uuid_is_nil(&o->meta.parent))
			check_parent(c, o);
		if (o->meta.format == FORMAT_QCOW2)
			check_qcow2(c, o);
	}
	for (i = 0; i < c->n_objects; i++) {
		struct object *o = &c->objects[i];

		check_cycle(c, o);
		if (o->children > 1)
			check_found(c, name_of(o), false, 0,
				    "%u volumes are layered over it",
				    o->children);
	}
}
