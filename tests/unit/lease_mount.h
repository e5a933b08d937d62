/* SPDX-License-Identifier: GPL-2.0-or-later */
/* For the tests of the lease floor: a domain's lease files in a directory of
 * their own, and a mount: holder, serving thread and door in one process. */
#ifndef LEASE_MOUNT_H
#define LEASE_MOUNT_H

#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include <cmocka.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/lease.h"
#include "ovstorfs/str.h"

#include "../../backend/lease/internal.h"

static char dir[256];
static struct lease_space space;

#define VOLUMES 8 /* lease areas for volumes, behind those of the hosts */

static inline void make_file(const char *name, uint64_t size, char *ret_path)
{
	int fd;

	snprintf(ret_path, PATH_MAX, "%s/%s", dir, name);
	fd = open(ret_path, O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	close(fd);
}

static inline int setup_space(void **state)
{
	(void)state;
	snprintf(dir, sizeof(dir), "%s/test_lease.XXXXXX",
		 getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
	assert_non_null(mkdtemp(dir));
	memset(&space, 0, sizeof(space));
	strcpy(space.name, "6f9619ff-8b86-d011-b42d-00cf4fc964ff");
	make_file("ids", LEASE_AREA, space.ids_path);
	make_file("leases", (1ull + LEASE_MAX_HOSTS + VOLUMES) * LEASE_AREA,
		  space.leases_path);
	make_file("domain", 4096, space.lock_path);
	space.io_timeout = 1;
	assert_int_equal(lease_space_format(&space), 0);
	return 0;
}

static inline int teardown_space(void **state)
{
	char cmd[512];

	(void)state;
	snprintf(cmd, sizeof(cmd), "rm -rf '%s'", dir);
	return system(cmd);
}

static inline void volume_ref(unsigned int i, struct lease_ref *ref)
{
	memset(ref, 0, sizeof(*ref));
	snprintf(ref->name, sizeof(ref->name), "volume-%u", i);
	strcpy(ref->path, space.leases_path);
	ref->offset = (uint64_t)(1 + LEASE_MAX_HOSTS + i) * LEASE_AREA;
}

/* ---- a mount: holder, serving thread and door in one process ---- */

struct mount {
	struct lease_holder *holder;
	struct lease_door *door;
	pthread_t server;
	int sock;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	unsigned int changes;
};

static inline void mount_changed(void *arg)
{
	struct mount *m = arg;

	pthread_mutex_lock(&m->lock);
	m->changes++;
	pthread_cond_broadcast(&m->cond);
	pthread_mutex_unlock(&m->lock);
}

static inline void *serve_thread(void *arg)
{
	struct mount *m = arg;

	lease_holder_serve(m->holder, m->sock);
	close(m->sock);
	return NULL;
}

static inline void mount_open_door(struct mount *m)
{
	int pair[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) < 0)
		abort();
	m->sock = pair[0];
	pthread_create(&m->server, NULL, serve_thread, m);
	if (lease_door_open(pair[1], mount_changed, m, &m->door) < 0)
		abort();
}

static inline void mount_close_door(struct mount *m)
{
	lease_door_close(m->door);
	pthread_join(m->server, NULL);
}

static inline int mount_start(struct mount *m,
			      const struct lease_holder_options *o)
{
	int r;

	memset(m, 0, sizeof(*m));
	pthread_mutex_init(&m->lock, NULL);
	cond_init(&m->cond);
	r = lease_holder_start(o, &m->holder);
	if (r == 0)
		mount_open_door(m);
	return r;
}

static inline void mount_stop(struct mount *m)
{
	mount_close_door(m);
	lease_holder_stop(m->holder);
}

/* Wait for a member state other than from; returns it. */
static inline struct lease_member mount_wait(struct mount *m,
					     enum lease_state from, int ms)
{
	uint64_t until = now_ms() + (uint64_t)ms;
	struct lease_member member;

	pthread_mutex_lock(&m->lock);
	do
		lease_member(m->door, &member);
	while (member.state == from &&
	       cond_wait_until(&m->cond, &m->lock, until));
	pthread_mutex_unlock(&m->lock);
	lease_member(m->door, &member);
	return member;
}

static inline void scribble(const char *path, uint64_t offset)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);
	char c;

	assert_int_equal(pread(fd, &c, 1, (off_t)offset), 1);
	c ^= 1;
	assert_int_equal(pwrite(fd, &c, 1, (off_t)offset), 1);
	fsync(fd);
	close(fd);
}

static inline struct lease_holder_options local_options(void)
{
	return (struct lease_holder_options){ .locks = LEASE_LOCKS_LOCAL,
					      .space = &space };
}

#endif
