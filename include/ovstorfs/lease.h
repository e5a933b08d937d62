/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leases: which host has what. A lease is on the storage, a lock in memory.
 *
 * Two halves. The *holder* lives in the keeper, so that leases outlive a
 * server that dies; it talks to sanlock, or holds the one lock of a domain
 * that a single host uses. The *door* lives in the server and is all that the
 * domain floor sees: take, release, who are we. They speak over a
 * SOCK_SEQPACKET pair.
 *
 * This floor knows lockspaces, names and areas; what they guard it does not.
 * sanlock's facts: see the comments in sanlock.c. */
#ifndef OVSTORFS_LEASE_H
#define OVSTORFS_LEASE_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#define LEASE_NAME 48		 /* with the NUL, sanlock's limit is 48 */
#define LEASE_AREA (1024 * 1024) /* bytes of a lease on storage */
#define LEASE_SECTOR 4096
#define LEASE_MAX_HOSTS 250 /* with 4 KiB sectors in 1 MiB */

enum lease_locks {
	LEASE_LOCKS_SANLOCK, /* several hosts */
	LEASE_LOCKS_LOCAL,   /* one host: an OFD lock */
};

enum lease_mode { LEASE_SHARED, LEASE_EXCLUSIVE };

/* Where a lease lies. path is absolute: sanlock's daemon opens it by name. */
struct lease_ref {
	char name[LEASE_NAME];
	char path[PATH_MAX];
	uint64_t offset;
};

/* One domain's lockspace, as storage says it. */
struct lease_space {
	char name[LEASE_NAME];	 /* the lockspace: the domain's UUID */
	char ids_path[PATH_MAX]; /* host ids */
	uint64_t ids_offset;
	char leases_path[PATH_MAX]; /* area 0: the domain lease; area N: the
				     * presence lease of host id N */
	uint64_t leases_offset;
	char lock_path[PATH_MAX]; /* OFD lock: exclusive with local, shared
				     * with sanlock */
	unsigned int io_timeout;  /* seconds, sanlock's */
};

/* ---- areas: need no daemon, and no lease but the caller's ---- */

/* Make the host ids and the domain lease of a new domain. The files exist and
 * are large enough: ids LEASE_AREA, leases (1 + LEASE_MAX_HOSTS) areas, may be
 * sparse. */
int lease_space_format(const struct lease_space *sp);

/* Write an unowned lease into ref's area, durably. Caller holds the domain
 * lease, and knows that the area is free. */
int lease_area_init(const struct lease_space *sp, const struct lease_ref *ref);

/* Is there a sound lease of this lockspace and this name (or of ids, with
 * ref->name empty)? Looks at the leader record; needs no daemon.
 * Errors: -EUCLEAN it is damaged or another's, err_text() says what;
 * -ENOENT no file. */
int lease_area_check(const struct lease_space *sp, const struct lease_ref *ref);

/* The domain lease. */
void lease_ref_domain(const struct lease_space *sp, struct lease_ref *ret_ref);

/* ---- the holder (keeper) ---- */

struct lease_holder;

struct lease_holder_options {
	enum lease_locks locks;
	const struct lease_space *space;
	unsigned int host_id; /* 0: auto: the id this host had, else free */
	bool no_watchdog;     /* sanlock without a watchdog is accepted */
	bool read_only;	      /* local: a shared lock; sanlock: as usual */
	int busy_wait_ms;     /* how long to wait for a mount that is going */
	const char *killpath; /* program that sanlock runs, with the
			       * lockspace's name and our pid, when this host
			       * cannot renew; NULL: it sends SIGTERM */
};

/* Claim the domain for this host. locks=local: the OFD lock is held when this
 * returns. sanlock: connections are registered and the join has begun; it
 * goes on in a thread (20 s with sanlock's usual timeouts).
 * Errors: -EBUSY another mount of this host has it; -ECONNREFUSED no sanlock
 * daemon; -EPERM it has no watchdog and no_watchdog is not set; -EOPNOTSUPP
 * locks=local on a network or FUSE file system. Owner: lease_holder_stop(). */
int lease_holder_start(const struct lease_holder_options *o,
		       struct lease_holder **ret_holder);

/* Serve one door: returns when its other end is closed. What was held stays
 * held, for the next door. Runs in the calling thread. sock is borrowed.
 * Errors: -EBUSY another door is being served. */
int lease_holder_serve(struct lease_holder *h, int sock);

/* The descriptor that every process which may write to the storage must
 * inherit: while a copy is open the domain lease is not given up. Borrowed;
 * it is close-on-exec, the caller clears that in the child. */
int lease_holder_claim_fd(const struct lease_holder *h);

/* Release everything, the newest first, leave the lockspace, free. */
void lease_holder_stop(struct lease_holder *h);

/* ---- the door (server) ---- */

struct lease_door;

enum lease_state {
	LEASE_JOINING, /* takes wait */
	LEASE_JOINED,
	LEASE_FAILED, /* could not join; err says why */
	LEASE_LOST,   /* was joined, is no more: nothing may be written */
};

struct lease_member {
	enum lease_state state;
	unsigned int host_id; /* 0 while unknown */
	uint64_t generation;  /* this host's, grows with each mount */
	char error[256];      /* with LEASE_FAILED and LEASE_LOST */
};

/* sock: this end of the pair, taken. changed(arg) is called from a thread of
 * the door's own whenever the member state changes (may be NULL). */
int lease_door_open(int sock, void (*changed)(void *arg), void *arg,
		    struct lease_door **ret_door);
void lease_door_close(struct lease_door *d);

void lease_member(struct lease_door *d, struct lease_member *ret_member);

/* Take a lease for this process, waiting until deadline (now_ms() clock; 0:
 * try once). Threads that want the same lease queue here, in order; sanlock
 * sees one of them. A thread that has it must not take it again.
 * persistent: it survives the death of the holder, for the next mount.
 * Errors: -EBUSY another host has it (or this process, when only tried);
 * err_text() names the host; -EAGAIN not joined by the deadline; -ETIMEDOUT
 * sanlock did not answer by the deadline (a grant that comes later is given
 * back); -EUCLEAN the area is damaged; -EIO the lockspace is lost. */
int lease_take(struct lease_door *d, const struct lease_ref *ref,
	       enum lease_mode mode, bool persistent, uint64_t deadline);

/* Have exclusively what this door has shared. Errors: -EBUSY other hosts
 * share it; it then stays shared. Waits as long as sanlock needs; tries again
 * until deadline (0: once). */
int lease_upgrade(struct lease_door *d, const struct lease_ref *ref,
		  uint64_t deadline);

/* Give it back; waits as long as sanlock needs. Errors: -EIO sanlock or the
 * holder is gone: it then counts as held still; -ENOENT nobody has it. */
int lease_release(struct lease_door *d, const char *name);

/* What a door before this one had and nobody has taken again yet, one by one:
 * index from 0; ret_name has LEASE_NAME bytes. lease_take() makes it this
 * door's, lease_release() gives it back.
 * Errors: -ENOENT there are no more. */
int lease_leftover(struct lease_door *d, unsigned int index, char *ret_name);

/* Which host ids own a lease now, as text for people: "3" or "2 5 shared";
 * empty when none. */
int lease_holders(struct lease_door *d, const struct lease_ref *ref,
		  char *ret_text, int len);

/* How many leases this door has (tests, status). */
unsigned int lease_count(struct lease_door *d);

#endif
