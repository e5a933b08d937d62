/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Events: one JSON object a line, each reader from where it opened. */
#ifndef OVSTORFS_EVENTS_H
#define OVSTORFS_EVENTS_H

#include "ovstorfs/openfile.h"

struct fuse_pollhandle;

int events_open(struct server *s);
void events_close(struct server *s);

/* domain_options.event */
void events_add(void *server, const char *event, unsigned int host,
		const struct ref *ref, int result);

/* Where a reader that opens now begins. */
uint64_t events_next(struct server *s);

/* Answer a read at once when there is something, or when it may not wait;
 * else when something happens. */
void events_read(struct server *s, struct fuse_req *req, struct openfile *f,
		 size_t size, bool may_wait);

/* Answer a poll; ph (may be NULL, taken) is notified later. */
void events_poll(struct server *s, struct fuse_req *req, struct openfile *f,
		 struct fuse_pollhandle *ph);

#endif
