/* SPDX-License-Identifier: GPL-2.0-or-later */
/* sanlock's calls, with our errors: the only file that knows its headers.
 *
 * What was found by trying (3.8 and 3.9), and is relied on or avoided here:
 * - the owner of a lease is a connection, not a process; it must not leak into
 *   children by accident, and takes one command at a time;
 * - an acquire that waits for a dead owner blocks one of the daemon's eight
 *   threads: always OWNER_NOWAIT, and we try again ourselves;
 * - more than eight leases in one call, or REL_ALL, overrun an array in the
 *   daemon: one lease a call here;
 * - a failed release has still taken the lease from the connection; what
 *   could not be written the daemon goes on writing by itself;
 * - a call on a connection whose daemon has died gives -1 or EPIPE, and -1 is
 *   also what a release of something not held gives. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <sanlock.h>
#include <sanlock_admin.h>
#include <sanlock_direct.h>
#include <sanlock_resource.h>
#include <sanlock_rv.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/str.h"

#include "internal.h"

_Static_assert(LEASE_NAME == SANLK_NAME_LEN, "names");

/* ---- errors ---- */

#define SOON 20	  /* ms; a live owner */
#define LATER 200 /* one that may be dying, or slow storage */

static const struct {
	int code;
	int error;
	int again_ms;
	const char *text;
} answers[] = {
	{ SANLK_ACQUIRE_IDLIVE, -EBUSY, SOON, "another host has it" },
	{ SANLK_ACQUIRE_OWNED, -EBUSY, SOON, "another host has it" },
	{ SANLK_ACQUIRE_OTHER, -EBUSY, SOON, "another host has it" },
	{ SANLK_ACQUIRE_SHRETRY, -EBUSY, SOON, "other hosts want it too" },
	{ SANLK_ACQUIRE_OWNED_RETRY, -EBUSY, LATER,
	  "another host has it, which may be dead" },
	{ -EAGAIN, -EBUSY, SOON, "other hosts share it" },
	{ -EBUSY, -EBUSY, SOON, "sanlock is busy with it" },
	{ -EEXIST, -EBUSY, SOON, "another process of this host has it" },
	{ -EUCLEAN, -EBUSY, 0, "a dead process of this host left it behind" },

	{ SANLK_LEADER_MAGIC, -EUCLEAN, 0, "no lease there" },
	{ SANLK_LEADER_VERSION, -EUCLEAN, 0, "unknown version of the lease" },
	{ SANLK_LEADER_SECTORSIZE, -EUCLEAN, 0, "wrong sector size" },
	{ SANLK_LEADER_LOCKSPACE, -EUCLEAN, 0, "another lockspace's lease" },
	{ SANLK_LEADER_RESOURCE, -EUCLEAN, 0, "a lease of another name" },
	{ SANLK_LEADER_NUMHOSTS, -EUCLEAN, 0, "made for fewer hosts" },
	{ SANLK_LEADER_CHECKSUM, -EUCLEAN, 0, "wrong checksum" },
	{ SANLK_LEADER_DIFF, -EUCLEAN, 0, "its copies differ" },
	{ SANLK_DBLOCK_CHECKSUM, -EUCLEAN, 0, "wrong checksum" },
	{ SANLK_ACQUIRE_LOCKSPACE, -EUCLEAN, 0, "another lockspace's lease" },
	{ SANLK_ADDLS_INVALID_HOSTID, -EINVAL, 0, "no such host id" },
	{ SANLK_ADDLS_SIZES, -EUCLEAN, 0, "wrong sector size" },
	{ -ENOENT, -EUCLEAN, 0, "no such file" },
	{ -EMSGSIZE, -EUCLEAN, 0, "beyond the end of the file" },
	{ -ENODEV, -EUCLEAN, 0, "no such device" },

	{ SANLK_AIO_TIMEOUT, -ETIMEDOUT, LATER, "the storage is slow" },
	{ -ENOSPC, -ENOTCONN, 0, "the lockspace is lost" },
	{ -ESRCH, -ENOTCONN, 0, "sanlock has forgotten us" },
	{ -EPIPE, -ENOTCONN, 0, "sanlock's daemon is gone" },
	{ -ECONNRESET, -ENOTCONN, 0, "sanlock's daemon is gone" },
	{ -ECONNREFUSED, -ENOTCONN, 0, "sanlock's daemon is gone" },
	{ -1, -ENOTCONN, 0, "sanlock's daemon is gone" },
	{ SANLK_HOSTID_BUSY, -EBUSY, 0, "another host uses this host id" },
	{ SANLK_WD_ERROR, -EIO, 0, "the watchdog failed" },
};

