/* SPDX-License-Identifier: GPL-2.0-or-later */
/* This host as a member of a lockspace that several hosts share.
 *
 * Seat 0 is the claim: its connection has the presence lease and the domain
 * lease, neither of them persistent, and children that write inherit it. The
 * other seats have volume leases, which are persistent. A mount has one host
 * id; on this machine it is guarded by a byte of the lock file, which tells
 * at once, and across a crash by the presence lease, which lasts as long as
 * the last process that has the claim. */
#include <fcntl.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/eventfd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/str.h"

#include "internal.h"

#define CLAIM 0
#define SEATS 5		     /* more gain little: the daemon has 8 threads */
#define WATCH_MS 1000	     /* between looks at our standing */
#define DOMAIN_WAIT_MS 60000 /* for the domain lease, to make presence */

struct member {
	struct lease_backend base;
	struct lease_space space;
	unsigned int wanted_id; /* 0: auto */
	char host_name[LEASE_NAME];
	bool tried[LEASE_MAX_HOSTS + 1];

	atomic_uint host_id; /* the candidate, then ours */
	bool joined;
	bool present; /* we have the presence lease */

	atomic_bool adding; /* the daemon is joining for us */
	atomic_bool stop;
	atomic_bool lost; /* a call said so */
	int wake;	  /* eventfd: stop or lost changed */
	int lock_fd;
	int fds[SEATS];
};

static struct member *member_of(struct lease_backend *b)
{
	return (struct member *)b;
}

static void wake(struct member *m)
{
	uint64_t one = 1;

	if (write(m->wake, &one, sizeof(one)) < 0)
		log_debug(LOG_LEASE, "wake: %s", strerror(errno));
}

/* Wait, but not when we are to stop. */
static int pause_ms(struct member *m, int ms)
{
	struct pollfd p = { .fd = m->wake, .events = POLLIN };

	if (!atomic_load(&m->stop))
		poll(&p, 1, ms);
	if (atomic_load(&m->stop))
		return err_new(-ECANCELED, "stopped");
	return 0;
}

/* ---- which host id ---- */

static int claim_id(struct member *m, unsigned int id, int wait_ms)
{
	int r = ofd_lock(m->lock_fd, F_WRLCK, id, 1, wait_ms);

	if (r == 0)
		atomic_store(&m->host_id, id);
	return r;
}

static void give_up_id(struct member *m)
{
	unsigned int id = atomic_load(&m->host_id);

	m->tried[id] = true;
	ofd_lock(m->lock_fd, F_UNLCK, id, 1, 0);
	atomic_store(&m->host_id, 0);
}

/* Find one that no other mount on this machine is just now joining with. */
static int choose_id(struct member *m, int wait_ms)
{
	unsigned int id;
	bool ours;
	int r;

	if (m->wanted_id)
		return claim_id(m, m->wanted_id, wait_ms);
	for (;;) {
		r = ids_pick(&m->space, m->host_name, m->tried, &id, &ours);
		if (r < 0)
			return r;
		r = claim_id(m, id, ours ? wait_ms : 0);
		if (r != -EBUSY || ours)
			return r;
		m->tried[id] = true;
	}
}

static int add_lockspace(struct member *m)
{
	int r;

	for (;;) {
		r = san_add(&m->space, atomic_load(&m->host_id));
		if (r == -EAGAIN) {
			r = pause_ms(m, 500);
			if (r < 0)
				return r;
			continue;
		}
		if (r != -EBUSY || m->wanted_id)
			return r;
		give_up_id(m);
		r = choose_id(m, 0);
		if (r < 0)
			return r;
	}
}

/* ---- presence ---- */

static int take_until(struct member *m, const struct lease_ref *ref,
		      uint64_t deadline)
{
	struct lease_grant grant;
	int r, again;

	for (;;) {
		r = san_take(&m->space, m->fds[CLAIM], ref, LEASE_EXCLUSIVE,
			     false, &grant, &again);
		if (r == 0 || !again || now_ms() + (uint64_t)again >= deadline)
			return r;
		if (pause_ms(m, again) < 0)
			return -ECANCELED;
	}
}

/* The first host of this id makes its area; sanlock guards no area that is
 * being made, the domain lease does. */
static int make_presence(struct member *m, const struct lease_ref *presence)
{
	struct lease_ref domain;
	bool blank = false;
	int r, r2;

	lease_ref_domain(&m->space, &domain);
	r = take_until(m, &domain, now_ms() + DOMAIN_WAIT_MS);
	if (r < 0)
		return r;
	r = area_is_blank(presence, &blank);
	if (r == 0 && blank)
		r = lease_area_init(&m->space, presence);
	r2 = san_release(&m->space, m->fds[CLAIM], domain.name);
	return r < 0 ? r : r2;
}

