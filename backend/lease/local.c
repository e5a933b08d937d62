/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leases of a domain that one host uses: one lock has it all.
 *
 * An exclusive OFD lock on the whole of the lock file is the domain; every
 * lease in it is then ours without asking. A mount with sanlock has byte 0
 * shared and its host id's byte exclusively, so the two exclude each other on
 * a machine. Between machines an OFD lock says nothing, or is forgotten when
 * a server restarts: network file systems are refused, and so is FUSE, which
 * may be one. */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <time.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/str.h"

#include "internal.h"

struct local {
	struct lease_backend base;
	struct lease_space space;
	unsigned int host_id;
	bool read_only;
	int fd;
};

static struct local *local_of(struct lease_backend *b)
{
	return (struct local *)b;
}

#define LOCK_RETRY_MS 20 /* the kernel has no wait with a timeout for it */

int ofd_lock(int fd, short type, uint64_t start, uint64_t len, int wait_ms)
{
	uint64_t until = now_ms() + (uint64_t)wait_ms;
	struct flock l = { .l_type = type,
			   .l_whence = SEEK_SET,
			   .l_start = (off_t)start,
			   .l_len = (off_t)len };

	while (fcntl(fd, F_OFD_SETLK, &l) < 0) {
		if (errno != EAGAIN && errno != EACCES && errno != EINTR)
			return err_new(-errno, "lock: %s", strerror(errno));
		if (now_ms() >= until)
			return err_new(-EBUSY, "another mount of this host "
					       "has the domain");
		poll(NULL, 0, LOCK_RETRY_MS);
	}
	return 0;
}

int lock_file_open(const struct lease_space *sp, bool read_only, int *ret_fd)
{
	auto_close int fd = -1;
	struct stat st;

	fd = open(sp->lock_path,
		  (read_only ? O_RDONLY : O_RDWR) | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) < 0)
		return err_new(-errno, "%s: %s", sp->lock_path,
			       strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_new(-EUCLEAN, "%s: not a file or device",
			       sp->lock_path);
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* statfs(2), f_type; not all are in linux/magic.h. */
static const struct {
	uint32_t magic;
	const char *name;
} shared_fs[] = {
	{ 0x6969, "NFS" },	{ 0x65735546, "FUSE" },
	{ 0xff534d42, "CIFS" }, { 0xfe534d42, "SMB" },
	{ 0x517b, "SMB" },	{ 0x00c36400, "Ceph" },
	{ 0x01021997, "9p" },	{ 0x5346414f, "AFS" },
	{ 0x6b414653, "AFS" },	{ 0x7461636f, "OCFS2" },
	{ 0x01161970, "GFS2" }, { 0x0bd00bd0, "Lustre" },
};

static int refuse_shared_fs(int fd, const char *path)
{
	struct statfs fs;
	size_t i;

	if (fstatfs(fd, &fs) < 0)
		return err_new(-errno, "%s: %s", path, strerror(errno));
	for (i = 0; i < ARRAY_SIZE(shared_fs); i++)
		if ((uint32_t)fs.f_type == shared_fs[i].magic)
			return err_new(-EOPNOTSUPP,
				       "locks=local: %s is on %s, which other "
				       "hosts may have too",
				       path, shared_fs[i].name);
	return 0;
}

/* It grows with each mount because the last one is noted in the id's record,
 * and is a time because that may be unreadable, or not ours to write. */
static uint64_t new_generation(const struct local *l)
{
	struct timespec now;
	uint64_t ms, generation, mounts = 0;
	int r;

	clock_gettime(CLOCK_REALTIME, &now);
	ms = (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
	r = ids_new_generation(&l->space, l->host_id, ms, !l->read_only,
			       &generation);
	if (r == 0)
		r = area_mounts(&l->space, l->host_id, &mounts);
	if (r == 0)
		return generation + mounts; /* as a mount with sanlock has it */
	log_debug(LOG_LEASE, "generation from the clock: %s", err_text(r));
	return ms;
}

static int local_join(struct lease_backend *b, struct lease_member *ret_member)
{
	struct local *l = local_of(b);

	ret_member->host_id = l->host_id;
	ret_member->generation = new_generation(l);
	return 0;
}

static void local_cancel(struct lease_backend *b)
{
	(void)b; /* nothing here waits */
}

static int local_take(struct lease_backend *b, unsigned int seat,
		      const struct lease_ref *ref, enum lease_mode mode,
		      bool persistent, struct lease_grant *ret_grant,
		      int *ret_again_ms)
{
	(void)b, (void)seat, (void)ref, (void)persistent;
	*ret_grant = (struct lease_grant){ .mode = mode };
	*ret_again_ms = 0;
	return 0;
}

static int local_convert(struct lease_backend *b, unsigned int seat,
			 const char *name, enum lease_mode mode,
			 int *ret_again_ms)
{
	(void)b, (void)seat, (void)name, (void)mode;
	*ret_again_ms = 0;
	return 0;
}

static int local_release(struct lease_backend *b, unsigned int seat,
			 const char *name)
{
	(void)b, (void)seat, (void)name;
	return 0;
}

static int local_claim_fd(const struct lease_backend *b)
{
	return ((const struct local *)b)->fd;
}

static void local_leave(struct lease_backend *b)
{
	(void)b; /* the lock goes with its descriptor */
}

static void local_free(struct lease_backend *b)
{
	struct local *l = local_of(b);

	if (l->fd >= 0)
		close(l->fd);
	free(l);
}

static const struct lease_backend_ops local_ops = {
	.join = local_join,
	.cancel = local_cancel,
	.take = local_take,
	.convert = local_convert,
	.release = local_release,
	.claim_fd = local_claim_fd,
	.leave = local_leave,
	.free = local_free,
};

static int local_claim(struct local *l, const struct lease_holder_options *o)
{
	int r;

	r = lock_file_open(o->space, o->read_only, &l->fd);
	if (r < 0)
		return r;
	r = refuse_shared_fs(l->fd, o->space->lock_path);
	if (r < 0)
		return r;
	return ofd_lock(l->fd, o->read_only ? F_RDLCK : F_WRLCK, 0, 0,
			o->busy_wait_ms);
}

int local_backend_open(const struct lease_holder_options *o,
		       struct lease_backend **ret_backend)
{
	struct local *l = xcalloc(1, sizeof(*l));
	int r;

	l->base.ops = &local_ops;
	l->base.seats = 1;
	l->space = *o->space;
	l->host_id = o->host_id ? o->host_id : 1;
	l->read_only = o->read_only;
	l->fd = -1;
	r = local_claim(l, o);
	if (r < 0) {
		local_free(&l->base);
		return r;
	}
	*ret_backend = &l->base;
	return 0;
}
