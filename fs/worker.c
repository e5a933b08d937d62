/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Pools of threads for verbs, and the watch that answers late callers. */
#include "ovstorfs/fuse.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/cond.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/str.h"
#include "ovstorfs/server.h"
#include "ovstorfs/worker.h"

#define INTERRUPT_GRACE_MS 1000

/* What only waits gives up at the deadline by itself, with a reason. */
#define LATE_MS 250

struct pool {
	struct server *server;
	pthread_mutex_t mutex;
	pthread_cond_t work, quiet;
	STAILQ_HEAD(, verb) queue;
	unsigned int base;    /* threads when nobody is stuck */
	unsigned int threads; /* that exist */
	unsigned int idle;
	unsigned int stuck; /* whose caller was answered by the watch */
	bool stop;
};

struct watch {
	pthread_mutex_t mutex;
	pthread_cond_t cond;
	pthread_t thread;
	TAILQ_HEAD(, verb) verbs;
	uint64_t next; /* when it looks again by itself */
	bool stop;
};

/* ---- verbs ---- */

struct verb *verb_new(struct server *s, fuse_req_t req, const char *what,
		      void (*run)(struct verb *v))
{
	struct verb *v = xcalloc(1, sizeof(*v));

	v->server = s;
	v->req = req;
	v->run = run;
	v->what = what;
	v->by.uid = fuse_req_ctx(req)->uid;
	v->by.deadline = now_ms() + s->options->verb_timeout * 1000;
	v->started = now_us();
	return v;
}

static void verb_free(struct verb *v)
{
	free(v->name);
	free(v->name2);
	free(v->data);
	free(v);
}

static void on_interrupt(fuse_req_t req, void *data)
{
	struct verb *v = data;
	struct watch *w = v->server->watch;

	(void)req;
	pthread_mutex_lock(&w->mutex);
	v->interrupted = now_ms();
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->mutex);
}

static bool claim_answer(struct verb *v)
{
	auto_unlock(guard, &v->server->watch->mutex);

	if (v->answered)
		return false;
	v->answered = true;
	return true;
}

bool verb_answers(struct verb *v)
{
	if (!claim_answer(v))
		return false;
	/* Waits for a handler that runs, so that v outlives it. */
	fuse_req_interrupt_func(v->req, NULL, NULL);
	return true;
}

/* Any signal interrupts, and few programs expect EINTR of a file: only who
 * would wait long gets it. */
static uint64_t due_at(const struct verb *v)
{
	uint64_t grace = v->interrupted + INTERRUPT_GRACE_MS;
	uint64_t late = v->by.deadline == UINT64_MAX ? UINT64_MAX :
						       v->by.deadline + LATE_MS;

	return v->interrupted && grace < late ? grace : late;
}

static void watch_add(struct watch *w, struct verb *v)
{
	auto_unlock(guard, &w->mutex);

	TAILQ_INSERT_TAIL(&w->verbs, v, watched);
	if (due_at(v) < w->next)
		pthread_cond_broadcast(&w->cond);
}

static void watch_del(struct watch *w, struct verb *v)
{
	auto_unlock(guard, &w->mutex);

	while (v->answering)
		pthread_cond_wait(&w->cond, &w->mutex);
	TAILQ_REMOVE(&w->verbs, v, watched);
}

/* ---- pools ---- */

static void *pool_thread(void *arg);

/* Caller has the mutex. */
static int add_thread(struct pool *p)
{
	pthread_t t;

	if (pthread_create(&t, NULL, pool_thread, p))
		return err_new(-EAGAIN, "no thread for requests");
	pthread_detach(t);
	p->threads++;
	return 0;
}

/* A verb's caller was answered while its thread goes on: another thread takes
 * the place. Caller has the watch's mutex. */
static void pool_add_stuck(struct pool *p)
{
	auto_unlock(guard, &p->mutex);

	p->stuck++;
	p->server->counters.stuck++;
	(void)add_thread(p);
}

static struct verb *next_verb(struct pool *p)
{
	struct verb *v;
	auto_unlock(guard, &p->mutex);

	p->idle++;
	if (p->idle == p->threads)
		pthread_cond_broadcast(&p->quiet);
	while (STAILQ_EMPTY(&p->queue) && !p->stop &&
	       p->threads <= p->base + p->stuck)
		pthread_cond_wait(&p->work, &p->mutex);
	p->idle--;
	v = STAILQ_FIRST(&p->queue);
	if (v && p->threads <= p->base + p->stuck) {
		STAILQ_REMOVE_HEAD(&p->queue, queued);
		return v;
	}
	p->threads--;
	pthread_cond_broadcast(&p->quiet);
	return NULL;
}

static bool begin(struct verb *v)
{
	auto_unlock(guard, &v->server->watch->mutex);

	v->begun = true;
	return !v->answered;
}

static void finish(struct pool *p, struct verb *v)
{
	struct counters *c = &p->server->counters;

	watch_del(p->server->watch, v);
	c->verbs++;
	c->verb_us += now_us() - v->started;
	if (v->late) {
		pthread_mutex_lock(&p->mutex);
		p->stuck--;
		c->stuck--;
		pthread_mutex_unlock(&p->mutex);
		log_warn("%s: came to its end after its caller was answered",
			 v->what);
	}
	verb_free(v);
}