static int take_presence(struct member *m, int wait_ms)
{
	struct lease_ref ref;
	bool blank = false;
	int r;

	area_ref_presence(&m->space, atomic_load(&m->host_id), &ref);
	r = area_is_blank(&ref, &blank);
	if (r == 0 && blank)
		r = make_presence(m, &ref);
	if (r == 0)
		r = take_until(m, &ref, now_ms() + (uint64_t)wait_ms);
	m->present = r == 0;
	if (r == -EBUSY)
		return err_new(r, "another mount of this host has the domain");
	return r;
}

/* The host id's generation grows with each join, but a mount that crashed
 * leaves its lockspace joined; the presence lease's version grows with each
 * mount, and both stay on storage. So their sum grows with each mount. */
static int mount_generation(struct member *m, uint64_t *ret_generation)
{
	unsigned int id = atomic_load(&m->host_id);
	uint64_t joins = 0, mounts = 0;
	int r;

	r = ids_generation(&m->space, id, &joins);
	if (r == 0)
		r = area_mounts(&m->space, id, &mounts);
	if (r == 0)
		*ret_generation = joins + mounts;
	return r;
}

/* ---- the backend ---- */

static int member_join(struct lease_backend *b, struct lease_member *ret_member)
{
	struct member *m = member_of(b);
	int r = 0;

	if (!m->joined) {
		atomic_store(&m->adding, true);
		r = add_lockspace(m);
		m->joined = r == 0;
		atomic_store(&m->adding, false);
	}
	if (r < 0 || atomic_load(&m->stop))
		return r < 0 ? r : -ECANCELED;
	r = san_keep_joined(&m->space);
	if (r == 0 && !m->present)
		r = take_presence(m, 5000);
	if (r == 0)
		r = mount_generation(m, &ret_member->generation);
	if (r == 0)
		ret_member->host_id = atomic_load(&m->host_id);
	return r;
}

/* A hang-up is an event; that renewals fail has to be asked for. */
static int look(struct member *m)
{
	struct pollfd p[SEATS + 1];
	int i;

	for (i = 0; i < SEATS; i++)
		p[i] = (struct pollfd){ .fd = m->fds[i], .events = POLLRDHUP };
	p[SEATS] = (struct pollfd){ .fd = m->wake, .events = POLLIN };
	if (poll(p, SEATS + 1, WATCH_MS) == 0)
		return san_keep_joined(&m->space);
	for (i = 0; i < SEATS; i++)
		if (p[i].revents & (POLLRDHUP | POLLHUP | POLLERR))
			return err_new(-EIO, "sanlock's daemon is gone");
	if (atomic_load(&m->lost))
		return err_new(-EIO, "the lockspace is lost");
	return 0;
}

static int member_watch(struct lease_backend *b)
{
	struct member *m = member_of(b);
	int r = 0;

	while (r == 0 && !atomic_load(&m->stop))
		r = look(m);
	return r;
}

static void member_cancel(struct lease_backend *b)
{
	struct member *m = member_of(b);

	atomic_store(&m->stop, true);
	wake(m);
	if (atomic_load(&m->adding))
		san_add_abort(&m->space, atomic_load(&m->host_id));
}

/* A lease call that finds the lockspace gone tells the watcher. */
static int noticed(struct member *m, int r)
{
	char text[256];

	if (r != -ENOTCONN)
		return r;
	text_copy(text, sizeof(text), err_text(r));
	if (!atomic_exchange(&m->lost, true))
		wake(m);
	return err_new(-EIO, "%s", text);
}

static int member_take(struct lease_backend *b, unsigned int seat,
		       const struct lease_ref *ref, enum lease_mode mode,
		       bool persistent, struct lease_grant *ret_grant,
		       int *ret_again_ms)
{
	struct member *m = member_of(b);

	return noticed(m, san_take(&m->space, m->fds[seat], ref, mode,
				   persistent, ret_grant, ret_again_ms));
}

static int member_convert(struct lease_backend *b, unsigned int seat,
			  const char *name, enum lease_mode mode,
			  int *ret_again_ms)
{
	struct member *m = member_of(b);

	return noticed(m, san_convert(&m->space, m->fds[seat], name, mode,
				      ret_again_ms));
}

