/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Workers: requests that may wait for a lease or the storage leave the FUSE
 * threads and are answered from a pool.
 *
 * Each has a deadline. Past it the caller is answered - EAGAIN where nothing
 * was begun, ETIMEDOUT else - and so is one that was interrupted a second ago
 * (EINTR), while the
 * work goes on to its end under its locks; its thread is counted as stuck and
 * the pool gets another one in its place. */
#ifndef OVSTORFS_WORKER_H
#define OVSTORFS_WORKER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <sys/types.h>

#include "ovstorfs/domain.h"

struct openfile;
struct server;
struct verb;
struct fuse_req;

struct verb {
	struct server *server;
	struct fuse_req *req;
	void (*run)(struct verb *v);
	const char *what; /* for the log: "mkdir" */
	struct caller by;
	uint64_t ino, ino2;
	char *name, *name2;
	char *data;
	size_t len;
	uint64_t size;
	int flags;
	struct openfile *file;
	struct stat attr;
	int to_set;

	/* worker.c's own; guarded by the watch's mutex */
	bool begun, answered, answering, late;
	uint64_t interrupted; /* when; now_ms() clock */
	uint64_t started;     /* us */
	struct pool *pool;
	STAILQ_ENTRY(verb) queued;
	TAILQ_ENTRY(verb) watched;
};

/* A verb for a request, with its caller and deadline; fields are then filled
 * in and verb_start() called, which takes it. */
struct verb *verb_new(struct server *s, struct fuse_req *req, const char *what,
		      void (*run)(struct verb *v));
void verb_start(struct verb *v, struct pool *pool);

/* May the request be answered still? To be called once, right before the
 * answer; false: it was, by the deadline or an interrupt. */
bool verb_answers(struct verb *v);

int pool_open(struct server *s, unsigned int threads, struct pool **ret_pool);
/* Waits for work that goes on, but not for stuck threads. */
void pool_close(struct pool *p);

int watch_open(struct server *s);
void watch_close(struct server *s);

#endif
