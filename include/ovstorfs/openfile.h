/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Open files: what a handle (fi->fh) stands for. */
#ifndef OVSTORFS_OPENFILE_H
#define OVSTORFS_OPENFILE_H

#include <stdint.h>

#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

struct fuse_file_info;
struct fuse_req;

enum openfile_kind { OPEN_VOLUME, OPEN_TEXT, OPEN_EVENTS };

struct openfile {
	enum openfile_kind kind;
	uint64_t ino;
	struct volume_open *volume; /* OPEN_VOLUME */
	struct strbuf text;	    /* OPEN_TEXT */
	uint64_t next_event;	    /* OPEN_EVENTS */
};

static inline struct openfile *openfile_of(uint64_t fh)
{
	return (struct openfile *)(uintptr_t)fh;
}

/* Open a volume for a request and fill fi: passthrough where it is to be had,
 * direct I/O else; one way for all who have the node open. */
int openfile_volume(struct server *s, struct fuse_req *req,
		    const struct caller *by, const struct node *n, bool write,
		    struct fuse_file_info *fi);
void openfile_close(struct server *s, struct openfile *f);

#endif
