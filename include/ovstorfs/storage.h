/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Storage: the hands that hold bytes and records, one struct per backend.
 *
 * A storage keeps *objects*: images, and volumes in images. An object has
 * bytes (volumes), a lease area (volumes), and *records*: opaque text under a
 * state. Which states make an object alive is the domain floor's business;
 * here a record is written, moved from one state to another in one durable
 * atomic step, read and dropped. What a call did is durable when it returns.
 *
 * Threads: any, on different images; on one image, one at a time. All return
 * 0 or -Exxx with err_new() done. */
#ifndef OVSTORFS_STORAGE_H
#define OVSTORFS_STORAGE_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "ovstorfs/uuid.h"

/* The states of a record, and what a file domain calls them (volume V: a
 * file; image I: the directory itself, or a file in it).
 *
 *		volume			image
 *	LIVE	V.meta			I/ with I/image
 *	NEW	V.meta.new		I.new/ with image
 *	SET	V.meta.set		I/image.set
 *	UNDO	V.meta.undo		I/image.undo
 *	REMOVING V.meta.removing	I/image.removing
 *	REMOVED	V.meta.removed		I.removed/ with image.removing
 *	DYING	V.meta.dying		I.dying/
 */
enum record {
	RECORD_LIVE,
	RECORD_NEW,
	RECORD_SET,
	RECORD_UNDO,
	RECORD_REMOVING,
	RECORD_REMOVED,
	RECORD_DYING,
	RECORD_STATES
};

/* An object: an image (volume is nil) or a volume. dir: which of LIVE, NEW,
 * REMOVED, DYING the image as a whole is in. */
struct ref {
	struct uuid image;
	struct uuid volume;
	enum record dir;
};

/* "I" or "I/V" for people, in a buffer of this thread's own that the fourth
 * next call uses again. */
const char *ref_name(const struct ref *ref);
static inline bool ref_is_volume(const struct ref *ref)
{
	return !uuid_is_nil(&ref->volume);
}

enum storage_area { AREA_DOMAIN, AREA_CHANGES, AREA_MAILBOX, AREA_COUNT };

#define STORAGE_BLOCK 4096 /* unit of areas */
#define STORAGE_DOMAIN_SIZE (2 * STORAGE_BLOCK)
#define STORAGE_CHANGES_SIZE (1024 * 1024)
#define STORAGE_MAILBOX_SIZE (256 * STORAGE_BLOCK)

/* Places that the lease floor needs, as absolute paths. */
enum storage_place { PLACE_IDS, PLACE_LEASES, PLACE_LOCK };

struct storage_bytes {
	uint64_t size;
	uint64_t allocated;
	struct timespec mtime;
};

/* One object as a scan finds it. */
struct storage_entry {
	struct ref ref;
	unsigned int records; /* 1 << enum record: those that exist */
	bool has_data;
	bool has_lease;
	bool odd; /* something with its name is no regular file */
	struct storage_bytes bytes;
};

struct storage_visitor {
	/* Returns < 0 to end the scan with that code. */
	int (*entry)(void *arg, const struct storage_entry *e);
	/* A name that is none of ours; may be NULL. */
	void (*stray)(void *arg, const char *path, const char *why);
	void *arg;
};

struct storage;

struct storage_ops {
	const char *name; /* attribute "backend" */
	/* Is source one of ours to open? */
	bool (*probe)(const char *source);
	int (*format)(const char *source, bool force);
	int (*open)(const char *source, bool read_only,
		    struct storage **ret_storage);
	void (*close)(struct storage *s);
	int (*place)(struct storage *s, enum storage_place p, char *ret_path,
		     uint64_t *ret_offset);
	int (*space)(struct storage *s, uint64_t *ret_total,
		     uint64_t *ret_free);
	int (*scan)(struct storage *s, const struct storage_visitor *v);
	int (*scan_image)(struct storage *s, const struct ref *image,
			  const struct storage_visitor *v);
	int (*area_read)(struct storage *s, enum storage_area a,
			 uint64_t offset, void *buf, size_t len);
	int (*area_write)(struct storage *s, enum storage_area a,
			  uint64_t offset, const void *buf, size_t len);
	int (*record_read)(struct storage *s, const struct ref *ref,
			   enum record state, char **ret_text, size_t *ret_len);
	int (*record_write)(struct storage *s, const struct ref *ref,
			    enum record state, const char *text, size_t len);
	int (*record_move)(struct storage *s, const struct ref *ref,
			   enum record from, enum record to);
	int (*record_drop)(struct storage *s, const struct ref *ref,
			   enum record state);
	int (*lease_create)(struct storage *s, const struct ref *vol);
	int (*lease_place)(struct storage *s, const struct ref *vol,
			   char *ret_path, uint64_t *ret_offset);
	int (*lease_check)(struct storage *s, const struct ref *vol);
	int (*lease_drop)(struct storage *s, const struct ref *vol);
	int (*data_create)(struct storage *s, const struct ref *vol);
	int (*data_open)(struct storage *s, const struct ref *vol, int flags,
			 int *ret_fd);
	int (*data_stat)(struct storage *s, const struct ref *vol,
			 struct storage_bytes *ret_bytes);
	int (*data_resize)(struct storage *s, const struct ref *vol,
			   uint64_t size);
	int (*data_reserve)(struct storage *s, const struct ref *vol,
			    uint64_t size);
	int (*data_is_written)(struct storage *s, const struct ref *vol,
			       bool *ret_written);
	int (*data_sync)(struct storage *s, const struct ref *vol);
	int (*data_drop)(struct storage *s, const struct ref *vol);
	int (*sync_image)(struct storage *s, const struct ref *image);
};