/* From half to one and a half times; two hosts must not agree on it. */
static int jittered(int ms)
{
	uint16_t x = 0;

	if (getrandom(&x, sizeof(x), GRND_NONBLOCK) != sizeof(x))
		x = (uint16_t)now_us();
	return ms / 2 + x % ms;
}

int san_error(int code, const char *what, int *ret_again_ms)
{
	size_t i;

	if (ret_again_ms)
		*ret_again_ms = 0;
	for (i = 0; i < ARRAY_SIZE(answers); i++) {
		if (answers[i].code != code)
			continue;
		if (ret_again_ms && answers[i].again_ms)
			*ret_again_ms = jittered(answers[i].again_ms);
		return err_new(answers[i].error, "%s: %s", what,
			       answers[i].text);
	}
	return err_new(-EIO, "%s: sanlock: error %d", what, code);
}

/* ---- its structs ---- */

static void disk_fill(struct sanlk_disk *disk, const char *path,
		      uint64_t offset)
{
	text_copy(disk->path, sizeof(disk->path), path);
	disk->offset = offset;
}

static void space_fill(struct sanlk_lockspace *ls, const struct lease_space *sp,
		       unsigned int host_id)
{
	memset(ls, 0, sizeof(*ls));
	text_copy(ls->name, sizeof(ls->name), sp->name);
	ls->host_id = host_id;
	ls->flags = SANLK_LSF_ALIGN1M | SANLK_LSF_SECTOR4K;
	disk_fill(&ls->host_id_disk, sp->ids_path, sp->ids_offset);
}

struct resource {
	struct sanlk_resource r;
	struct sanlk_disk disk; /* r.disks[0] */
};

_Static_assert(offsetof(struct resource, disk) == sizeof(struct sanlk_resource),
	       "disks follow");

static void resource_fill(struct resource *res, const struct lease_space *sp,
			  const char *name, enum lease_mode mode)
{
	memset(res, 0, sizeof(*res));
	text_copy(res->r.lockspace_name, sizeof(res->r.lockspace_name),
		  sp->name);
	text_copy(res->r.name, sizeof(res->r.name), name);
	res->r.flags = SANLK_RES_ALIGN1M | SANLK_RES_SECTOR4K;
	if (mode == LEASE_SHARED)
		res->r.flags |= SANLK_RES_SHARED;
}

static int resource_fill_ref(struct resource *res, const struct lease_space *sp,
			     const struct lease_ref *ref, enum lease_mode mode)
{
	if (strlen(ref->path) >= SANLK_PATH_LEN)
		return err_new(-ENAMETOOLONG, "lease %s: path too long",
			       ref->name);
	resource_fill(res, sp, ref->name, mode);
	res->r.num_disks = 1;
	disk_fill(&res->disk, ref->path, ref->offset);
	return 0;
}

/* ---- areas, without the daemon (it is not asked, and need not run) ---- */

/* Its system errors are just that: a full disk is no lost lockspace. For a
 * write that failed it says -1 and leaves errno behind, which the caller set
 * to 0 before. */
static int area_error(int code, const char *what)
{
	if (code == -1)
		code = errno ? -errno : -EIO;
	if (code > SANLK_ERROR)
		return err_new(code, "%s: %s", what, strerror(-code));
	return san_error(code, what, NULL);
}

