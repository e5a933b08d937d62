/* SPDX-License-Identifier: GPL-2.0-or-later */
/* check: images and volumes, each by itself. Records, markers, bytes, lease.
 *
 * What a marker shows is left to the collector of the next mount: there is
 * one cleaner. An image in the trash is in order. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/check.h"
#include "ovstorfs/err.h"

#define BIT(state) (1u << (state))

/* Kept this long when nothing tells any more for how long it was to be. */
#define RETENTION 86400

static const char *const state_words[RECORD_STATES] = {
	[RECORD_NEW] = "new",	      [RECORD_SET] = "set",
	[RECORD_UNDO] = "undo",	      [RECORD_REMOVING] = "removing",
	[RECORD_REMOVED] = "removed", [RECORD_DYING] = "dying",
};

/* ---- gather ---- */

static int visit(void *arg, const struct storage_entry *e)
{
	struct check *c = arg;

	if (c->n_objects == c->room_objects) {
		c->room_objects = c->room_objects ? 2 * c->room_objects : 64;
		c->objects = realloc(c->objects,
				     c->room_objects * sizeof(*c->objects));
		if (!c->objects)
			abort();
	}
	c->objects[c->n_objects++] = (struct object){ .entry = *e };
	return 0;
}

static void stray(void *arg, const char *path, const char *why)
{
	check_found(arg, path, false, 0, "%s", why);
}

/* Volumes follow their image. */
static void link_objects(struct check *c)
{
	struct object *image = NULL;
	size_t i;

	for (i = 0; i < c->n_objects; i++) {
		struct object *o = &c->objects[i];

		if (!ref_is_volume(&o->entry.ref)) {
			image = o;
			continue;
		}
		o->image = image;
		if (o->entry.ref.dir == RECORD_LIVE ||
		    o->entry.ref.dir == RECORD_REMOVED)
			map_add(&c->by_uuid, uuid_hash(&o->entry.ref.volume),
				o);
	}
}

/* ---- records ---- */

static enum meta_kind kind_of(const struct ref *ref)
{
	return ref_is_volume(ref) ? META_VOLUME : META_IMAGE;
}

static int read_record(struct check *c, struct object *o)
{
	int r = load_meta(c->storage, &o->entry.ref, RECORD_LIVE,
			  kind_of(&o->entry.ref), &o->meta);

	o->readable = r == 0;
	if (r < 0)
		return r;
	check_number(c, o->meta.number);
	check_number(c, o->meta.txn.sequence);
	return 0;
}

static int write_record(struct check *c, const struct ref *ref,
			enum record state, const struct meta *m)
{
	auto_strbuf struct strbuf text = { 0 };

	meta_format(m, &text);
	return storage_record_write(c->storage, ref, state, text.text,
				    text.len);
}

/* An image's record holds nothing that its volumes need: only the description
 * is lost. */
static bool rebuild_image(struct check *c, const struct ref *ref)
{
	struct meta m = { .kind = META_IMAGE,
			  .uuid = ref->image,
			  .created = time(NULL),
			  .written = time(NULL) };

	m.number = m.txn.sequence = ++c->highest;
	c->renumbered = true;
	return write_record(c, ref, RECORD_SET, &m) == 0 &&
	       storage_record_move(c->storage, ref, RECORD_SET, RECORD_LIVE) ==
		       0;
}

/* ---- markers ---- */

static void check_marker(struct check *c, const struct object *o,
			 enum record state)
{
	const struct ref *ref = &o->entry.ref;
	auto_meta struct meta m = { 0 };
	int r = load_meta(c->storage, ref, state, kind_of(ref), &m);

	if (r < 0) {
		check_found(c, ref_name(ref), false, 0,
			    "a marker that cannot be read (%s); the next "
			    "collection takes it",
			    state_words[state]);
		return;
	}
	check_number(c, m.txn.sequence);
	check_found(c, ref_name(ref), false, m.written,
		    "an unfinished %s of host %u (%s); the next collection "
		    "takes it",
		    op_word(m.op), m.txn.host, state_words[state]);
}

static void check_markers(struct check *c, const struct object *o,
			  unsigned int states)
{
	int state;

	for (state = 0; state < RECORD_STATES; state++)
		if (o->entry.records & states & BIT(state))
			check_marker(c, o, (enum record)state);
}

/* ---- images ---- */

/* Bring back how long an image is to stay in the trash. */
static bool rebuild_retention(struct check *c, const struct ref *ref)
{
	struct meta m = { .kind = META_IMAGE,
			  .uuid = ref->image,
			  .op = OP_REMOVE,
			  .created = time(NULL),
			  .written = time(NULL),
			  .retention = RETENTION };

	m.number = m.txn.sequence = ++c->highest;
	c->renumbered = true;
	return write_record(c, ref, RECORD_REMOVING, &m) == 0;
}

