/* SPDX-License-Identifier: GPL-2.0-or-later */
/* This process's locks on the domain, on images and on volumes: by name,
 * shared or exclusive, first come first served. */
#ifndef OVSTORFS_LOCKTAB_H
#define OVSTORFS_LOCKTAB_H

#include <pthread.h>
#include <stdbool.h>
#include <sys/queue.h>

#include "ovstorfs/uuid.h"

/* The one order in which everything is taken. Leases lie on the storage,
 * locks in this process; in one container the lease comes first. */
enum lock_rank {
	RANK_DOMAIN_LEASE = 1,
	RANK_DOMAIN = 2,
	RANK_IMAGE = 3,
	RANK_VOLUME_LEASE = 4,
	RANK_VOLUME = 5,
};

struct lock {
	enum lock_rank rank;
	struct uuid id;
	bool exclusive;
	bool granted;
	TAILQ_ENTRY(lock) link;
};

struct locktab {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	TAILQ_HEAD(, lock) queue; /* of all requests, granted or waiting */
};

void locktab_init(struct locktab *t);
void locktab_fini(struct locktab *t);

/* Queue for l (rank, id and exclusive are set) and wait until it is granted.
 * Errors: -EAGAIN at the deadline (now_ms() clock; 0: at once). Owner: l
 * belongs to the table until locktab_release(). */
int locktab_take(struct locktab *t, struct lock *l, uint64_t deadline);
void locktab_release(struct locktab *t, struct lock *l);

#endif