int lease_space_format(const struct lease_space *sp)
{
	struct sanlk_lockspace ls;
	struct lease_ref domain;
	int r;

	if (strlen(sp->ids_path) >= SANLK_PATH_LEN)
		return err_new(-ENAMETOOLONG, "%s: path too long",
			       sp->ids_path);
	r = area_wipe(sp->leases_path, sp->leases_offset, 1 + LEASE_MAX_HOSTS);
	if (r < 0)
		return err_add(r, "format leases");
	space_fill(&ls, sp, 1);
	errno = 0;
	r = sanlock_direct_write_lockspace(&ls, 0, 0, sp->io_timeout);
	if (r < 0)
		return area_error(r, "format host ids");
	memset(&domain, 0, sizeof(domain));
	r = lease_area_check(sp, &domain); /* the ids */
	if (r < 0)
		return r;
	lease_ref_domain(sp, &domain);
	return lease_area_init(sp, &domain);
}

int lease_area_init(const struct lease_space *sp, const struct lease_ref *ref)
{
	struct resource res;
	int r;

	r = resource_fill_ref(&res, sp, ref, LEASE_EXCLUSIVE);
	if (r < 0)
		return r;
	/* Opened by it with O_SYNC: durable when it returns. Without aio,
	 * whose io_destroy() costs tens of milliseconds. */
	errno = 0;
	r = sanlock_direct_init(NULL, &res.r, 0, 0, 0);
	if (r < 0)
		return area_error(r, ref->name);
	return lease_area_check(sp, ref);
}

/* ---- the daemon ---- */

/* What `sanlock client status -D` shows first. The library has no call for
 * it, so we speak the socket's protocol, which it fixes with its soname. */
struct status_header {
	uint32_t magic, version, cmd, flags, length, seq, data, data2;
};

struct status_state {
	uint32_t type, flags, data32;
	uint64_t data64;
	char name[SANLK_NAME_LEN];
	uint32_t text_len;
};

#define STATUS_MAGIC 0x04282010
#define STATUS_CMD 5
#define STATUS_DAEMON 1

static int daemon_connect(int *ret_fd)
{
	auto_close int fd = -1;
	const char *dir = getenv("SANLOCK_RUN_DIR");
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	struct timeval wait = { .tv_sec = 10 };

	snprintf(to.sun_path, sizeof(to.sun_path), "%s/sanlock.sock",
		 dir ? dir : "/run/sanlock");
	fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_new(-errno, "socket: %s", strerror(errno));
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) < 0)
		return err_new(-ECONNREFUSED, "sanlock's daemon (%s): %s",
			       to.sun_path, strerror(errno));
	*ret_fd = steal_fd(&fd);
	return 0;
}

static int receive(int fd, void *buf, size_t len)
{
	ssize_t n = recv(fd, buf, len, MSG_WAITALL);

	if (n == (ssize_t)len)
		return 0;
	return err_new(-ECONNREFUSED, "sanlock's daemon: no answer");
}

static bool status_has_watchdog(const char *text)
{
	const char *p = strstr(text, "use_watchdog=");

	return p && p[strlen("use_watchdog=")] == '1';
}

int san_daemon(struct san_daemon *ret_daemon)
{
	struct status_header h = { STATUS_MAGIC, 1, STATUS_CMD,	   0,
				   sizeof(h),	 0, STATUS_DAEMON, 0 };
	struct status_state st;
	auto_close int fd = -1;
	char text[4096];
	int r;

	r = daemon_connect(&fd);
	if (r < 0)
		return r;
	if (send(fd, &h, sizeof(h), MSG_NOSIGNAL) != sizeof(h))
		return err_new(-ECONNREFUSED, "sanlock's daemon: %s",
			       strerror(errno));
	r = receive(fd, &h, sizeof(h));
	if (r == 0)
		r = receive(fd, &st, sizeof(st));
	if (r == 0 && st.text_len >= sizeof(text))
		r = err_new(-EPROTO, "sanlock's daemon: strange answer");
	if (r == 0)
		r = receive(fd, text, st.text_len);
	if (r < 0)
		return r;
	text[st.text_len] = '\0';
	st.name[sizeof(st.name) - 1] = '\0';
	text_copy(ret_daemon->host_name, sizeof(ret_daemon->host_name),
		  st.name);
	ret_daemon->has_watchdog = status_has_watchdog(text);
	return 0;
}