/* A backend's struct begins with this one. */
struct storage {
	const struct storage_ops *ops;
};

/* Find the backend of source. Errors: -EINVAL none knows it. */
int storage_find(const char *source, const struct storage_ops **ret_ops);

/* Lay out an empty domain in source; the domain record is left to the caller
 * (area_write of AREA_DOMAIN makes it a domain). Errors: -EEXIST there is a
 * domain; -ENOTEMPTY there is something else and not force. */
int storage_format(const char *source, bool force);

/* Errors: -ENOENT no domain there; -EROFS read-only below and not read_only.
 * Owner: storage_close(). */
int storage_open(const char *source, bool read_only,
		 struct storage **ret_storage);
void storage_close(struct storage *s);

int storage_place(struct storage *s, enum storage_place p, char *ret_path,
		  uint64_t *ret_offset);
int storage_space(struct storage *s, uint64_t *ret_total, uint64_t *ret_free);

/* Visit all objects, images before their volumes, in no other order; those of
 * one image only. A visitor may change the image that it is told of. */
int storage_scan(struct storage *s, const struct storage_visitor *v);
int storage_scan_image(struct storage *s, const struct ref *image,
		       const struct storage_visitor *v);

/* Whole blocks of an area; past all caches, durable when it returns. buf is
 * aligned to a block. */
int storage_area_read(struct storage *s, enum storage_area a, uint64_t offset,
		      void *buf, size_t len);
int storage_area_write(struct storage *s, enum storage_area a, uint64_t offset,
		       const void *buf, size_t len);

/* Errors: -ENOENT no such record; -EUCLEAN it is no regular file, or longer
 * than a record may be. Owner: caller frees *ret_text. */
int storage_record_read(struct storage *s, const struct ref *ref,
			enum record state, char **ret_text, size_t *ret_len);

/* Write a record under a state that is not LIVE (nor DYING, REMOVED): a marker
 * that commits nothing by itself. What an earlier try left there is replaced.
 * NEW of an image makes the image. */
int storage_record_write(struct storage *s, const struct ref *ref,
			 enum record state, const char *text, size_t len);

/* The commit: one atomic step, replacing what is in state `to`. */
int storage_record_move(struct storage *s, const struct ref *ref,
			enum record from, enum record to);

/* Missing is success. An image's DYING is dropped with all it contains, the
 * directory last. */
int storage_record_drop(struct storage *s, const struct ref *ref,
			enum record state);

/* Room for a lease; the lease floor fills it. Found there is success, so that
 * a step can run twice. Drop: missing is success. Its place is told without
 * a look at the storage. */
int storage_lease_create(struct storage *s, const struct ref *vol);
int storage_lease_place(struct storage *s, const struct ref *vol,
			char *ret_path, uint64_t *ret_offset);
/* Others open a lease by its place: is what lies there ours, and no link out
 * of the domain? Errors: -ENOENT; -EUCLEAN. */
int storage_lease_check(struct storage *s, const struct ref *vol);
int storage_lease_drop(struct storage *s, const struct ref *vol);

/* Bytes. create: new and empty, -EEXIST else. open: flags are O_RDONLY or
 * O_RDWR. resize: sets the size, durable, also trims what is reserved past it;
 * reserve: allocates [0, size), the size stays. Errors: -ENOSPC; -EUCLEAN no
 * regular file. */
int storage_data_create(struct storage *s, const struct ref *vol);
int storage_data_open(struct storage *s, const struct ref *vol, int flags,
		      int *ret_fd);
int storage_data_stat(struct storage *s, const struct ref *vol,
		      struct storage_bytes *ret_bytes);
int storage_data_resize(struct storage *s, const struct ref *vol,
			uint64_t size);
int storage_data_reserve(struct storage *s, const struct ref *vol,
			 uint64_t size);
/* Can some process of this host still write bytes through a descriptor or a
 * mapping that it has? */
int storage_data_is_written(struct storage *s, const struct ref *vol,
			    bool *ret_written);
int storage_data_sync(struct storage *s, const struct ref *vol);
int storage_data_drop(struct storage *s, const struct ref *vol);

/* Make all names of an image durable, before the commit that relies on
 * them. */
int storage_sync_image(struct storage *s, const struct ref *image);

#endif
