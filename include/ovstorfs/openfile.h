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

/* Counted: the open itself, and each request that is at work on it. */
struct openfile {
	atomic_uint refs;
	struct server *server;
	enum openfile_kind kind;
	uint64_t ino;
	struct volume_open *volume; /* OPEN_VOLUME */
	struct strbuf text;	    /* OPEN_TEXT */
	uint64_t next_event;	    /* OPEN_EVENTS */
};

/* At the end, when nothing is open any more. */
void access_fini(struct server *s);

/* A new one, counted once. */
struct openfile *openfile_new(struct server *s, enum openfile_kind kind,
			      uint64_t ino);

/* Hand it to the kernel. From here on another thread may have it. */
uint64_t openfile_publish(struct openfile *f);

/* What a handle stands for, counted. */
struct openfile *openfile_get(uint64_t fh);

/* The last one closes it. NULL is fine. */
void openfile_put(struct openfile *f);

/* Give up the open's own count. */
static inline void openfile_drop(uint64_t fh)
{
	struct openfile *f = openfile_get(fh);

	openfile_put(f);
	openfile_put(f);
}

static inline void openfile_putp(struct openfile **f)
{
	openfile_put(*f);
}
#define auto_openfile __attribute__((cleanup(openfile_putp)))

/* Open a volume for a request and fill fi: passthrough where it is to be had,
 * direct I/O else; one way for all who have the node open. */
int openfile_volume(struct server *s, const struct caller *by,
		    const struct node *n, bool write,
		    struct fuse_file_info *fi);

#endif