int san_register(const struct lease_space *sp, const char *killpath,
		 int *ret_fd)
{
	char args[SANLK_HELPER_ARGS_LEN];
	auto_close int fd = -1;
	int r;

	fd = sanlock_register();
	if (fd < 0)
		return err_new(-ECONNREFUSED, "register with sanlock: error %d",
			       fd);
	if (fcntl(fd, F_SETFD, FD_CLOEXEC) < 0)
		return err_new(-errno, "close-on-exec: %s", strerror(errno));
	if (killpath) {
		text_copy(args, sizeof(args), sp->name);
		r = sanlock_killpath(fd, SANLK_KILLPATH_PID, killpath, args);
		if (r < 0)
			return san_error(r, "set killpath", NULL);
	}
	*ret_fd = steal_fd(&fd);
	return 0;
}

int san_find(const struct lease_space *sp, unsigned int *ret_id,
	     bool *ret_joined)
{
	auto_free struct sanlk_lockspace *all = NULL;
	int i, r, n = 0;

	r = sanlock_get_lockspaces(&all, &n, 0);
	if (r < 0 && r != -ENOSPC) /* a list too long is still a list */
		return san_error(r, "list lockspaces", NULL);
	*ret_id = 0;
	*ret_joined = false;
	for (i = 0; i < n && all; i++) {
		if (strncmp(all[i].name, sp->name, LEASE_NAME) != 0)
			continue;
		*ret_id = (unsigned int)all[i].host_id;
		*ret_joined = !(all[i].flags & (SANLK_LSF_ADD | SANLK_LSF_REM));
	}
	return 0;
}

int san_add(const struct lease_space *sp, unsigned int host_id)
{
	struct sanlk_lockspace ls;
	int r;

	space_fill(&ls, sp, host_id);
	/* Not SANLK_ADD_ASYNC: whoever only asks afterwards learns that it
	 * failed, not why. */
	r = sanlock_add_lockspace_timeout(&ls, 0, sp->io_timeout);
	if (r == -EINPROGRESS) /* begun by a mount that died */
		r = sanlock_inq_lockspace(&ls, SANLK_INQ_WAIT);
	if (r == -ENOENT || r == -EAGAIN || r == SANLK_AIO_TIMEOUT)
		return err_new(-EAGAIN, "join as host %u: error %d", host_id,
			       r);
	if (r == SANLK_ERROR)
		return err_new(-ECANCELED, "join as host %u: stopped", host_id);
	if (r == 0 || r == -EEXIST)
		return 0;
	if (r == -EINVAL)
		return err_new(-EBUSY,
			       "join as host %u: this host's sanlock "
			       "has the lockspace with another id or "
			       "path",
			       host_id);
	return err_add(san_error(r, "host ids", NULL), "join as host %u",
		       host_id);
}

void san_add_abort(const struct lease_space *sp, unsigned int host_id)
{
	struct sanlk_lockspace ls;

	space_fill(&ls, sp, host_id);
	sanlock_rem_lockspace(&ls, SANLK_REM_ASYNC);
}

int san_keep_joined(const struct lease_space *sp)
{
	int r;

	/* A host sees itself alive in get_hosts to the end; this call looks at
	 * the lockspace's own state. */
	r = sanlock_set_config(sp->name, 0, SANLK_CONFIG_USED_BY_ORPHANS, NULL);
	if (r == 0)
		return 0;
	if (r == -ENOENT)
		return err_new(-EIO, "sanlock has left the lockspace");
	if (r == -ENOSPC)
		return err_new(-EIO, "the host id could not be renewed");
	return err_new(-EIO, "sanlock's daemon is gone");
}

