/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The door to the backends: one function per slot, which finds the backend,
 * refuses what it cannot do, and passes the fault point of the slot. */
#include <string.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/storage.h"

#include "file/file.h"

static const struct storage_ops *const backends[] = { &storage_file_ops };

/* Leave with -EOPNOTSUPP where the backend has no such slot, and with a
 * fault's error where one is armed. */
#define DOOR(s, slot)                                                          \
	do {                                                                   \
		int r_ = (s)->ops->slot ? fault_point("storage." #slot) :      \
					  no_slot((s)->ops->name, #slot);      \
		if (r_ < 0)                                                    \
			return r_;                                             \
	} while (0)

static int no_slot(const char *backend, const char *slot)
{
	return err_new(-EOPNOTSUPP, "a %s domain has no %s", backend, slot);
}

const char *ref_name(const struct ref *ref)
{
	static __thread char names[4][2 * UUID_TEXT];
	static __thread unsigned int next;
	char *out = names[next++ % 4];

	uuid_format(&ref->image, out);
	if (ref_is_volume(ref)) {
		out[UUID_TEXT - 1] = '/';
		uuid_format(&ref->volume, out + UUID_TEXT);
	}
	return out;
}

int storage_find(const char *source, const struct storage_ops **ret_ops)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(backends); i++) {
		if (!backends[i]->probe(source))
			continue;
		*ret_ops = backends[i];
		return 0;
	}
	return err_new(-EINVAL,
		       "%s: neither a directory nor anything else "
		       "that can hold a domain",
		       source);
}

int storage_format(const char *source, bool force)
{
	const struct storage_ops *ops = NULL;
	int r = storage_find(source, &ops);

	return r < 0 ? r : ops->format(source, force);
}

int storage_open(const char *source, bool read_only,
		 struct storage **ret_storage)
{
	const struct storage_ops *ops = NULL;
	int r = storage_find(source, &ops);

	return r < 0 ? r : ops->open(source, read_only, ret_storage);
}

void storage_close(struct storage *s)
{
	if (s)
		s->ops->close(s);
}

int storage_place(struct storage *s, enum storage_place p, char *ret_path,
		  uint64_t *ret_offset)
{
	return s->ops->place(s, p, ret_path, ret_offset);
}

int storage_space(struct storage *s, uint64_t *ret_total, uint64_t *ret_free)
{
	DOOR(s, space);
	return s->ops->space(s, ret_total, ret_free);
}

int storage_scan(struct storage *s, const struct storage_visitor *v)
{
	DOOR(s, scan);
	return s->ops->scan(s, v);
}

int storage_scan_image(struct storage *s, const struct ref *image,
		       const struct storage_visitor *v)
{
	DOOR(s, scan_image);
	return s->ops->scan_image(s, image, v);
}

int storage_area_read(struct storage *s, enum storage_area a, uint64_t offset,
		      void *buf, size_t len)
{
	DOOR(s, area_read);
	return s->ops->area_read(s, a, offset, buf, len);
}

int storage_area_write(struct storage *s, enum storage_area a, uint64_t offset,
		       const void *buf, size_t len)
{
	DOOR(s, area_write);
	return s->ops->area_write(s, a, offset, buf, len);
}

int storage_record_read(struct storage *s, const struct ref *ref,
			enum record state, char **ret_text, size_t *ret_len)
{
	DOOR(s, record_read);
	return s->ops->record_read(s, ref, state, ret_text, ret_len);
}

int storage_record_write(struct storage *s, const struct ref *ref,
			 enum record state, const char *text, size_t len)
{
	DOOR(s, record_write);
	return s->ops->record_write(s, ref, state, text, len);
}

int storage_record_move(struct storage *s, const struct ref *ref,
			enum record from, enum record to)
{
	DOOR(s, record_move);
	return s->ops->record_move(s, ref, from, to);
}

int storage_record_drop(struct storage *s, const struct ref *ref,
			enum record state)
{
	DOOR(s, record_drop);
	return s->ops->record_drop(s, ref, state);
}

int storage_lease_create(struct storage *s, const struct ref *vol)
{
	DOOR(s, lease_create);
	return s->ops->lease_create(s, vol);
}

int storage_lease_place(struct storage *s, const struct ref *vol,
			char *ret_path, uint64_t *ret_offset)
{
	return s->ops->lease_place(s, vol, ret_path, ret_offset);
}

int storage_lease_check(struct storage *s, const struct ref *vol)
{
	DOOR(s, lease_check);
	return s->ops->lease_check(s, vol);
}

int storage_lease_drop(struct storage *s, const struct ref *vol)
{
	DOOR(s, lease_drop);
	return s->ops->lease_drop(s, vol);
}

int storage_data_create(struct storage *s, const struct ref *vol)
{
	DOOR(s, data_create);
	return s->ops->data_create(s, vol);
}

int storage_data_open(struct storage *s, const struct ref *vol, int flags,
		      int *ret_fd)
{
	DOOR(s, data_open);
	return s->ops->data_open(s, vol, flags, ret_fd);
}

int storage_data_stat(struct storage *s, const struct ref *vol,
		      struct storage_bytes *ret_bytes)
{
	DOOR(s, data_stat);
	return s->ops->data_stat(s, vol, ret_bytes);
}

int storage_data_resize(struct storage *s, const struct ref *vol, uint64_t size)
{
	DOOR(s, data_resize);
	return s->ops->data_resize(s, vol, size);
}

int storage_data_reserve(struct storage *s, const struct ref *vol,
			 uint64_t size)
{
	DOOR(s, data_reserve);
	return s->ops->data_reserve(s, vol, size);
}

int storage_data_is_written(struct storage *s, const struct ref *vol,
			    bool *ret_written)
{
	DOOR(s, data_is_written);
	return s->ops->data_is_written(s, vol, ret_written);
}

int storage_data_sync(struct storage *s, const struct ref *vol)
{
	DOOR(s, data_sync);
	return s->ops->data_sync(s, vol);
}

int storage_data_drop(struct storage *s, const struct ref *vol)
{
	DOOR(s, data_drop);
	return s->ops->data_drop(s, vol);
}

int storage_sync_image(struct storage *s, const struct ref *image)
{
	DOOR(s, sync_image);
	return s->ops->sync_image(s, image);
}
