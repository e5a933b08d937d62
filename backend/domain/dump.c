/* SPDX-License-Identifier: GPL-2.0-or-later */
/* All that a domain has on storage, for people and for programs: the domain
 * record, the change ring, objects with their records, leases.
 *
 * It is gathered as one JSON object; the text is that object with line breaks
 * and indentation. What cannot be read says why, and the rest is still
 * shown. */
#include <json-c/json.h>
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/check.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"

#define LAST_ENTRIES 16

static const char *const state_words[RECORD_STATES] = {
	[RECORD_LIVE] = "live",		[RECORD_NEW] = "new",
	[RECORD_SET] = "set",		[RECORD_UNDO] = "undo",
	[RECORD_REMOVING] = "removing", [RECORD_REMOVED] = "removed",
	[RECORD_DYING] = "dying",
};

/* ---- values ---- */

/* Storage may hold what is no text; programs and terminals get text. */
static void put_text(struct json_object *o, const char *key, const char *value)
{
	auto_free char *name = make_plain(xstrdup(key));
	auto_free char *s = make_plain(xstrdup(value));

	json_object_object_add(o, name, json_object_new_string(s));
}

static void put_number(struct json_object *o, const char *key, uint64_t value)
{
	json_object_object_add(o, key, json_object_new_uint64(value));
}

static struct json_object *put_object(struct json_object *o, const char *key)
{
	struct json_object *child = json_object_new_object();

	json_object_object_add(o, key, child);
	return child;
}

static struct json_object *put_array(struct json_object *o, const char *key)
{
	struct json_object *child = json_object_new_array();

	json_object_object_add(o, key, child);
	return child;
}

static void put_error(struct json_object *o, int code)
{
	put_text(o, "error", err_text(code));
}

static struct json_object *append_object(struct json_object *array)
{
	struct json_object *child = json_object_new_object();

	json_object_array_add(array, child);
	return child;
}

/* ---- records ---- */

/* The lines of a record as they stand, with keys that we do not know. */
static void put_lines(struct json_object *o, const char *text)
{
	auto_free char *copy = xstrdup(text);
	char *save = NULL, *line = strtok_r(copy, "\n", &save);

	put_text(o, "record", line ? line : "");
	while ((line = strtok_r(NULL, "\n", &save))) {
		char *eq = strchr(line, '=');

		if (!eq)
			continue;
		*eq = '\0';
		put_text(o, line, eq + 1);
	}
}

static void put_record(struct json_object *o, struct storage *s,
		       const struct ref *ref, enum record state)
{
	auto_free char *text = NULL;
	auto_meta struct meta m = { 0 };
	size_t len = 0;
	int r = storage_record_read(s, ref, state, &text, &len);

	if (r == 0)
		r = meta_parse(text, len, &m);
	if (r < 0)
		put_error(o, r);
	else
		put_lines(o, text);
}

static void put_copy(struct json_object *array, const char *block)
{
	auto_free char *text = xstrndup(block, STORAGE_BLOCK);
	struct json_object *o = append_object(array);
	auto_meta struct meta m = { 0 };
	int r = record_copy_parse(block, &m);

	if (r < 0)
		put_error(o, r);
	else
		put_lines(o, text);
}

static int put_domain(struct json_object *root, struct storage *s)
{
	auto_free char *blocks = alloc_aligned(STORAGE_DOMAIN_SIZE);
	struct json_object *array = put_array(root, "domain");
	int i, r = storage_area_read(s, AREA_DOMAIN, 0, blocks,
				     STORAGE_DOMAIN_SIZE);

	for (i = 0; i < 2 && r == 0; i++)
		put_copy(array, blocks + i * STORAGE_BLOCK);
	return r;
}

/* ---- the change ring ---- */

struct last {
	struct change_entry entries[LAST_ENTRIES]; /* the newest first */
	size_t n;
	uint64_t damaged;
};

static void keep_last(void *arg, uint64_t at, int error,
		      const struct change_entry *e)
{
	struct last *l = arg;
	size_t i = l->n;

	(void)at;
	l->damaged += error < 0;
	if (error < 0 || !e->number)
		return;
	while (i > 0 && l->entries[i - 1].number < e->number)
		i--;
	if (i == LAST_ENTRIES)
		return;
	if (l->n < LAST_ENTRIES)
		l->n++;
	memmove(&l->entries[i + 1], &l->entries[i],
		(l->n - i - 1) * sizeof(*e));
	l->entries[i] = *e;
}

static void put_head(struct json_object *o, const char *key,
		     const struct change_head *h)
{
	struct json_object *head = put_object(o, key);

	put_number(head, "number", h->number);
	put_number(head, "host", h->txn.host);
	put_number(head, "generation", h->txn.generation);
}

static void put_entry(struct json_object *array, const struct change_entry *e)
{
	struct json_object *o = append_object(array);
	struct ref ref = { .image = e->image, .volume = e->volume };

	put_number(o, "number", e->number);
	put_number(o, "host", e->host);
	/* Nothing came of some changes. */
	put_text(o, "object", uuid_is_nil(&e->image) ? "" : ref_name(&ref));
}

