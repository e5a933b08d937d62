/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Between the files of the lease floor; nobody else includes it.
 *
 * door (lease.c) <-socketpair-> holder (holder.c) -> a backend: the member of
 * a lockspace (member.c, over sanlock.c) or the one lock (local.c). */
#ifndef LEASE_INTERNAL_H
#define LEASE_INTERNAL_H

#include <pthread.h>
#include <string.h>

#include "ovstorfs/cond.h"
#include "ovstorfs/lease.h"

/* ---- what door and holder say to each other: one message, one struct ---- */

enum lease_op {
	LEASE_TAKE = 1,
	LEASE_UPGRADE, /* what this door has shared, exclusively */
	LEASE_RELEASE,
	LEASE_DECLINE, /* a grant that came too late */
	LEASE_HOLDERS,
	LEASE_LEFTOVER,
};

struct lease_request {
	uint64_t id;
	uint64_t deadline; /* with TAKE, UPGRADE; 0: one attempt */
	uint32_t op;
	uint32_t mode;
	uint32_t persistent;
	uint32_t index; /* with LEASE_LEFTOVER */
	struct lease_ref ref;
};

struct lease_reply {
	uint64_t id; /* 0: nobody asked, this is the member's state */
	int32_t result;
	char text[256];
	struct lease_member member;
};

/* ---- backends ---- */

struct lease_grant {
	enum lease_mode mode;
	bool adopted; /* left by a dead process of this host, which may have
		       * had it in the other mode; may be in use still */
};

struct lease_backend {
	const struct lease_backend_ops *ops;
	unsigned int seats; /* threads that may act at once. Seat 0 has what
			     * ends with the process, the others what stays */
};

/* One thread per seat calls take, convert and release; join and watch run on
 * one of their own; cancel may come from any. ret_again_ms: not 0 when
 * another attempt after that time may succeed. */
struct lease_backend_ops {
	/* Become a member; fills host_id and generation. */
	int (*join)(struct lease_backend *b, struct lease_member *ret_member);

	/* Returns when membership is lost (-EIO, err_text() says why), or 0
	 * when cancelled. */
	int (*watch)(struct lease_backend *b);

	/* Make join and watch return soon. May be called again and again. */
	void (*cancel)(struct lease_backend *b);

	int (*take)(struct lease_backend *b, unsigned int seat,
		    const struct lease_ref *ref, enum lease_mode mode,
		    bool persistent, struct lease_grant *ret_grant,
		    int *ret_again_ms);
	int (*convert)(struct lease_backend *b, unsigned int seat,
		       const char *name, enum lease_mode mode,
		       int *ret_again_ms);
	int (*release)(struct lease_backend *b, unsigned int seat,
		       const char *name);

	/* NULL: what this host holds is all there is. */
	int (*holders)(struct lease_backend *b, const struct lease_ref *ref,
		       char *ret_text, int len);
	int (*claim_fd)(const struct lease_backend *b);

	/* After join and watch have returned and all leases are released. */
	void (*leave)(struct lease_backend *b);
	void (*free)(struct lease_backend *b);
};

int local_backend_open(const struct lease_holder_options *o,
		       struct lease_backend **ret_backend);
int member_backend_open(const struct lease_holder_options *o,
			struct lease_backend **ret_backend);

/* ---- local.c: OFD locks ---- */

/* Lock len bytes (0: all) from start; F_RDLCK, F_WRLCK or F_UNLCK. Waits at
 * most wait_ms for somebody who is going. Errors: -EBUSY. */
int ofd_lock(int fd, short type, uint64_t start, uint64_t len, int wait_ms);

/* Open sp->lock_path: a regular file or a block device. */
int lock_file_open(const struct lease_space *sp, bool read_only, int *ret_fd);

/* ---- area.c: what lies on storage, read and written without sanlock ---- */

