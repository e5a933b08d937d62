/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The server: one FUSE session over one domain. */
#ifndef OVSTORFS_SERVER_H
#define OVSTORFS_SERVER_H

#include <pthread.h>
#include <stdatomic.h>

#include "ovstorfs/domain.h"
#include "ovstorfs/map.h"
#include "ovstorfs/options.h"

struct fuse_session;
struct pool;
struct watch;
struct notify;
struct events;

/* Memory of the keeper's that outlives a server. */
#define SHARED_VERSION 1

struct shared {
	uint32_t version;
	int32_t keeper_pid;
	uint32_t server_restarts;
	struct fault_counts faults;
};

struct counters {
	atomic_ulong verbs, refused, timed_out, interrupted, stuck;
	atomic_ulong opens_passthrough, opens_direct, passthrough_refused;
	atomic_ulong bytes_read, bytes_written;
	atomic_ulong verb_us; /* spent in all verbs */
};

struct server {
	const struct mount_options *options;
	struct domain *domain;
	struct fuse_session *session;
	struct shared *shared;
	time_t started;
	double attr_timeout; /* seconds */
	bool passthrough;    /* kernel and library have it, and it is wanted */

	struct pool *verbs;  /* whatever may wait */
	struct pool *closes; /* RELEASE: never behind a verb */
	struct watch *watch; /* deadlines and interrupts */
	struct notify *notify;
	struct events *events;
	struct counters counters;

	pthread_mutex_t overrides_lock;
	struct map overrides; /* ino to struct node_override */

	pthread_mutex_t access_lock;
	struct map access; /* ino to struct access, openfile.c */
};

/* Descriptors that the keeper hands to its server. */
enum server_fd {
	SERVER_FD_FUSE = 3,
	SERVER_FD_LEASE,
	SERVER_FD_SHARED,
	SERVER_FD_CLAIM,
	SERVER_FD_READY,
	SERVER_FD_END
};

/* Be the server, to the end of the mount; returns an exit code. */
int server_main(const struct mount_options *o);

/* What this build and this kernel can do, one line each. */
void server_features(FILE *out);

/* ---- notify.c: tell the kernel what changed behind its back ---- */

int notify_open(struct server *s);
void notify_close(struct server *s);
/* Forget a node's attributes. Never waits. */
void notify_inode(struct server *s, uint64_t ino);
/* domain_options.changed */
void notify_change(void *server, const struct ref *ref);

/* ---- status.c ---- */

void status_json(struct server *s, struct strbuf *out);
void status_metrics(struct server *s, struct strbuf *out);

#endif
