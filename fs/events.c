/* SPDX-License-Identifier: GPL-2.0-or-later */
/* .ovstorfs/events: the last lines are kept in a ring; a reader has a place in
 * it. One that is too slow loses lines, and is told how many. A read that
 * finds nothing is kept and answered when something happens, so that it costs
 * no thread. */
#include "ovstorfs/events.h"

#include <json-c/json.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/queue.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fuse.h"
#include "ovstorfs/str.h"

#define LINES 1024

/* A read that waits. */
struct reader {
	fuse_req_t req;
	struct openfile *file;
	size_t size;
	TAILQ_ENTRY(reader) link;
};

struct poller {
	struct fuse_pollhandle *handle;
	TAILQ_ENTRY(poller) link;
};

struct events {
	pthread_mutex_t mutex;
	char *lines[LINES];
	uint64_t next; /* number of the line to come */
	TAILQ_HEAD(, reader) readers;
	TAILQ_HEAD(, poller) pollers;
};

int events_open(struct server *s)
{
	struct events *e = xcalloc(1, sizeof(*e));

	pthread_mutex_init(&e->mutex, NULL);
	TAILQ_INIT(&e->readers);
	TAILQ_INIT(&e->pollers);
	s->events = e;
	return 0;
}

static void wake_pollers(struct events *e)
{
	struct poller *p;

	while ((p = TAILQ_FIRST(&e->pollers))) {
		TAILQ_REMOVE(&e->pollers, p, link);
		fuse_lowlevel_notify_poll(p->handle);
		fuse_pollhandle_destroy(p->handle);
		free(p);
	}
}

void events_close(struct server *s)
{
	struct events *e = s->events;
	struct reader *r;
	int i;

	while ((r = TAILQ_FIRST(&e->readers))) {
		TAILQ_REMOVE(&e->readers, r, link);
		fuse_req_interrupt_func(r->req, NULL, NULL);
		fuse_reply_err(r->req, ENODEV);
		free(r);
	}
	wake_pollers(e);
	for (i = 0; i < LINES; i++)
		free(e->lines[i]);
	pthread_mutex_destroy(&e->mutex);
	free(e);
	s->events = NULL;
}

uint64_t events_next(struct server *s)
{
	auto_unlock(guard, &s->events->mutex);

	return s->events->next;
}

static char *line_of(const char *event, unsigned int host,
		     const struct ref *ref, int result)
{
	struct json_object *o = json_object_new_object();
	char at[24];
	char *line;

	json_object_object_add(
		o, "time", json_object_new_string(format_time(time(NULL), at)));
	json_object_object_add(o, "host", json_object_new_int((int)host));
	json_object_object_add(o, "event", json_object_new_string(event));
	json_object_object_add(
		o, "object", json_object_new_string(ref ? ref_name(ref) : ""));
	json_object_object_add(
		o, "result",
		json_object_new_string(result < 0 ? err_name(result) : "ok"));
	line = xprintf("%s\n",
		       json_object_to_json_string_ext(
			       o, JSON_C_TO_STRING_SPACED |
					  JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
	return line;
}

/* Whole lines that fit; a line that alone does not fit is cut. */
static size_t fill(struct events *e, struct openfile *f, char *buf, size_t size)
{
	uint64_t oldest = e->next > LINES ? e->next - LINES : 0;
	size_t n = 0;

	if (f->next_event < oldest) {
		n = (size_t)snprintf(
			buf, size,
			"{\"event\": \"lost\", \"lines\": "
			"%llu}\n",
			(unsigned long long)(oldest - f->next_event));
		n = n < size ? n : size;
		f->next_event = oldest;
	}
	while (f->next_event < e->next) {
		const char *line = e->lines[f->next_event % LINES];
		size_t len = strlen(line);

		if (n && len > size - n)
			break;
		len = len < size - n ? len : size - n;
		memcpy(buf + n, line, len);
		n += len;
		f->next_event++;
	}
	return n;
}

/* Caller has the mutex; reader's place in the list is given up. */
static void answer(struct events *e, struct reader *r)
{
	auto_free char *buf = xcalloc(1, r->size + 1);
	size_t n = fill(e, r->file, buf, r->size);

	fuse_reply_buf(r->req, buf, n);
}

static void wake_readers(struct events *e)
{
	struct reader *r;
	TAILQ_HEAD(, reader) all;

	TAILQ_INIT(&all);
	TAILQ_CONCAT(&all, &e->readers, link);
	while ((r = TAILQ_FIRST(&all))) {
		TAILQ_REMOVE(&all, r, link);
		answer(e, r);
		free(r);
	}
}

void events_add(void *server, const char *event, unsigned int host,
		const struct ref *ref, int result)
{
	struct server *s = server;
	struct events *e = s->events;
	char *line = line_of(event, host, ref, result);

	pthread_mutex_lock(&e->mutex);
	free(e->lines[e->next % LINES]);
	e->lines[e->next % LINES] = line;
	e->next++;
	wake_readers(e);
	wake_pollers(e);
	pthread_mutex_unlock(&e->mutex);
}

/* libfuse calls it with the request held, so the reader cannot go. */
static void on_interrupt(fuse_req_t req, void *data)
{
	struct server *s = data;
	struct events *e = s->events;
	struct reader *r;
	auto_unlock(guard, &e->mutex);

	TAILQ_FOREACH(r, &e->readers, link)
	if (r->req == req)
		break;
	if (!r)
		return;
	TAILQ_REMOVE(&e->readers, r, link);
	fuse_reply_err(req, EINTR);
	free(r);
}

void events_read(struct server *s, struct fuse_req *req, struct openfile *f,
		 size_t size, bool may_wait)
{
	struct events *e = s->events;
	struct reader *r = xcalloc(1, sizeof(*r));

	r->req = req;
	r->file = f;
	r->size = size;
	/* Before it stands in the list, where anybody may answer it. */
	fuse_req_interrupt_func(req, on_interrupt, s);
	auto_unlock(guard, &e->mutex);
	if (f->next_event < e->next) {
		answer(e, r);
	} else if (!may_wait || fuse_req_interrupted(req)) {
		fuse_reply_err(req, may_wait ? EINTR : EAGAIN);
	} else {
		TAILQ_INSERT_TAIL(&e->readers, r, link);
		return;
	}
	free(r);
}

void events_poll(struct server *s, struct fuse_req *req, struct openfile *f,
		 struct fuse_pollhandle *ph)
{
	struct events *e = s->events;
	struct poller *p;
	bool ready;
	auto_unlock(guard, &e->mutex);

	ready = f->next_event < e->next;
	if (ph && !ready) {
		p = xcalloc(1, sizeof(*p));
		p->handle = ph;
		TAILQ_INSERT_TAIL(&e->pollers, p, link);
	} else if (ph) {
		fuse_pollhandle_destroy(ph);
	}
	fuse_reply_poll(req, ready ? POLLIN : 0);
}