static int member_release(struct lease_backend *b, unsigned int seat,
			  const char *name)
{
	struct member *m = member_of(b);

	return noticed(m, san_release(&m->space, m->fds[seat], name));
}

static int member_holders(struct lease_backend *b, const struct lease_ref *ref,
			  char *ret_text, int len)
{
	return san_holders(&member_of(b)->space, ref, ret_text, len);
}

static int member_claim_fd(const struct lease_backend *b)
{
	return ((const struct member *)b)->fds[CLAIM];
}

static void member_leave(struct lease_backend *b)
{
	struct member *m = member_of(b);
	struct lease_ref ref;
	int r = 0;

	area_ref_presence(&m->space, atomic_load(&m->host_id), &ref);
	if (m->present)
		r = san_release(&m->space, m->fds[CLAIM], ref.name);
	if (r == 0 && m->joined)
		r = san_remove(&m->space, atomic_load(&m->host_id));
	if (r < 0) /* leases of a dead mount: they keep the host a member */
		log_info("lockspace %s: still joined: %s", m->space.name,
			 err_text(r));
}

static void member_free(struct lease_backend *b)
{
	struct member *m = member_of(b);
	int i;

	for (i = 0; i < SEATS; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	if (m->lock_fd >= 0)
		close(m->lock_fd);
	if (m->wake >= 0)
		close(m->wake);
	free(m);
}

static const struct lease_backend_ops member_ops = {
	.join = member_join,
	.watch = member_watch,
	.cancel = member_cancel,
	.take = member_take,
	.convert = member_convert,
	.release = member_release,
	.holders = member_holders,
	.claim_fd = member_claim_fd,
	.leave = member_leave,
	.free = member_free,
};

/* ---- start ---- */

static int ask_daemon(struct member *m, const struct lease_holder_options *o)
{
	struct san_daemon daemon;
	int r;

	r = san_daemon(&daemon);
	if (r < 0)
		return r;
	if (!daemon.has_watchdog && !o->no_watchdog)
		return err_new(-EPERM, "sanlock's daemon runs without a "
				       "watchdog: after a restart it would "
				       "give away leases that are in use");
	text_copy(m->host_name, sizeof(m->host_name), daemon.host_name);
	return 0;
}

/* The daemon may have the lockspace already: another mount that lives, or one
 * that crashed. Then the id is settled. */
static int look_for_former_mount(struct member *m)
{
	unsigned int id;
	int r;

	r = san_find(&m->space, &id, &m->joined);
	if (r < 0 || !id)
		return r;
	if (m->wanted_id && m->wanted_id != id)
		return err_new(-EBUSY,
			       "this host is already a member with "
			       "host id %u",
			       id);
	m->wanted_id = id;
	return 0;
}

static int register_seats(struct member *m,
			  const struct lease_holder_options *o)
{
	int i, r = 0;

	for (i = 0; i < SEATS && r == 0; i++)
		r = san_register(&m->space, o->killpath, &m->fds[i]);
	return r;
}

static int member_claim(struct member *m, const struct lease_holder_options *o)
{
	uint64_t generation;
	int r;

	r = ask_daemon(m, o);
	if (r == 0)
		r = lock_file_open(&m->space, false, &m->lock_fd);
	if (r == 0)
		r = ofd_lock(m->lock_fd, F_RDLCK, 0, 1, o->busy_wait_ms);
	if (r == 0)
		r = look_for_former_mount(m);
	if (r == 0)
		r = choose_id(m, o->busy_wait_ms);
	if (r == 0) /* a look at it: the daemon does not say what is wrong */
		r = ids_generation(&m->space, atomic_load(&m->host_id),
				   &generation);
	if (r == 0)
		r = register_seats(m, o);
	if (r == 0 && m->joined)
		r = take_presence(m, o->busy_wait_ms);
	return r;
}

int member_backend_open(const struct lease_holder_options *o,
			struct lease_backend **ret_backend)
{
	struct member *m = xcalloc(1, sizeof(*m));
	int i, r;

	m->base.ops = &member_ops;
	m->base.seats = SEATS;
	m->space = *o->space;
	m->wanted_id = o->host_id;
	m->lock_fd = -1;
	for (i = 0; i < SEATS; i++)
		m->fds[i] = -1;
	m->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (m->wake < 0)
		r = err_new(-errno, "eventfd: %s", strerror(errno));
	else
		r = noticed(m, member_claim(m, o));
	if (r < 0) {
		member_free(&m->base);
		return r;
	}
	*ret_backend = &m->base;
	return 0;
}