static void *pool_thread(void *arg)
{
	struct pool *p = arg;
	struct verb *v;

	while ((v = next_verb(p))) {
		err_clear();
		if (begin(v))
			v->run(v);
		finish(p, v);
	}
	return NULL;
}

void verb_start(struct verb *v, struct pool *p)
{
	v->pool = p;
	fuse_req_interrupt_func(v->req, on_interrupt, v);
	watch_add(p->server->watch, v);
	pthread_mutex_lock(&p->mutex);
	STAILQ_INSERT_TAIL(&p->queue, v, queued);
	pthread_cond_signal(&p->work);
	pthread_mutex_unlock(&p->mutex);
}

int pool_open(struct server *s, unsigned int threads, struct pool **ret_pool)
{
	struct pool *p = xcalloc(1, sizeof(*p));
	int r = 0;

	p->server = s;
	p->base = threads;
	pthread_mutex_init(&p->mutex, NULL);
	pthread_cond_init(&p->work, NULL);
	pthread_cond_init(&p->quiet, NULL);
	STAILQ_INIT(&p->queue);
	*ret_pool = p;
	pthread_mutex_lock(&p->mutex);
	while (p->threads < threads && r == 0)
		r = add_thread(p);
	pthread_mutex_unlock(&p->mutex);
	return r;
}

void pool_close(struct pool *p)
{
	pthread_mutex_lock(&p->mutex);
	p->stop = true;
	pthread_cond_broadcast(&p->work);
	while (p->threads > p->stuck)
		pthread_cond_wait(&p->quiet, &p->mutex);
	pthread_mutex_unlock(&p->mutex);
	/* A stuck thread may still come back to it. */
	if (p->threads)
		return;
	pthread_cond_destroy(&p->quiet);
	pthread_cond_destroy(&p->work);
	pthread_mutex_destroy(&p->mutex);
	free(p);
}

/* ---- the watch ---- */

/* Answer v in its place. Caller has the watch's mutex, which is dropped while
 * libfuse is called. */
static void answer_for(struct watch *w, struct verb *v)
{
	struct server *s = v->server;
	int code = v->interrupted ? EINTR : v->begun ? ETIMEDOUT : EAGAIN;
	fuse_req_t req = v->req;

	v->answered = true;
	if (v->begun) {
		v->late = true;
		pool_add_stuck(v->pool);
	}
	if (code == EINTR)
		s->counters.interrupted++;
	else
		s->counters.timed_out++;
	/* The handler of an interrupt takes the mutex and uses v, so both are
	 * there until it is turned off. */
	v->answering = true;
	pthread_mutex_unlock(&w->mutex);
	if (code != EINTR)
		log_warn("%s: no end after %llu s (%s)", v->what,
			 (unsigned long long)s->options->verb_timeout,
			 err_name(-code));
	fuse_req_interrupt_func(req, NULL, NULL);
	fuse_reply_err(req, code);
	pthread_mutex_lock(&w->mutex);
	v->answering = false;
	pthread_cond_broadcast(&w->cond);
}

static struct verb *find_due(struct watch *w, uint64_t *ret_next)
{
	uint64_t now = now_ms();
	struct verb *v;

	*ret_next = now + 3600 * 1000;
	TAILQ_FOREACH(v, &w->verbs, watched)
	{
		if (v->answered)
			continue;
		if (now >= due_at(v))
			return v;
		if (due_at(v) < *ret_next)
			*ret_next = due_at(v);
	}
	return NULL;
}

static void *watch_thread(void *arg)
{
	struct watch *w = arg;
	struct verb *v;
	uint64_t next;

	pthread_mutex_lock(&w->mutex);
	while (!w->stop) {
		v = find_due(w, &next);
		if (v) {
			answer_for(w, v);
			continue;
		}
		w->next = next;
		cond_wait_until(&w->cond, &w->mutex, next);
		w->next = 0;
	}
	pthread_mutex_unlock(&w->mutex);
	return NULL;
}

int watch_open(struct server *s)
{
	struct watch *w = xcalloc(1, sizeof(*w));

	pthread_mutex_init(&w->mutex, NULL);
	cond_init(&w->cond);
	TAILQ_INIT(&w->verbs);
	if (pthread_create(&w->thread, NULL, watch_thread, w)) {
		free(w);
		return err_new(-EAGAIN, "no thread for the watch");
	}
	s->watch = w;
	return 0;
}

void watch_close(struct server *s)
{
	struct watch *w = s->watch;

	pthread_mutex_lock(&w->mutex);
	w->stop = true;
	pthread_cond_broadcast(&w->cond);
	pthread_mutex_unlock(&w->mutex);
	pthread_join(w->thread, NULL);
	/* Stuck verbs still stand in its list. */
	if (!TAILQ_EMPTY(&w->verbs))
		return;
	pthread_cond_destroy(&w->cond);
	pthread_mutex_destroy(&w->mutex);
	free(w);
	s->watch = NULL;
}
