/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Owner, mode and times as set on this mount. libvirt sets them at every
 * start of a guest; they are not kept on the storage. */
#include "ovstorfs/fuse.h"

#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

/* Caller has the lock. */
static struct node_override *find(struct server *s, uint64_t ino)
{
	size_t cursor = 0;

	return map_find(&s->overrides, ino, &cursor);
}

static struct node_override *find_or_add(struct server *s, uint64_t ino,
					 const struct stat *now)
{
	struct node_override *o = find(s, ino);

	if (o)
		return o;
	o = xcalloc(1, sizeof(*o));
	o->ino = ino;
	o->uid = now->st_uid;
	o->gid = now->st_gid;
	map_add(&s->overrides, ino, o);
	return o;
}

static struct timespec time_to_set(const struct timespec *given, bool now)
{
	struct timespec t = *given;

	if (now)
		clock_gettime(CLOCK_REALTIME, &t);
	return t;
}

void override_set(struct server *s, uint64_t ino, const struct stat *st,
		  int to_set, const struct timespec *file_mtime)
{
	struct node_override *o;
	struct node n;
	struct stat now;

	if (node_find(s, ino, &n) < 0)
		return;
	node_stat(s, &n, &now);
	auto_unlock(guard, &s->overrides_lock);
	o = find_or_add(s, ino, &now);
	if (to_set & FUSE_SET_ATTR_UID)
		o->uid = st->st_uid;
	if (to_set & FUSE_SET_ATTR_GID)
		o->gid = st->st_gid;
	if (to_set & (FUSE_SET_ATTR_UID | FUSE_SET_ATTR_GID))
		o->has_owner = true;
	if (to_set & FUSE_SET_ATTR_MODE) {
		o->has_mode = true;
		o->mode = st->st_mode & 0777;
	}
	if (to_set & (FUSE_SET_ATTR_ATIME | FUSE_SET_ATTR_MTIME)) {
		if (!o->has_times) {
			o->atime = now.st_atim;
			o->mtime = now.st_mtim;
		}
		o->has_times = true;
		o->file_mtime = *file_mtime;
	}
	if (to_set & FUSE_SET_ATTR_ATIME)
		o->atime = time_to_set(&st->st_atim,
				       to_set & FUSE_SET_ATTR_ATIME_NOW);
	if (to_set & FUSE_SET_ATTR_MTIME)
		o->mtime = time_to_set(&st->st_mtim,
				       to_set & FUSE_SET_ATTR_MTIME_NOW);
}

static bool same_time(const struct timespec *a, const struct timespec *b)
{
	return a->tv_sec == b->tv_sec && a->tv_nsec == b->tv_nsec;
}

void override_apply(struct server *s, uint64_t ino, struct stat *st)
{
	struct node_override *o;
	auto_unlock(guard, &s->overrides_lock);

	o = find(s, ino);
	if (!o)
		return;
	if (o->has_owner) {
		st->st_uid = o->uid;
		st->st_gid = o->gid;
	}
	if (o->has_mode)
		st->st_mode = (st->st_mode & S_IFMT) | o->mode;
	if (!o->has_times)
		return;
	st->st_atim = o->atime;
	/* Bytes written since then count for more. */
	if (same_time(&o->file_mtime, &st->st_mtim))
		st->st_mtim = o->mtime;
}

void override_drop(struct server *s, uint64_t ino)
{
	struct node_override *o;
	auto_unlock(guard, &s->overrides_lock);

	o = find(s, ino);
	if (!o)
		return;
	map_del(&s->overrides, ino, o);
	free(o);
}

void override_fini(struct server *s)
{
	struct node_override *o;
	size_t cursor = 0;

	while ((o = map_each(&s->overrides, &cursor)))
		free(o);
	map_fini(&s->overrides);
}
