/* SPDX-License-Identifier: GPL-2.0-or-later */
/* From storage to memory.
 *
 * An image is read whole without any lock, and then taken over under d->tree
 * in one go, so that looking never waits for the storage. What cannot be read
 * is listed all the same, as damaged, with the reason as its error. */
#include <fcntl.h>
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/model.h"

/* One object as it was read. */
struct loaded {
	struct storage_entry entry;
	bool has_meta;
	struct meta meta;
	char *error; /* why it is damaged */
	uint64_t capacity;
	uint64_t retention; /* of an image in the trash */
	time_t removed;
};

/* An image that is being read, its own record first. */
struct reading {
	struct domain *d;
	struct loaded *items;
	size_t n, room;
};

int load_meta(struct storage *s, const struct ref *ref, enum record state,
	      enum meta_kind kind, struct meta *ret_meta)
{
	auto_free char *text = NULL;
	auto_meta struct meta m = { 0 };
	const struct uuid *id = ref_is_volume(ref) ? &ref->volume : &ref->image;
	size_t len = 0;
	int r;

	r = storage_record_read(s, ref, state, &text, &len);
	if (r < 0)
		return r;
	r = meta_parse(text, len, &m);
	if (r < 0)
		return r;
	if (m.kind != kind || !uuid_eq(&m.uuid, id) ||
	    (kind == META_VOLUME && !uuid_eq(&m.image, &ref->image)))
		return err_new(-EUCLEAN, "damaged record: another object's");
	*ret_meta = m;
	memset(&m, 0, sizeof(m));
	return 0;
}

static void note(struct loaded *l, int code)
{
	if (!l->error)
		l->error = xstrdup(err_text(code));
}

static bool is_gone(unsigned int records)
{
	return records & (1u << RECORD_REMOVED | 1u << RECORD_DYING);
}

static void read_capacity(struct domain *d, struct loaded *l)
{
	uint8_t header[QCOW2_HEADER];
	auto_close int fd = -1;

	l->capacity = l->entry.bytes.size;
	if (l->meta.format != FORMAT_QCOW2)
		return;
	l->capacity = 0;
	if (l->entry.bytes.size >= QCOW2_HEADER &&
	    storage_data_open(d->storage, &l->entry.ref, O_RDONLY, &fd) == 0 &&
	    pread_full(fd, header, sizeof(header), 0) == 0)
		(void)qcow2_parse_size(header, sizeof(header), &l->capacity);
}

/* What is damaged stays so; what cannot be read now may be read next time, so
 * a mount at work keeps what it knows. */
static int passing(struct domain *d, int r)
{
	bool lasts = r == -EUCLEAN || r == -ENOENT || r == -EPROTONOSUPPORT;

	return r < 0 && !lasts && d->live ? r : 0;
}

static int read_volume(struct domain *d, struct loaded *l)
{
	unsigned int records = l->entry.records;
	int r;

	if (!(records & 1u << RECORD_LIVE) || is_gone(records))
		return 0;
	r = load_meta(d->storage, &l->entry.ref, RECORD_LIVE, META_VOLUME,
		      &l->meta);
	l->has_meta = r == 0;
	if (r < 0)
		note(l, r);
	else if (l->entry.odd)
		note(l, err_new(-EUCLEAN, "something with its name is no "
					  "regular file"));
	else if (!l->entry.has_data)
		note(l, err_new(-EUCLEAN, "its bytes are missing"));
	else
		read_capacity(d, l);
	return passing(d, r);
}

static int read_image(struct domain *d, struct loaded *l)
{
	int r = load_meta(d->storage, &l->entry.ref, RECORD_LIVE, META_IMAGE,
			  &l->meta);

	l->has_meta = r == 0;
	/* In the trash the record of the removal counts too: it says for how
	 * long nothing may be deleted. Unreadable, it is damage, and so
	 * nothing is. */
	if (r == 0 && l->entry.ref.dir == RECORD_REMOVED) {
		auto_meta struct meta m = { 0 };

		r = load_meta(d->storage, &l->entry.ref, RECORD_REMOVED,
			      META_IMAGE, &m);
		l->retention = m.retention;
		l->removed = m.written;
	}
	if (r < 0 && (l->entry.ref.dir == RECORD_LIVE ||
		      l->entry.ref.dir == RECORD_REMOVED))
		note(l, r);
	return passing(d, r);
}

