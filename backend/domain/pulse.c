/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The domain's pulse: see pulse.h. */
#include <errno.h>
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/cond.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/pulse.h"

#define BEAT_MS 1000
#define STUCK_MS 5000

struct pulse {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	pthread_t thread;
	bool stop;
	uint64_t total, free;
	const char *level;
	uint64_t last; /* when the storage last answered */
};

static const char *level_of(struct domain *d, uint64_t total, uint64_t avail)
{
	const char *level = "ok";
	uint64_t limit;

	pthread_rwlock_rdlock(&d->tree);
	if (d->meta.warn_free &&
	    threshold_parse(d->meta.warn_free, total, &limit) == 0 &&
	    avail < limit)
		level = "warn";
	if (d->meta.critical_free &&
	    threshold_parse(d->meta.critical_free, total, &limit) == 0 &&
	    avail < limit)
		level = "critical";
	pthread_rwlock_unlock(&d->tree);
	return level;
}

static void beat(struct domain *d)
{
	struct pulse *p = d->pulse;
	uint64_t total = 0, avail = 0;
	const char *level, *before;

	if (storage_space(d->storage, &total, &avail) < 0)
		return;
	level = level_of(d, total, avail);
	pthread_mutex_lock(&p->mutex);
	before = p->level;
	p->total = total;
	p->free = avail;
	p->level = level;
	p->last = now_ms();
	pthread_mutex_unlock(&p->mutex);
	if (before != level && (before || !streq(level, "ok"))) {
		log_warn("%s: free space: %s", d->options.source, level);
		domain_event(d, "space", NULL,
			     streq(level, "ok") ? 0 : -ENOSPC);
	}
}

static void *pulse_thread(void *arg)
{
	struct domain *d = arg;
	struct pulse *p = d->pulse;

	pthread_mutex_lock(&p->mutex);
	while (!p->stop) {
		cond_wait_until(&p->cond, &p->mutex, now_ms() + BEAT_MS);
		pthread_mutex_unlock(&p->mutex);
		beat(d);
		hold_probe(d);
		hold_refresh(d);
		pthread_mutex_lock(&p->mutex);
	}
	pthread_mutex_unlock(&p->mutex);
	return NULL;
}

int pulse_open(struct domain *d)
{
	struct pulse *p = xcalloc(1, sizeof(*p));

	pthread_mutex_init(&p->mutex, NULL);
	cond_init(&p->cond);
	d->pulse = p;
	beat(d);
	if (pthread_create(&p->thread, NULL, pulse_thread, d)) {
		d->pulse = NULL;
		free(p);
		return err_new(-EAGAIN, "no thread for the pulse");
	}
	return 0;
}

void pulse_close(struct domain *d)
{
	struct pulse *p = d->pulse;

	if (!p)
		return;
	pthread_mutex_lock(&p->mutex);
	p->stop = true;
	pthread_cond_signal(&p->cond);
	pthread_mutex_unlock(&p->mutex);
	pthread_join(p->thread, NULL);
	pthread_cond_destroy(&p->cond);
	pthread_mutex_destroy(&p->mutex);
	free(p);
	d->pulse = NULL;
}

bool pulse_is_stuck(struct domain *d)
{
	auto_unlock(guard, &d->pulse->mutex);

	return now_ms() > d->pulse->last + STUCK_MS;
}

void pulse_space(struct domain *d, uint64_t *ret_total, uint64_t *ret_free,
		 const char **ret_level)
{
	auto_unlock(guard, &d->pulse->mutex);

	*ret_total = d->pulse->total;
	*ret_free = d->pulse->free;
	*ret_level = d->pulse->level ? d->pulse->level : "ok";
}
