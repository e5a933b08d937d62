/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Attributes: what there are, how they read, and which verb sets them.
 * One table for each kind of object; ovstorfs-xattr(7). */
#include <stdlib.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/set.h"

/* Append the value; false: has none. Caller holds d->tree. */
typedef bool attr_reader(struct domain *d, const struct image *img,
			 const struct volume *v, struct strbuf *out);
typedef int attr_setter(struct domain *d, const struct caller *by,
			const struct ref *ref, const char *key,
			const char *value);

struct attr {
	const char *key;
	attr_reader *read;
	attr_setter *set; /* NULL: read-only */
};

static bool put(struct strbuf *out, const char *text)
{
	if (text)
		strbuf_puts(out, text);
	return text != NULL;
}

static bool put_u64(struct strbuf *out, uint64_t v)
{
	strbuf_printf(out, "%llu", (unsigned long long)v);
	return true;
}

static bool put_uuid(struct strbuf *out, const struct uuid *u)
{
	char text[UUID_TEXT];

	return !uuid_is_nil(u) && put(out, uuid_format(u, text));
}

static bool put_time(struct strbuf *out, time_t t)
{
	char text[24];

	return put(out, format_time(t, text));
}

#define READER(name)                                                           \
	static bool name(struct domain *d __attribute__((unused)),             \
			 const struct image *img __attribute__((unused)),      \
			 const struct volume *v __attribute__((unused)),       \
			 struct strbuf *out)

/* ---- the domain ---- */

READER(root_uuid)
{
	return put_uuid(out, &d->meta.uuid);
}

READER(root_name)
{
	return put(out, d->meta.name);
}

READER(root_format)
{
	return put_u64(out, META_VERSION);
}

READER(root_backend)
{
	return put(out, d->storage->ops->name);
}

READER(root_host_id)
{
	struct lease_member m;

	lease_member(d->door, &m);
	return m.host_id && put_u64(out, m.host_id);
}

READER(root_warn_free)
{
	return put(out, d->meta.warn_free);
}

READER(root_critical_free)
{
	return put(out, d->meta.critical_free);
}

READER(root_description)
{
	return put(out, d->meta.description);
}

READER(root_error)
{
	return put(out, d->error);
}

static const struct attr root_attrs[] = {
	{ "uuid", root_uuid, NULL },
	{ "name", root_name, NULL },
	{ "format", root_format, NULL },
	{ "backend", root_backend, NULL },
	{ "host_id", root_host_id, NULL },
	{ "warn_free", root_warn_free, domain_set },
	{ "critical_free", root_critical_free, domain_set },
	{ "description", root_description, domain_set },
	{ "error", root_error, NULL },
};

/* ---- images ---- */

READER(image_description)
{
	return put(out, img->description);
}

READER(image_leaf)
{
	size_t i, n = 0;
	char text[UUID_TEXT];

	for (i = 0; i < img->n_volumes; i++) {
		if (img->volumes[i]->children)
			continue;
		strbuf_printf(out, "%s%s", n++ ? " " : "",
			      uuid_format(&img->volumes[i]->id, text));
	}
	return n > 0;
}

READER(image_created)
{
	return put_time(out, img->created);
}

READER(image_error)
{
	return put(out, img->error);
}

static const struct attr image_attrs[] = {
	{ "description", image_description, image_set },
	{ "leaf", image_leaf, NULL },
	{ "created", image_created, NULL },
	{ "error", image_error, NULL },
};

/* ---- volumes ---- */

READER(volume_format)
{
	return put(out, format_word(v->format));
}

READER(volume_allocation)
{
	return put(out, allocation_word(v->allocation));
}

READER(volume_parent)
{
	return put_uuid(out, &v->parent_id);
}

READER(volume_type_word)
{
	static const char *const words[] = { "base", "internal", "leaf",
					     "shared" };

	return put(out, words[volume_type(v)]);
}

READER(volume_legality)
{
	return put(out, legality_word(v->legality));
}

READER(volume_capacity)
{
	struct storage_bytes b;

	volume_bytes_now(d, v, &b);
	return put_u64(out, v->format == FORMAT_QCOW2 ? v->capacity : b.size);
}

READER(volume_allocated)
{
	struct storage_bytes b;

	volume_bytes_now(d, v, &b);
	return put_u64(out, b.allocated);
}

READER(volume_generation)
{
	return put_u64(out, v->data_generation);
}

READER(volume_description)
{
	return put(out, v->description);
}

READER(volume_created)
{
	return put_time(out, v->created);
}

READER(volume_wipe)
{
	return put(out, wipe_word(v->wipe));
}

READER(volume_lease)
{
	struct ref ref = volume_ref(v);
	char path[PATH_MAX], key[UUID_TEXT];
	uint64_t offset = 0;

	if (storage_lease_place(d->storage, &ref, path, &offset) < 0)
		return false;
	strbuf_printf(out, "lockspace=%s,key=%s,path=%s,offset=%llu",
		      d->space.name, uuid_format(&v->id, key), path,
		      (unsigned long long)offset);
	return true;
}

