/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records: the text that describes a domain, an image or a volume.
 *
 * Pure functions, from text to struct and back; ovstorfs-format(7) has the
 * form to the byte. What is read may have been written by an enemy. */
#ifndef OVSTORFS_META_H
#define OVSTORFS_META_H

#include <stdint.h>
#include <time.h>

#include "ovstorfs/str.h"
#include "ovstorfs/uuid.h"

#define META_VERSION 1
#define META_MAX 65536 /* bytes of a record */

enum meta_kind { META_DOMAIN, META_IMAGE, META_VOLUME };

enum volume_format { FORMAT_RAW, FORMAT_QCOW2 };
enum volume_allocation { ALLOCATION_SPARSE, ALLOCATION_PREALLOCATED };
enum volume_legality { LEGALITY_LEGAL, LEGALITY_ILLEGAL };
enum volume_wipe { WIPE_ZERO, WIPE_DISCARD, WIPE_NONE };

/* What the transaction that wrote a record did; a marker's tells the
 * collector what there is to undo. */
enum meta_op { OP_NONE, OP_CREATE, OP_SET, OP_RESIZE, OP_SNAPSHOT, OP_REMOVE };

/* Who wrote it: unique in the domain. */
struct txn_id {
	uint32_t host;
	uint64_t generation;
	uint64_t sequence;
};

struct meta {
	enum meta_kind kind;
	struct uuid uuid;
	struct txn_id txn;
	enum meta_op op;
	uint64_t number; /* of the change that created it; orders listings */
	time_t created;
	time_t written; /* of this record: the age of a marker */
	char *description;

	/* volume */
	struct uuid image;
	struct uuid parent; /* nil: none */
	enum volume_format format;
	enum volume_allocation allocation;
	enum volume_legality legality;
	enum volume_wipe wipe;
	uint64_t generation;  /* of the bytes: data operations count it up */
	uint64_t size_before; /* markers: what to cut the data back to */

	/* image */
	uint64_t retention; /* seconds in the trash; removed at once: 0 */

	/* domain */
	char *name;
	char *warn_free, *critical_free; /* bytes, or a number and "%" */
	uint64_t io_timeout;		 /* seconds, sanlock's */
	uint64_t sequence; /* of the record's two copies, the higher holds */

	char *extra; /* lines with keys that this version does not know */
};

/* Errors: -EUCLEAN damaged, err_text() says where; -EPROTONOSUPPORT of a newer
 * version. Owner: caller calls meta_fini() after success. */
int meta_parse(const char *text, size_t len, struct meta *ret_meta);
void meta_format(const struct meta *m, struct strbuf *out);
void meta_copy(const struct meta *from, struct meta *ret_meta);
void meta_fini(struct meta *m);
#define auto_meta __attribute__((cleanup(meta_fini)))

/* Words of attribute values; parse gives -EINVAL for any other. */
const char *format_word(enum volume_format v);
const char *allocation_word(enum volume_allocation v);
const char *legality_word(enum volume_legality v);
const char *wipe_word(enum volume_wipe v);
const char *op_word(enum meta_op v);
int format_parse(const char *s, enum volume_format *ret);
int allocation_parse(const char *s, enum volume_allocation *ret);
int legality_parse(const char *s, enum volume_legality *ret);
int wipe_parse(const char *s, enum volume_wipe *ret);

/* A threshold of free space: bytes or per cent of total. Errors: -EINVAL. */
int threshold_parse(const char *s, uint64_t total, uint64_t *ret_bytes);

#endif
