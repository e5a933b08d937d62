/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Invalidations to the kernel: one queue, one thread, and nobody waits for
 * them.
 *
 * Of nodes only, never of names: to forget a name the kernel takes the lock of
 * its directory, which a pending verb holds, and a thread that waits for it
 * cannot be killed. A server that died so would never be reaped, while the
 * verb waits for the next server. Names are believed for a second instead. */
#include "ovstorfs/fuse.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

struct note {
	uint64_t ino;
	STAILQ_ENTRY(note) link;
};

struct notify {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	pthread_t thread;
	STAILQ_HEAD(, note) queue;
	bool stop;
};

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
		/* -ENOENT: the kernel does not know it, which is as good. An
		 * offset below 0 leaves pages alone: there are none. */
		(void)fuse_lowlevel_notify_inval_inode(s->session, n->ino, -1,
						       0);
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

void notify_inode(struct server *s, uint64_t ino)
{
	struct notify *q = s->notify;
	struct note *n = xcalloc(1, sizeof(*n));

	n->ino = ino;
	pthread_mutex_lock(&q->mutex);
	STAILQ_INSERT_TAIL(&q->queue, n, link);
	pthread_cond_signal(&q->cond);
	pthread_mutex_unlock(&q->mutex);
}

static uint64_t number(const struct uuid *u, enum node_kind kind)
{
	return (uuid_hash(u) & ~7ull) | kind;
}

void notify_change(void *server, const struct ref *ref)
{
	struct server *s = server;

	if (uuid_is_nil(&ref->image))
		return;
	if (ref_is_volume(ref)) {
		notify_inode(s, number(&ref->volume, NODE_VOLUME));
		notify_inode(s, number(&ref->image, NODE_VOLUMES));
	} else {
		notify_inode(s, NODE_IMAGES);
		notify_inode(s, NODE_TRASH);
		notify_inode(s, number(&ref->image, NODE_IMAGE));
	}
}