static struct loaded *reading_add(struct reading *g,
				  const struct storage_entry *e)
{
	if (g->n == g->room) {
		g->room = g->room ? 2 * g->room : 8;
		g->items = realloc(g->items, g->room * sizeof(*g->items));
		if (!g->items)
			abort();
	}
	memset(&g->items[g->n], 0, sizeof(*g->items));
	g->items[g->n].entry = *e;
	return &g->items[g->n++];
}

static void reading_clear(struct reading *g)
{
	size_t i;

	for (i = 0; i < g->n; i++) {
		meta_fini(&g->items[i].meta);
		free(g->items[i].error);
	}
	g->n = 0;
}

static void set_damaged(struct domain *d, struct volume *v, const char *why)
{
	if (v->damaged != (why != NULL))
		d->damaged += why ? 1 : (uint64_t)-1;
	v->damaged = why != NULL;
	if (!why)
		return;
	free(v->error);
	v->error = xstrdup(why);
}

static void take_bytes(struct volume *v, const struct loaded *l)
{
	v->bytes = l->entry.bytes;
	v->capacity = l->capacity;
}

static void take_volume(struct domain *d, struct image *img, struct loaded *l)
{
	const struct uuid *id = &l->entry.ref.volume;
	struct volume *v = model_volume(d, id);
	bool visible = (l->entry.records & 1u << RECORD_LIVE) &&
		       !is_gone(l->entry.records);

	if (v && v->image != img) {
		if (v->visible || !visible) {
			log_warn("volume %s: its name is in two images",
				 ref_name(&l->entry.ref));
			if (v->visible)
				set_damaged(d, v, "its UUID is in two images");
			v->seen = true;
			return;
		}
		model_volume_del(d, v);
		v = NULL;
	}
	if (!v)
		v = model_volume_add(d, id, img);
	v->seen = true;
	if (l->has_meta)
		volume_from_meta(v, &l->meta);
	take_bytes(v, l);
	set_damaged(d, v, l->error);
	model_volume_show(v, visible);
}

/* A chain must end at a base that is there. */
static void check_chains(struct domain *d, struct image *img)
{
	size_t i;

	for (i = 0; i < img->n_volumes; i++) {
		struct volume *v = img->volumes[i];

		if (v->depth > img->n_volumes)
			set_damaged(d, v, "its chain bites its own tail");
		else if (!uuid_is_nil(&v->parent_id) && !v->parent)
			set_damaged(d, v, "its parent is missing");
	}
}

static void forget_unseen(struct domain *d, struct image *img)
{
	struct volume *v, *next;

	pthread_mutex_lock(&d->uses_lock);
	for (v = LIST_FIRST(&img->all); v; v = next) {
		next = LIST_NEXT(v, in_image);
		if (!v->seen && !v->use)
			model_volume_del(d, v);
	}
	pthread_mutex_unlock(&d->uses_lock);
}

static void take_image_record(struct domain *d, struct image *img,
			      struct loaded *l)
{
	enum record before = img->ref.dir;

	img->seen = true;
	img->ref.dir = l->entry.ref.dir;
	if (img->damaged != (l->error != NULL))
		d->damaged += l->error ? 1 : (uint64_t)-1;
	img->damaged = l->error != NULL;
	if (l->error) {
		free(img->error);
		img->error = xstrdup(l->error);
	}
	if (l->has_meta)
		image_from_meta(img, &l->meta);
	if (img->ref.dir == RECORD_REMOVED &&
	    (before != RECORD_REMOVED || !img->first_seen))
		img->first_seen = now_ms();
}

