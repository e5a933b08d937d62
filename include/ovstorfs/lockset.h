/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a verb needs, collected, sorted, taken, and released again.
 *
 *	rank	lease	lock
 *	domain	  1	  2
 *	image	  -	  3	within a rank: source before destination,
 *	volume	  4	  5	then by UUID
 *
 * The domain lease is waited for; with it in hand volume leases are only
 * tried, and refused means: drop all, -EBUSY. Local locks are waited for, in
 * this one order, which no circle can come from, and until the deadline. */
#ifndef OVSTORFS_LOCKSET_H
#define OVSTORFS_LOCKSET_H

#include "ovstorfs/locktab.h"
#include "ovstorfs/model.h"

struct lock_need {
	enum lock_rank rank;
	unsigned int place; /* 0: source, or the only one; 1: destination */
	struct uuid id;
	bool exclusive;
	struct volume *volume; /* RANK_VOLUME_LEASE */
	struct lock lock;
	bool taken;
};

struct lockset {
	struct domain *d;
	struct lock_need *needs;
	size_t n, room;
	struct lock_need *leases; /* of volumes: come last, only tried */
	size_t n_leases;
};

#define LOCKSET_INIT                                                           \
	{                                                                      \
		0                                                              \
	}

/* The only copy of the rule above. < 0: a is taken first. */
int lock_cmp(const struct lock_need *a, const struct lock_need *b);

void lockset_add(struct lockset *ls, enum lock_rank rank, const struct uuid *id,
		 bool exclusive);

/* Take what was added. Errors: -EBUSY a volume lease is another host's;
 * -EAGAIN not joined, or something is not free by the deadline; nothing is
 * held then. */
int lockset_take(struct lockset *ls, struct domain *d, uint64_t deadline);

/* What nearly every verb needs: the domain lease, and the image to itself. */
int lockset_take_image(struct lockset *ls, struct domain *d,
		       const struct uuid *image, uint64_t deadline);

/* With the above in hand: the exclusive leases of a volume and of every leaf
 * that descends from it, tried. Errors: -EBUSY, everything is released. */
int lockset_try_volume(struct lockset *ls, struct volume *v);

void lockset_release(struct lockset *ls);
#define auto_lockset __attribute__((cleanup(lockset_release)))

#endif