static void check_trashed(struct check *c, const struct object *o)
{
	const struct ref *ref = &o->entry.ref;
	auto_meta struct meta m = { 0 };
	int r = load_meta(c->storage, ref, RECORD_REMOVED, META_IMAGE, &m);
	bool mend = c->repair && (r == -EUCLEAN || r == -ENOENT);

	if (r < 0) {
		auto_free char *why = xstrdup(err_text(r));

		check_found(c, ref_name(ref), mend && rebuild_retention(c, ref),
			    0, "the record of its removal: %s", why);
		return;
	}
	check_number(c, m.txn.sequence);
	if (!m.retention)
		check_marker(c, o, RECORD_REMOVED);
}

static void check_image(struct check *c, struct object *o)
{
	const struct ref *ref = &o->entry.ref;
	auto_free char *why = NULL;
	int r = read_record(c, o);
	/* What a newer version wrote is sound. */
	bool mend = c->repair && (r == -EUCLEAN || r == -ENOENT);

	if (ref->dir == RECORD_NEW || ref->dir == RECORD_DYING) {
		check_marker(c, o, ref->dir);
		return;
	}
	if (r < 0)
		why = xstrdup(r == -ENOENT ? "its record is missing" :
					     err_text(r));
	if (ref->dir == RECORD_REMOVED)
		check_trashed(c, o);
	else
		check_markers(c, o,
			      BIT(RECORD_SET) | BIT(RECORD_UNDO) |
				      BIT(RECORD_REMOVING));
	/* Last: it uses up a marker's name. */
	if (why)
		check_found(c, ref_name(ref), mend && rebuild_image(c, ref), 0,
			    "%s", why);
}

/* ---- volumes ---- */

static bool mend_lease(struct check *c, const struct ref *ref,
		       struct lease_ref *lease)
{
	return storage_lease_create(c->storage, ref) == 0 &&
	       storage_lease_place(c->storage, ref, lease->path,
				   &lease->offset) == 0 &&
	       lease_area_init(&c->space, lease) == 0;
}

static void check_lease(struct check *c, const struct object *o)
{
	const struct ref *ref = &o->entry.ref;
	struct lease_ref lease = { 0 };
	auto_free char *why = NULL;
	int r;

	if (!c->space.name[0])
		return;
	uuid_format(&ref->volume, lease.name);
	r = storage_lease_place(c->storage, ref, lease.path, &lease.offset);
	if (r == 0)
		r = lease_area_check(&c->space, &lease);
	if (r == 0)
		return;
	why = xstrdup(o->entry.has_lease ? err_text(r) :
					   "its lease is missing");
	check_found(c, ref_name(ref), c->repair && mend_lease(c, ref, &lease),
		    0, "%s", why);
}

/* No record of any kind tells what this is. */
static void check_orphan(struct check *c, const struct object *o)
{
	const struct ref *ref = &o->entry.ref;
	bool mend = c->repair && !o->entry.odd;

	if (o->entry.has_data)
		check_found(c, ref_name(ref),
			    mend && o->entry.bytes.size == 0 &&
				    storage_data_drop(c->storage, ref) == 0,
			    0, "bytes without a record: %llu",
			    (unsigned long long)o->entry.bytes.size);
	if (o->entry.has_lease)
		check_found(c, ref_name(ref),
			    mend && storage_lease_drop(c->storage, ref) == 0, 0,
			    "a lease without a record");
}

static void check_member(struct check *c, struct object *o)
{
	const struct ref *ref = &o->entry.ref;
	int r = read_record(c, o);

	if (r < 0)
		check_found(c, ref_name(ref), false, 0, "%s", err_text(r));
	if (o->entry.odd) {
		check_found(c, ref_name(ref), false, 0,
			    "something with its name is no regular file");
		return;
	}
	if (!o->entry.has_data)
		check_found(c, ref_name(ref), false, 0,
			    "its bytes are missing");
	check_lease(c, o);
}

static void check_volume(struct check *c, struct object *o)
{
	enum record dir = o->entry.ref.dir;

	/* What lies in a new or dying image goes with it. */
	if (dir != RECORD_LIVE && dir != RECORD_REMOVED)
		return;
	if (!o->entry.records)
		check_orphan(c, o);
	check_markers(c, o, ~BIT(RECORD_LIVE));
	if (object_is_member(o))
		check_member(c, o);
}

int check_objects(struct check *c)
{
	struct storage_visitor v = { .entry = visit, .stray = stray, .arg = c };
	int r = storage_scan(c->storage, &v);
	size_t i;

	if (r < 0)
		return r;
	link_objects(c);
	for (i = 0; i < c->n_objects; i++) {
		struct object *o = &c->objects[i];

		if (ref_is_volume(&o->entry.ref))
			check_volume(c, o);
		else
			check_image(c, o);
	}
	return 0;
}