int san_remove(const struct lease_space *sp, unsigned int host_id)
{
	struct sanlk_lockspace ls;
	int r;

	space_fill(&ls, sp, host_id);
	r = sanlock_rem_lockspace(&ls, SANLK_REM_UNUSED);
	if (r == 0 || r == -ENOENT || r == -EINPROGRESS)
		return 0;
	return san_error(r, "leave lockspace", NULL);
}

/* ---- leases ---- */

static int take(int fd, struct resource *res, uint32_t flags)
{
	struct sanlk_resource *list[] = { &res->r };
	int r;

	r = sanlock_acquire(fd, -1, SANLK_ACQUIRE_OWNER_NOWAIT | flags, 1, list,
			    NULL);
	return r > 0 ? 0 : r;
}

/* A dead process of this host left it. What mode it has is only to be found
 * by trying. */
static int adopt(int fd, struct resource *res)
{
	int r = take(fd, res, SANLK_ACQUIRE_ORPHAN);

	if (r != -EUCLEAN)
		return r;
	res->r.flags ^= SANLK_RES_SHARED;
	return take(fd, res, SANLK_ACQUIRE_ORPHAN);
}

int san_take(const struct lease_space *sp, int fd, const struct lease_ref *ref,
	     enum lease_mode mode, bool persistent,
	     struct lease_grant *ret_grant, int *ret_again_ms)
{
	struct resource res;
	bool adopted = false;
	int r;

	*ret_again_ms = 0;
	r = resource_fill_ref(&res, sp, ref, mode);
	if (r < 0)
		return r;
	if (persistent)
		res.r.flags |= SANLK_RES_PERSISTENT;
	r = take(fd, &res, 0);
	if (r == -EUCLEAN && persistent) {
		adopted = true;
		r = adopt(fd, &res);
	}
	if (r < 0)
		return err_add(san_error(r, ref->name, ret_again_ms), "lease");
	ret_grant->adopted = adopted;
	ret_grant->mode = res.r.flags & SANLK_RES_SHARED ? LEASE_SHARED :
							   LEASE_EXCLUSIVE;
	return 0;
}

int san_convert(const struct lease_space *sp, int fd, const char *name,
		enum lease_mode mode, int *ret_again_ms)
{
	struct resource res;
	int r;

	resource_fill(&res, sp, name, mode);
	r = sanlock_convert(fd, -1, SANLK_CONVERT_OWNER_NOWAIT, &res.r);
	if (r >= 0 || r == -EALREADY)
		return 0;
	return err_add(san_error(r, name, ret_again_ms), "lease");
}

static bool hung_up(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLRDHUP };

	return poll(&p, 1, 0) > 0;
}

int san_release(const struct lease_space *sp, int fd, const char *name)
{
	struct resource res;
	struct sanlk_resource *list[] = { &res.r };
	int r;

	resource_fill(&res, sp, name, LEASE_EXCLUSIVE);
	r = sanlock_release(fd, -1, 0, 1, list);
	if (r < 0 && hung_up(fd))
		return err_new(-ENOTCONN, "lease %s: sanlock's daemon is gone",
			       name);
	return 0;
}

int san_holders(const struct lease_space *sp, const struct lease_ref *ref,
		char *ret_text, int len)
{
	auto_free struct sanlk_host *hosts = NULL;
	struct resource res;
	int i, r, n = 0, at = 0;

	r = resource_fill_ref(&res, sp, ref, LEASE_EXCLUSIVE);
	if (r < 0)
		return r;
	r = sanlock_read_resource_owners(&res.r, 0, &hosts, &n);
	if (r < 0)
		return err_add(san_error(r, ref->name, NULL), "lease");
	ret_text[0] = '\0';
	for (i = 0; i < n && hosts && at < len; i++)
		at += snprintf(ret_text + at, (size_t)(len - at), "%s%llu",
			       i ? " " : "",
			       (unsigned long long)hosts[i].host_id);
	if (n > 0 && at < len && res.r.flags & SANLK_RES_SHARED)
		snprintf(ret_text + at, (size_t)(len - at), " shared");
	return 0;
}
