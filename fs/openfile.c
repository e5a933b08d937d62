/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Open files, and which way bytes go.
 *
 * The kernel wants one backing file and one way of access for a node as long
 * as it is open: the first open decides, the others follow, the last close
 * lets the backing file go - before the volume is closed, since a lease may
 * only be given up when no way to the file is left. */
#include "ovstorfs/fuse.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/utsname.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/log.h"
#include "ovstorfs/openfile.h"
#include "ovstorfs/str.h"

/* FUSE_DEV_IOC_BACKING_OPEN and _CLOSE, which older kernel headers lack. Not by
 * libfuse's calls, which want a request: a caller who was answered at the
 * deadline has left none. */
struct backing_map {
	int32_t fd;
	uint32_t flags;
	uint64_t padding;
};
#define BACKING_OPEN _IOW(229, 1, struct backing_map)
#define BACKING_CLOSE _IOW(229, 2, uint32_t)

/* A handle goes from one thread to another by way of the kernel, which orders
 * the two; this says so where compilers and sanitizers can see it. */
static atomic_uint published;

/* How a node is open now. */
struct access {
	uint64_t ino;
	unsigned int refs;
	int backing_id; /* 0: direct I/O by way of the server */
};

bool kernel_is_at_least(int major, int minor)
{
	struct utsname u;
	int a = 0, b = 0;

	if (uname(&u) < 0 || sscanf(u.release, "%d.%d", &a, &b) != 2)
		return false;
	return a > major || (a == major && b >= minor);
}

/* Where the kernel takes no such backing file (overlayfs), the bytes go by
 * way of the server, and that is counted. */
static int backing_open(struct server *s, int fd)
{
	struct backing_map map = { .fd = fd };
	int id;

	if (!s->passthrough)
		return 0;
	id = ioctl(fuse_session_fd(s->session), BACKING_OPEN, &map);
	if (id <= 0)
		s->counters.passthrough_refused++;
	return id > 0 ? id : 0;
}

static void backing_close(struct server *s, int id)
{
	uint32_t number = (uint32_t)id;

	if (id && ioctl(fuse_session_fd(s->session), BACKING_CLOSE, &number))
		log_warn("backing file %d: %s", id, strerror(errno));
}

static int access_get(struct server *s, uint64_t ino, int fd)
{
	size_t cursor = 0;
	struct access *a;
	auto_unlock(guard, &s->access_lock);

	a = map_find(&s->access, ino, &cursor);
	if (!a) {
		a = xcalloc(1, sizeof(*a));
		a->ino = ino;
		a->backing_id = backing_open(s, fd);
		map_add(&s->access, ino, a);
	}
	a->refs++;
	return a->backing_id;
}

static void access_put(struct server *s, uint64_t ino)
{
	size_t cursor = 0;
	struct access *a;
	auto_unlock(guard, &s->access_lock);

	a = map_find(&s->access, ino, &cursor);
	if (--a->refs)
		return;
	backing_close(s, a->backing_id);
	map_del(&s->access, ino, a);
	free(a);
}

void access_fini(struct server *s)
{
	map_fini(&s->access);
}

int openfile_volume(struct server *s, const struct caller *by,
		    const struct node *n, bool write, struct fuse_file_info *fi)
{
	const struct ref *ref = &n->volume.ref;
	struct volume_open *vol = NULL;
	struct openfile *f;
	int r, id;

	r = volume_open(s->domain, by, &ref->image, &ref->volume, write, &vol);
	if (r < 0)
		return r;
	f = openfile_new(s, OPEN_VOLUME, n->ino);
	f->volume = vol;
	id = access_get(s, n->ino, vol->fd);
	if (id)
		s->counters.opens_passthrough++;
	else
		s->counters.opens_direct++;
#ifdef HAVE_PASSTHROUGH
	fi->backing_id = id;
#endif
	fi->direct_io = !id;
	fi->parallel_direct_writes = !id;
	fi->fh = openfile_publish(f);
	return 0;
}

struct openfile *openfile_new(struct server *s, enum openfile_kind kind,
			      uint64_t ino)
{
	struct openfile *f = xcalloc(1, sizeof(*f));

	f->server = s;
	f->kind = kind;
	f->ino = ino;
	return f;
}

uint64_t openfile_publish(struct openfile *f)
{
	f->refs = 1;
	atomic_fetch_add(&published, 1);
	return (uint64_t)(uintptr_t)f;
}

struct openfile *openfile_get(uint64_t fh)
{
	struct openfile *f = (struct openfile *)(uintptr_t)fh;

	(void)atomic_load(&published);
	atomic_fetch_add(&f->refs, 1);
	return f;
}

void openfile_put(struct openfile *f)
{
	struct server *s;

	if (!f || atomic_fetch_sub(&f->refs, 1) != 1)
		return;
	s = f->server;
	if (f->kind == OPEN_VOLUME) {
		access_put(s, f->ino);
		volume_close(s->domain, f->volume);
	}
	strbuf_fini(&f->text);
	free(f);
}
