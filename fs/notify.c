/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Invalidations to the kernel: one queue, one thread, and nobody waits for
 * them, since the kernel holds a directory's lock while a verb in it is
 * pending and would wait for us in turn. */
#include "ovstorfs/fuse.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

struct note {
	uint64_t ino;
	char name[UUID_TEXT]; /* "": the node itself */
	STAILQ_ENTRY(note) link;
};

struct notify {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	pthread_t thread;
	STAILQ_HEAD(, note) queue;
	bool stop;
};

static void send_note(struct server *s, const struct note *n)
{
	/* -ENOENT: the kernel does not know it, which is as good. */
	if (n->name[0])
		(void)fuse_lowlevel_notify_inval_entry(
			s->session, n->ino, n->name, strlen(n->name));
	else
		(void)fuse_lowlevel_notify_inval_inode(s->session, n->ino, 0,
						       0);
}

static void *notify_thread(void *arg)
{
	struct server *s = arg;
	struct notify *q = s->notify;
	struct note *n;

	pthread_mutex_lock(&q->mutex);
	for (;;) {
		while (!(n = STAILQ_FIRST(&q->queue)) && !q->stop)
			pthread_cond_wait(&q->cond, &q->mutex);
		if (!n || q->stop)
			break;
		STAILQ_REMOVE_HEAD(&q->queue, link);
		pthread_mutex_unlock(&q->mutex);
		send_note(s, n);
		free(n);
		pthread_mutex_lock(&q->mutex);
	}
	pthread_mutex_unlock(&q->mutex);
	return NULL;
}

int notify_open(struct server *s)
{
	struct notify *q = xcalloc(1, sizeof(*q));

	pthread_mutex_init(&q->mutex, NULL);
	pthread_cond_init(&q->cond, NULL);
	STAILQ_INIT(&q->queue);
	s->notify = q;
	if (pthread_create(&q->thread, NULL, notify_thread, s)) {
		s->notify = NULL;
		free(q);
		return err_new(-EAGAIN, "no thread for invalidations");
	}
	return 0;
}

void notify_close(struct server *s)
{
	struct notify *q = s->notify;
	struct note *n;

	pthread_mutex_lock(&q->mutex);
	q->stop = true;
	pthread_cond_signal(&q->cond);
	pthread_mutex_unlock(&q->mutex);
	pthread_join(q->thread, NULL);
	while ((n = STAILQ_FIRST(&q->queue))) {
		STAILQ_REMOVE_HEAD(&q->queue, link);
		free(n);
	}
	pthread_cond_destroy(&q->cond);
	pthread_mutex_destroy(&q->mutex);
	free(q);
	s->notify = NULL;
}

static void add(struct server *s, uint64_t ino, const char *name)
{
	struct notify *q = s->notify;
	struct note *n = xcalloc(1, sizeof(*n));

	n->ino = ino;
	if (name)
		strcpy(n->name, name);
	pthread_mutex_lock(&q->mutex);
	STAILQ_INSERT_TAIL(&q->queue, n, link);
	pthread_cond_signal(&q->cond);
	pthread_mutex_unlock(&q->mutex);
}

void notify_inode(struct server *s, uint64_t ino)
{
	add(s, ino, NULL);
}

void notify_entry(struct server *s, uint64_t dir, const char *name)
{
	add(s, dir, name);
}

static uint64_t number(const struct uuid *u, enum node_kind kind)
{
	return (uuid_hash(u) & ~7ull) | kind;
}

/* Both what it is and where it is listed; an image also by what it shows,
 * which is another thing in the trash. */
void notify_change(void *server, enum change c, const struct ref *ref)
{
	struct server *s = server;
	char name[UUID_TEXT];

	if (uuid_is_nil(&ref->image))
		return;
	if (ref_is_volume(ref)) {
		uint64_t dir = number(&ref->image, NODE_VOLUMES);

		notify_inode(s, number(&ref->volume, NODE_VOLUME));
		notify_inode(s, dir);
		if (c == CHANGE_ENTRY)
			notify_entry(s, dir,
				     uuid_format(&ref->volume, name));
		return;
	}
	notify_inode(s, NODE_IMAGES);
	notify_inode(s, NODE_TRASH);
	notify_inode(s, number(&ref->image, NODE_IMAGE));
	notify_entry(s, number(&ref->image, NODE_IMAGE), OVSTORFS_VOLUMES);
	notify_entry(s, number(&ref->image, NODE_IMAGE), "deleted");
	notify_entry(s, number(&ref->image, NODE_IMAGE), "expires");
	if (c != CHANGE_ENTRY)
		return;
	uuid_format(&ref->image, name);
	notify_entry(s, NODE_IMAGES, name);
	notify_entry(s, NODE_TRASH, name);
}