static unsigned int precedence(enum record dir)
{
	static const unsigned int p[RECORD_STATES] = {
		[RECORD_LIVE] = 4,
		[RECORD_REMOVED] = 3,
		[RECORD_NEW] = 2,
		[RECORD_DYING] = 1,
	};

	return p[dir];
}

/* Renumbering moves an image in the order: take it out and put it back. */
static struct image *find_or_add(struct domain *d, const struct loaded *l)
{
	struct image *img = model_image(d, &l->entry.ref.image);

	if (!img)
		img = model_image_add(d, &l->entry.ref);
	if (l->has_meta && img->number != l->meta.number)
		model_image_renumber(d, img, l->meta.number);
	return img;
}

static void take_over(struct reading *g)
{
	struct domain *d = g->d;
	struct loaded *first = g->items;
	struct image *img;
	struct volume *v;
	size_t i;

	if (!g->n)
		return;
	pthread_rwlock_wrlock(&d->tree);
	img = model_image(d, &first->entry.ref.image);
	if (img && img->seen &&
	    precedence(img->ref.dir) > precedence(first->entry.ref.dir))
		goto out;
	img = find_or_add(d, first);
	take_image_record(d, img, first);
	img->retention = first->retention;
	img->removed = first->removed;
	LIST_FOREACH(v, &img->all, in_image)
	v->seen = false;
	for (i = 1; i < g->n; i++)
		take_volume(d, img, &g->items[i]);
	forget_unseen(d, img);
	model_image_link(d, img);
	check_chains(d, img);
out:
	pthread_rwlock_unlock(&d->tree);
	reading_clear(g);
}

static int visit(void *arg, const struct storage_entry *e)
{
	struct reading *g = arg;
	struct loaded *l;

	if (!ref_is_volume(&e->ref))
		take_over(g);
	l = reading_add(g, e);
	return ref_is_volume(&e->ref) ? read_volume(g->d, l) :
					read_image(g->d, l);
}

static void set_unseen(struct domain *d, const struct uuid *only)
{
	size_t i;

	pthread_rwlock_wrlock(&d->tree);
	for (i = 0; i < d->n_images; i++)
		if (!only || uuid_eq(only, &d->by_number[i]->ref.image))
			d->by_number[i]->seen = false;
	pthread_rwlock_unlock(&d->tree);
}

/* What the scan did not meet is gone. */
static void drop_unseen(struct domain *d, const struct uuid *only)
{
	size_t i;

	pthread_rwlock_wrlock(&d->tree);
	for (i = d->n_images; i > 0; i--) {
		struct image *img = d->by_number[i - 1];

		if (!img->seen && (!only || uuid_eq(only, &img->ref.image)))
			model_image_del(d, img);
	}
	pthread_rwlock_unlock(&d->tree);
}

int load_domain(struct domain *d)
{
	struct reading g = { .d = d };
	struct storage_visitor v = { .entry = visit, .arg = &g };
	int r;

	set_unseen(d, NULL);
	r = storage_scan(d->storage, &v);
	if (r == 0)
		take_over(&g);
	reading_clear(&g);
	free(g.items);
	if (r < 0)
		return err_add(r, "load %s", d->options.source);
	drop_unseen(d, NULL);
	return 0;
}

int load_image(struct domain *d, const struct uuid *image)
{
	static const enum record dirs[] = { RECORD_DYING, RECORD_NEW,
					    RECORD_REMOVED, RECORD_LIVE };
	struct reading g = { .d = d };
	struct storage_visitor v = { .entry = visit, .arg = &g };
	struct ref ref = { .image = *image };
	size_t i;
	int r = 0;

	set_unseen(d, image);
	for (i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		ref.dir = dirs[i];
		r = storage_scan_image(d->storage, &ref, &v);
		if (r == -ENOENT)
			r = 0;
		else if (r == 0)
			take_over(&g);
		reading_clear(&g);
	}
	free(g.items);
	if (r < 0)
		return err_add(r, "read image %s", ref_name(&ref));
	drop_unseen(d, image);
	return 0;
}