static int put_ring(struct json_object *root, struct storage *s)
{
	struct json_object *ring = put_object(root, "changes"), *array;
	struct change_head intent = { 0 }, done = { 0 };
	struct last last = { .n = 0 };
	size_t i;
	int r = changes_read_heads(s, &intent, &done);

	if (r < 0)
		put_error(ring, r);
	put_head(ring, "intent", &intent);
	put_head(ring, "done", &done);
	r = changes_each(s, keep_last, &last);
	put_number(ring, "damaged_entries", last.damaged);
	array = put_array(ring, "last");
	for (i = 0; i < last.n; i++)
		put_entry(array, &last.entries[i]);
	return r;
}

/* ---- leases ---- */

static void put_lease(struct json_object *o, const char *key,
		      const struct lease_space *space,
		      const struct lease_ref *lease)
{
	int r = lease_area_check(space, lease);

	put_text(o, key, r < 0 ? err_text(r) : "ok");
}

static void put_space(struct json_object *root, const struct lease_space *space)
{
	struct json_object *o = put_object(root, "leases");
	struct lease_ref ids = { 0 }, domain = { 0 };

	put_text(o, "lockspace", space->name);
	put_lease(o, "ids", space, &ids);
	lease_ref_domain(space, &domain);
	put_lease(o, "domain", space, &domain);
}

/* ---- objects ---- */

struct dump {
	struct storage *storage;
	struct lease_space space;
	struct json_object *objects;
};

static void put_bytes(struct json_object *o, const struct storage_bytes *b)
{
	char text[UUID_TEXT];

	put_number(o, "size", b->size);
	put_number(o, "allocated", b->allocated);
	put_text(o, "modified", format_time(b->mtime.tv_sec, text));
}

static void put_volume(struct json_object *o, struct dump *d,
		       const struct storage_entry *e)
{
	struct lease_ref lease = { 0 };

	if (e->odd)
		put_text(o, "error",
			 "something with its name is no regular "
			 "file");
	if (e->has_data)
		put_bytes(o, &e->bytes);
	uuid_format(&e->ref.volume, lease.name);
	if (e->has_lease && !e->odd &&
	    storage_lease_place(d->storage, &e->ref, lease.path,
				&lease.offset) == 0)
		put_lease(o, "lease", &d->space, &lease);
}

static int visit(void *arg, const struct storage_entry *e)
{
	struct dump *d = arg;
	struct json_object *o = append_object(d->objects), *records;
	int state;

	put_text(o, "object", ref_name(&e->ref));
	if (e->ref.dir != RECORD_LIVE)
		put_text(o, "image", state_words[e->ref.dir]);
	if (ref_is_volume(&e->ref))
		put_volume(o, d, e);
	records = put_object(o, "records");
	for (state = 0; state < RECORD_STATES; state++)
		if (e->records & 1u << state)
			put_record(put_object(records, state_words[state]),
				   d->storage, &e->ref, (enum record)state);
	return 0;
}

static void stray(void *arg, const char *path, const char *why)
{
	struct dump *d = arg;
	struct json_object *o = append_object(d->objects);

	put_text(o, "object", path);
	put_text(o, "error", why);
}

/* ---- out ---- */

static void print_text(FILE *out, struct json_object *o, int depth);

static void print_member(FILE *out, const char *key, struct json_object *value,
			 int depth)
{
	switch (json_object_get_type(value)) {
	case json_type_object:
	case json_type_array:
		fprintf(out, "%*s%s:\n", 2 * depth, "", key);
		print_text(out, value, depth + 1);
		break;
	default:
		fprintf(out, "%*s%s: %s\n", 2 * depth, "", key,
			json_object_get_string(value));
	}
}

/* The items of a list are parted by a line with a dash. */
static void print_text(FILE *out, struct json_object *o, int depth)
{
	size_t i;

	if (json_object_get_type(o) == json_type_object) {
		json_object_object_foreach(o, key, value)
			print_member(out, key, value, depth);
		return;
	}
	for (i = 0; i < json_object_array_length(o); i++) {
		fprintf(out, "%*s-\n", 2 * depth, "");
		print_text(out, json_object_array_get_idx(o, i), depth + 1);
	}
}

static void print(FILE *out, struct json_object *root, bool json)
{
	if (json)
		fprintf(out, "%s\n",
			json_object_to_json_string_ext(
				root, JSON_C_TO_STRING_PRETTY |
					      JSON_C_TO_STRING_NOSLASHESCAPE));
	else
		print_text(out, root, 0);
}

int dump_domain(const char *source, bool json, FILE *out)
{
	struct dump d = { 0 };
	struct storage_visitor v = { .entry = visit,
				     .stray = stray,
				     .arg = &d };
	struct json_object *root;
	int r = storage_open(source, true, &d.storage);

	if (r < 0)
		return r;
	root = json_object_new_object();
	put_text(root, "source", source);
	put_text(root, "backend", d.storage->ops->name);
	r = put_domain(root, d.storage) ?: put_ring(root, d.storage);
	/* Without a domain record no lease has a lockspace to belong to. */
	if (r == 0 && domain_lease_space(source, true, &d.space) == 0)
		put_space(root, &d.space);
	if (r == 0) {
		d.objects = put_array(root, "objects");
		r = storage_scan(d.storage, &v);
	}
	print(out, root, json);
	json_object_put(root);
	storage_close(d.storage);
	return r;
}