/* Whose is it? Fields of the leader record, as they are on storage now. */
struct area_owner {
	uint64_t host_id;
	uint64_t generation;
	uint64_t lver;	    /* grows with each grant */
	uint64_t timestamp; /* 0: nobody's, or shared */
};

int area_owner(const struct lease_ref *ref, struct area_owner *ret_owner);

/* Was this area never written? */
int area_is_blank(const struct lease_ref *ref, bool *ret_blank);

/* Overwrite the leader of areas that hold an older domain's leases. */
int area_wipe(const char *path, uint64_t offset, unsigned int count);

void area_ref_presence(const struct lease_space *sp, unsigned int host_id,
		       struct lease_ref *ret_ref);

/* The id for a host of this name: the one it had, else one that nobody ever
 * had, else one that was given back, else one whose owner may be dead; never
 * one that is in tried[]. *ret_ours: it was this host's.
 * Errors: -ENOSPC none is left. */
int ids_pick(const struct lease_space *sp, const char *host_name,
	     const bool *tried, unsigned int *ret_id, bool *ret_ours);

/* How often an id's presence lease was taken: once by each mount. */
int area_mounts(const struct lease_space *sp, unsigned int host_id,
		uint64_t *ret_mounts);

int ids_generation(const struct lease_space *sp, unsigned int host_id,
		   uint64_t *ret_generation);

/* For locks=local: a generation above all that this id had, noted in its
 * record so that it also grows when the clock goes back. */
int ids_new_generation(const struct lease_space *sp, unsigned int host_id,
		       uint64_t at_least, bool note, uint64_t *ret_generation);

/* ---- sanlock.c: its calls, with our errors ---- */

struct san_daemon {
	char host_name[LEASE_NAME];
	bool has_watchdog;
};

/* Errors: -ECONNREFUSED there is none. */
int san_daemon(struct san_daemon *ret_daemon);

/* A connection that can have leases, close-on-exec. killpath: see
 * lease_holder_options. Owner: caller closes. */
int san_register(const struct lease_space *sp, const char *killpath,
		 int *ret_fd);

/* The id under which the daemon has this lockspace, 0 when it has it not. */
int san_find(const struct lease_space *sp, unsigned int *ret_id,
	     bool *ret_joined);

/* Join; waits until it is done. Errors: -EBUSY the id is another host's;
 * -EAGAIN try again; -EUCLEAN the ids area; -ECANCELED san_add_abort(). */
int san_add(const struct lease_space *sp, unsigned int host_id);
void san_add_abort(const struct lease_space *sp, unsigned int host_id);

/* Have persistent leases of a dead process keep the lockspace joined; may be
 * repeated, and so tells whether this host is still a member in good standing.
 * Errors: -EIO it is not. */
int san_keep_joined(const struct lease_space *sp);

/* Errors: -EBUSY somebody on this host still uses it. */
int san_remove(const struct lease_space *sp, unsigned int host_id);

/* One attempt. */
int san_take(const struct lease_space *sp, int fd, const struct lease_ref *ref,
	     enum lease_mode mode, bool persistent,
	     struct lease_grant *ret_grant, int *ret_again_ms);
int san_convert(const struct lease_space *sp, int fd, const char *name,
		enum lease_mode mode, int *ret_again_ms);
int san_release(const struct lease_space *sp, int fd, const char *name);
int san_holders(const struct lease_space *sp, const struct lease_ref *ref,
		char *ret_text, int len);

/* -Exxx of a code of sanlock's, with err_new() done; exported for its test.
 * -ENOTCONN: we are no member any more. ret_again_ms may be NULL. */
int san_error(int code, const char *what, int *ret_again_ms);

/* ---- small ones ---- */

static inline void text_copy(char *to, size_t room, const char *from)
{
	size_t len = strlen(from);

	if (len >= room)
		len = room - 1;
	memcpy(to, from, len);
	memset(to + len, 0, room - len);
}

#endif
