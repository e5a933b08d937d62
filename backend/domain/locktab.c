/* SPDX-License-Identifier: GPL-2.0-or-later */
/* This process's locks. All requests stand in one queue; one is granted when
 * no earlier request for the same thing is in its way. A mount has few verbs
 * at work at once, so the queue is short. */
#include "ovstorfs/auto.h"
#include "ovstorfs/cond.h"
#include "ovstorfs/err.h"
#include "ovstorfs/locktab.h"

void locktab_init(struct locktab *t)
{
	pthread_mutex_init(&t->mutex, NULL);
	cond_init(&t->cond);
	TAILQ_INIT(&t->queue);
}

void locktab_fini(struct locktab *t)
{
	pthread_cond_destroy(&t->cond);
	pthread_mutex_destroy(&t->mutex);
}

static bool conflicts(const struct lock *a, const struct lock *b)
{
	return a->rank == b->rank && uuid_eq(&a->id, &b->id) &&
	       (a->exclusive || b->exclusive);
}

static bool may_have(struct locktab *t, const struct lock *l)
{
	const struct lock *e;

	TAILQ_FOREACH(e, &t->queue, link)
	{
		if (e == l)
			return true;
		if (conflicts(e, l))
			return false;
	}
	return true;
}

int locktab_take(struct locktab *t, struct lock *l, uint64_t deadline)
{
	auto_unlock(guard, &t->mutex);
	bool in_time = true;

	l->granted = false;
	TAILQ_INSERT_TAIL(&t->queue, l, link);
	while (!may_have(t, l) && in_time)
		in_time = cond_wait_until(&t->cond, &t->mutex, deadline);
	l->granted = may_have(t, l);
	if (l->granted)
		return 0;
	TAILQ_REMOVE(&t->queue, l, link);
	pthread_cond_broadcast(&t->cond);
	return err_new(-EAGAIN, "another operation on it goes on");
}

void locktab_release(struct locktab *t, struct lock *l)
{
	auto_unlock(guard, &t->mutex);

	TAILQ_REMOVE(&t->queue, l, link);
	l->granted = false;
	pthread_cond_broadcast(&t->cond);
}