/* What this host knows without asking: its own. */
READER(volume_holders)
{
	struct lease_member m;
	bool shared = false, held;

	lease_member(d->door, &m);
	pthread_mutex_lock(&d->uses_lock);
	held = v->use && v->use->held;
	if (held)
		shared = v->use->mode == LEASE_SHARED;
	pthread_mutex_unlock(&d->uses_lock);
	if (held)
		strbuf_printf(out, "%u%s", m.host_id, shared ? " shared" : "");
	return held;
}

READER(volume_error)
{
	return put(out, v->error);
}

static const struct attr volume_attrs[] = {
	{ "format", volume_format, volume_set },
	{ "allocation", volume_allocation, volume_set },
	{ "parent", volume_parent, volume_set_parent },
	{ "type", volume_type_word, NULL },
	{ "legality", volume_legality, volume_set },
	{ "capacity", volume_capacity, NULL },
	{ "allocated", volume_allocated, NULL },
	{ "generation", volume_generation, NULL },
	{ "description", volume_description, volume_set },
	{ "created", volume_created, NULL },
	{ "wipe", volume_wipe, volume_set },
	{ "lease", volume_lease, NULL },
	{ "holders", volume_holders, NULL },
	{ "error", volume_error, NULL },
};

/* ---- all ---- */

static const struct attr *table_of(const struct ref *ref, size_t *ret_n)
{
	if (!ref) {
		*ret_n = ARRAY_SIZE(root_attrs);
		return root_attrs;
	}
	if (!ref_is_volume(ref)) {
		*ret_n = ARRAY_SIZE(image_attrs);
		return image_attrs;
	}
	*ret_n = ARRAY_SIZE(volume_attrs);
	return volume_attrs;
}

static const struct attr *attr_find(const struct ref *ref, const char *key)
{
	size_t i, n;
	const struct attr *t = table_of(ref, &n);

	for (i = 0; i < n; i++)
		if (streq(t[i].key, key))
			return &t[i];
	return NULL;
}

/* The object; both stay NULL for the domain. Caller holds d->tree. */
static int object_find(struct domain *d, const struct ref *ref,
		       struct image **ret_image, struct volume **ret_volume)
{
	*ret_image = NULL;
	*ret_volume = NULL;
	if (!ref)
		return 0;
	if (ref_is_volume(ref))
		*ret_volume = model_volume(d, &ref->volume);
	else
		*ret_image = model_image(d, &ref->image);
	if (*ret_volume && !(*ret_volume)->visible)
		*ret_volume = NULL;
	if (!*ret_image && !*ret_volume)
		return err_new(-ENOENT, "no such object");
	return 0;
}

int attr_get(struct domain *d, const struct ref *ref, const char *key,
	     struct strbuf *out)
{
	const struct attr *a = attr_find(ref, key);
	struct image *img;
	struct volume *v;
	int r;

	if (!a)
		return err_new(-ENODATA, "there is no attribute %s", key);
	pthread_rwlock_rdlock(&d->tree);
	r = object_find(d, ref, &img, &v);
	if (r == 0 && !a->read(d, img, v, out))
		r = err_new(-ENODATA, "%s has no value", key);
	pthread_rwlock_unlock(&d->tree);
	return r;
}

void attr_list(struct domain *d, const struct ref *ref, struct strbuf *out)
{
	size_t i, n;
	const struct attr *t = table_of(ref, &n);
	struct image *img;
	struct volume *v;

	pthread_rwlock_rdlock(&d->tree);
	if (object_find(d, ref, &img, &v) < 0)
		n = 0;
	for (i = 0; i < n; i++) {
		auto_strbuf struct strbuf value = { 0 };

		if (!t[i].read(d, img, v, &value))
			continue;
		strbuf_add(out, t[i].key, strlen(t[i].key) + 1);
	}
	pthread_rwlock_unlock(&d->tree);
}

void attr_note_error(struct domain *d, const struct ref *ref, const char *text)
{
	struct image *img;
	struct volume *v;
	char **at = &d->error;

	pthread_rwlock_wrlock(&d->tree);
	if (object_find(d, ref, &img, &v) == 0) {
		if (ref)
			at = v ? &v->error : &img->error;
		free(*at);
		*at = text ? xstrdup(text) : NULL;
	}
	pthread_rwlock_unlock(&d->tree);
}

int attr_set(struct domain *d, const struct caller *by, const struct ref *ref,
	     const char *key, const char *value, size_t len)
{
	const struct attr *a = attr_find(ref, key);
	auto_free char *text = NULL;

	if (!a)
		return err_new(-EOPNOTSUPP, "there is no attribute %s here",
			       key);
	if (!a->set)
		return err_new(-EPERM, "%s is read-only", key);
	if (len > OVSTORFS_VALUE_MAX)
		return err_new(-EINVAL, "%s: longer than %d bytes", key,
			       OVSTORFS_VALUE_MAX);
	if (!text_is_plain(value, len))
		return err_new(-EINVAL, "%s: not plain text in UTF-8", key);
	text = xstrndup(value, len);
	return a->set(d, by, ref, key, text);
}
