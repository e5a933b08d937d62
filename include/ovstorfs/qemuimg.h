/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img, always told the formats, never left to probe. */
#ifndef OVSTORFS_QEMUIMG_H
#define OVSTORFS_QEMUIMG_H

#include <stdint.h>

struct qemuimg_layer {
	int fd;			    /* the layer's file, read-write */
	int claim_fd;		    /* kept open while it writes; -1: none */
	const char *backing;	    /* name, relative to the layer */
	const char *backing_format; /* "raw" or "qcow2" */
	uint64_t size;		    /* bytes the guest sees */
};

/* Write an empty qcow2 layer into fd, which is replaced whole. The backing
 * file is not opened. Errors: -ENOENT no qemu-img here; -ENOSPC, -EIO it
 * failed, err_text() has what it said; -ETIMEDOUT. Threads: any. */
int qemuimg_create_layer(const struct qemuimg_layer *l);

/* Make path an empty qcow2 file of that guest-visible size; give one that is
 * there another size. Errors: as above. */
int qemuimg_create(const char *path, uint64_t size);
int qemuimg_resize(const char *path, uint64_t size);

#endif
