/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Turns at the domain lease.
 *
 * A sanlock lease is a good sign of ownership and a bad mutex, so this host
 * takes it once for all verbs that want it now, keeps it a little after the
 * last one, and after a long stretch takes no new work, so that other hosts
 * get theirs. One thread takes and gives; verbs wait on the condition. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/cond.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/model.h"

#define LINGER_MS 500	 /* kept after the last change */
#define STRETCH_MS 2000	 /* takes no new work after this */
#define STAND_BACK_MS 60 /* longer than another host's retry */
#define TAKE_MS 1000	 /* one try */

/* When this thread's verb came in. */
static __thread uint64_t entered;

struct turn {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	pthread_t thread;
	bool stop;
	bool held;
	bool failed;	      /* the last try; error says why */
	uint64_t tries;	      /* how many have ended */
	unsigned int users;   /* verbs that are in */
	unsigned int waiting; /* verbs that want in */
	uint64_t since;	      /* when it was taken */
	uint64_t idle_since;  /* when the last user left */
	uint64_t not_before;  /* standing back until then */
	int error;
	char text[256];
};

/* A verb that hangs keeps the lease from the others anyway, so after as long
 * again its host may as well use it. */
static bool takes_work(const struct turn *t)
{
	uint64_t age = now_ms() - t->since;

	return t->held &&
	       (age < STRETCH_MS || (t->users && age > 2 * STRETCH_MS));
}

/* The lease is fresh: is what we know still the truth? */
static int look_around(struct domain *d)
{
	struct lease_member m;
	bool all = false;
	struct txn_id self;
	int r;

	lease_member(d->door, &m);
	self = (struct txn_id){ .host = m.host_id, .generation = m.generation };
	r = changes_begin_turn(d->changes, &self, &all);
	if (r == 0 && all)
		r = load_domain(d) ?: changes_settle(d->changes);
	return r;
}

/* Without the mutex: it may wait for the storage. */
static int take(struct domain *d)
{
	struct lease_ref ref;
	int r;

	lease_ref_domain(&d->space, &ref);
	r = lease_take(d->door, &ref, LEASE_EXCLUSIVE, false,
		       now_ms() + TAKE_MS);
	if (r < 0)
		return r;
	r = look_around(d);
	if (r < 0)
		(void)lease_release(d->door, ref.name);
	return r;
}

static void try_take(struct domain *d, struct turn *t)
{
	int r;

	pthread_mutex_unlock(&t->mutex);
	r = take(d);
	pthread_mutex_lock(&t->mutex);
	t->held = r == 0;
	t->failed = r < 0;
	t->tries++;
	t->error = r;
	if (r < 0)
		snprintf(t->text, sizeof(t->text), "%s", err_text(r));
	t->since = t->idle_since = now_ms();
	pthread_cond_broadcast(&t->cond);
}

static void give(struct domain *d, struct turn *t)
{
	struct lease_ref ref;
	int r;

	t->held = false;
	pthread_mutex_unlock(&t->mutex);
	lease_ref_domain(&d->space, &ref);
	r = lease_release(d->door, ref.name);
	if (r < 0)
		log_error("domain lease: release: %s", err_text(r));
	pthread_mutex_lock(&t->mutex);
	t->not_before = now_ms() + STAND_BACK_MS;
}

/* What to do next: returns the time to look again. */
static uint64_t step(struct domain *d, struct turn *t)
{
	uint64_t now = now_ms();

	if (!t->held && !t->waiting)
		return now + 3600 * 1000;
	if (!t->held && now < t->not_before)
		return t->not_before;
	if (!t->held) {
		try_take(d, t);
		return now_ms() + (t->held ? LINGER_MS : 10);
	}
	if (t->users)
		return now + 3600 * 1000;
	if (now < t->idle_since + LINGER_MS && takes_work(t))
		return t->idle_since + LINGER_MS;
	if (t->waiting && takes_work(t))
		return now + LINGER_MS;
	give(d, t);
	return now;
}

static void *turn_thread(void *arg)
{
	struct domain *d = arg;
	struct turn *t = d->turn;

	pthread_mutex_lock(&t->mutex);
	while (!t->stop || t->users) {
		uint64_t at = step(d, t);

		if (!t->stop && at > now_ms())
			cond_wait_until(&t->cond, &t->mutex, at);
		else if (t->stop && t->users)
			pthread_cond_wait(&t->cond, &t->mutex);
	}
	if (t->held)
		give(d, t);
	pthread_mutex_unlock(&t->mutex);
	return NULL;
}

int turn_open(struct domain *d)
{
	struct turn *t = xcalloc(1, sizeof(*t));

	pthread_mutex_init(&t->mutex, NULL);
	cond_init(&t->cond);
	d->turn = t;
	if (pthread_create(&t->thread, NULL, turn_thread, d)) {
		d->turn = NULL;
		free(t);
		return err_new(-EAGAIN, "no thread for the domain lease");
	}
	return 0;
}

void turn_close(struct domain *d)
{
	struct turn *t = d->turn;

	if (!t)
		return;
	pthread_mutex_lock(&t->mutex);
	t->stop = true;
	pthread_cond_broadcast(&t->cond);
	pthread_mutex_unlock(&t->mutex);
	pthread_join(t->thread, NULL);
	pthread_cond_destroy(&t->cond);
	pthread_mutex_destroy(&t->mutex);
	free(t);
	d->turn = NULL;
}

/* What the last try said, or that there was none in time. */
static int refusal(const struct turn *t, uint64_t tries_before)
{
	if (t->tries > tries_before && t->failed)
		return err_new(t->error, "%s", t->text);
	return err_new(-EAGAIN, "the domain lease was not to be had in time");
}

int turn_enter(struct domain *d, uint64_t deadline)
{
	struct turn *t = d->turn;
	uint64_t tries;
	int r;

	r = domain_may_change(d);
	if (r < 0 && r != -EAGAIN)
		return r;
	auto_unlock(guard, &t->mutex);
	tries = t->tries;
	t->waiting++;
	pthread_cond_broadcast(&t->cond);
	while (!takes_work(t) && !t->stop && now_ms() < deadline)
		cond_wait_until(&t->cond, &t->mutex, deadline);
	t->waiting--;
	if (!takes_work(t))
		return refusal(t, tries);
	t->users++;
	entered = now_ms();
	return 0;
}

void turn_leave(struct domain *d)
{
	struct turn *t = d->turn;
	auto_unlock(guard, &t->mutex);

	t->idle_since = now_ms();
	/* One that hung has come back: the others' time is overdue. */
	if (t->idle_since - entered > STRETCH_MS)
		t->since = t->idle_since - STRETCH_MS;
	if (--t->users == 0)
		pthread_cond_broadcast(&t->cond);
}
