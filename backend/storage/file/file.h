/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The file backend's inside: a domain in a directory. */
#ifndef OVSTORFS_STORAGE_FILE_H
#define OVSTORFS_STORAGE_FILE_H

#include <limits.h>
#include <sys/stat.h>

#include "ovstorfs/storage.h"

struct storage_file {
	struct storage storage; /* first */
	char source[PATH_MAX];	/* absolute */
	int root;		/* the directory */
	int areas[AREA_COUNT];
	bool read_only;
	gid_t lease_gid; /* sanlock's group may open leases; -1: none */
};

extern const struct storage_ops storage_file_ops;

/* ---- layout.c: names ---- */

#define NAME_ROOM 192 /* longest path below the source */

enum file_part { PART_RECORD, PART_DATA, PART_LEASE };

/* "images/I", "images/I.new", ... as ref->dir says. */
void layout_image_dir(const struct ref *ref, enum record dir, char *out);

/* The path of a record, of the bytes, or of the lease. */
void layout_path(const struct ref *ref, enum file_part part, enum record state,
		 char *out);

const char *layout_area_name(enum storage_area a);
uint64_t layout_area_size(enum storage_area a);

/* What a name in images/ stands for. Errors: -EINVAL none of ours. */
int layout_parse_image(const char *name, struct ref *ret_ref);

/* What a name in an image's directory stands for: *ret_volume stays nil for
 * the image's own records. Errors: -EINVAL none of ours. */
int layout_parse_volume(const char *name, struct uuid *ret_volume,
			enum file_part *ret_part, enum record *ret_state);

/* ---- writers.c ---- */

/* Does a process of this machine have the file behind fd (read-only, the only
 * descriptor of ours) open or mapped for writing? */
int writers_probe(int fd, bool *ret_written);

/* ---- scan.c ---- */

int file_scan(struct storage *s, const struct storage_visitor *v);
int file_scan_image(struct storage *s, const struct ref *image,
		    const struct storage_visitor *v);
void file_bytes_of(const struct stat *st, struct storage_bytes *ret_bytes);

#endif
