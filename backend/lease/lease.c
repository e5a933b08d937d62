/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The door: the server's half, all that the domain floor sees of leases.
 *
 * Threads that want one lease queue here, first come first served, and the
 * holder hears of one of them at a time. Whoever reaches the deadline leaves;
 * an answer that is still on its way then belongs to nobody: a grant is given
 * back when it comes, and until it has come the lease is nobody's to ask for.
 * A thread of the door's own reads answers and never waits for anything else;
 * another one calls changed(). */
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/map.h"
#include "ovstorfs/str.h"

#include "internal.h"

#define TRY_MS 5000  /* for an answer to one attempt, or a question */
#define ANSWER_MS 50 /* the holder's answer at the deadline may be under way */

enum phase {
	FREE,
	ASKED, /* a thread waits for the holder */
	HELD,
	GOING, /* an answer is due that nobody waits for */
};

struct waiter {
	struct waiter *next;
};

struct lease {
	char name[LEASE_NAME];
	enum phase phase;
	struct waiter *first, **end; /* the queue */
};

/* A question to the holder. */
struct call {
	struct call *next;
	uint64_t id;
	enum lease_op op;
	struct lease *lease; /* NULL: none */
	struct lease_reply reply;
	bool done;
	bool nobody_waits;
};

struct lease_door {
	int sock;
	void (*changed)(void *arg);
	void *changed_arg;
	pthread_t reader, notifier;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t event; /* anything happened */
	struct lease_member member;
	unsigned int news, news_told; /* member states seen, and told */
	struct map leases;
	unsigned int held;
	struct call *calls;
	uint64_t ids;
	bool closed; /* no holder is there any more */
};

/* ---- the leases that somebody wants or has ---- */

static uint64_t name_key(const char *name)
{
	return crc32c(0, name, strlen(name));
}

static struct lease *lease_find(struct lease_door *d, const char *name)
{
	size_t at = 0;
	struct lease *l;

	while ((l = map_find(&d->leases, name_key(name), &at)))
		if (streq(l->name, name))
			return l;
	return NULL;
}

static struct lease *lease_find_or_add(struct lease_door *d, const char *name)
{
	struct lease *l = lease_find(d, name);

	if (l)
		return l;
	l = xcalloc(1, sizeof(*l));
	text_copy(l->name, sizeof(l->name), name);
	l->end = &l->first;
	map_add(&d->leases, name_key(name), l);
	return l;
}

/* Ends a phase; forgets a lease that nobody wants. */
static void lease_set(struct lease_door *d, struct lease *l, enum phase phase)
{
	d->held += (phase == HELD) - (l->phase == HELD);
	l->phase = phase;
	pthread_cond_broadcast(&d->event);
	if (phase != FREE || l->first)
		return;
	map_del(&d->leases, name_key(l->name), l);
	free(l);
}

static void queue_leave(struct lease *l, struct waiter *w)
{
	struct waiter **p = &l->first;

	while (*p != w)
		p = &(*p)->next;
	*p = w->next;
	if (!*p)
		l->end = p;
}

/* ---- calls ---- */

static void call_unlink(struct lease_door *d, struct call *c)
{
	struct call **p = &d->calls;

	while (*p != c)
		p = &(*p)->next;
	*p = c->next;
}

static struct call *call_send(struct lease_door *d, struct lease *l,
			      struct lease_request *req)
{
	struct call *c = xcalloc(1, sizeof(*c));

	c->id = req->id = ++d->ids;
	c->op = req->op;
	c->lease = l;
	c->next = d->calls;
	d->calls = c;
	/* The holder always reads; if it is stopped, we must not be. */
	if (d->closed ||
	    send(d->sock, req, sizeof(*req), MSG_NOSIGNAL | MSG_DONTWAIT) < 0) {
		c->done = true;
		c->reply.result = -EIO;
		text_copy(c->reply.text, sizeof(c->reply.text),
			  "the lease holder is gone");
	}
	return c;
}

/* Waits; the lock is dropped meanwhile. On -ETIMEDOUT the call, and the phase
 * of its lease, are the reader's. */
static int call_wait(struct lease_door *d, struct call *c, uint64_t deadline,
		     struct lease_reply *ret_reply)
{
	while (!c->done)
		if (!cond_wait_until(&d->event, &d->lock, deadline) && !c->done)
			break;
	if (!c->done) {
		c->nobody_waits = true;
		if (c->lease)
			c->lease->phase = GOING;
		return err_new(-ETIMEDOUT, "sanlock did not answer in time");
	}
	call_unlink(d, c);
	*ret_reply = c->reply;
	free(c);
	if (ret_reply->result < 0)
		return err_new(ret_reply->result, "%s", ret_reply->text);
	return 0;
}

static void request_init(struct lease_request *req, enum lease_op op,
			 const char *name)
{
	memset(req, 0, sizeof(*req));
	req->op = op;
	text_copy(req->ref.name, sizeof(req->ref.name), name);
}

/* An answer that nobody waits for: what was granted goes back. */
static void call_late(struct lease_door *d, struct call *c)
{
	struct lease *l = c->lease;
	struct lease_request req;

	call_unlink(d, c);
	if (l && c->op == LEASE_TAKE && c->reply.result == 0) {
		log_debug(LOG_LEASE, "lease %s: came late, given back",
			  l->name);
		request_init(&req, LEASE_DECLINE, l->name);
		call_send(d, l, &req)->nobody_waits = true;
	} else if (l) {
		lease_set(d, l, FREE);
	}
	free(c);
}

/* ---- the door's threads ---- */

static void got_member(struct lease_door *d, const struct lease_member *m)
{
	d->member = *m;
	d->news++;
	pthread_cond_broadcast(&d->event);
}

static void got_reply(struct lease_door *d, const struct lease_reply *reply)
{
	struct call *c;

	for (c = d->calls; c; c = c->next)
		if (c->id == reply->id && !c->done)
			break;
	if (!c)
		return;
	c->reply = *reply;
	c->done = true;
	if (c->nobody_waits)
		call_late(d, c);
	pthread_cond_broadcast(&d->event);
}

static void got_nothing(struct lease_door *d)
{
	struct lease_member m = d->member;
	struct call *c;

	d->closed = true;
	m.state = LEASE_LOST;
	text_copy(m.error, sizeof(m.error), "the lease holder is gone");
	got_member(d, &m);
	for (c = d->calls; c; c = c->next) {
		c->done = true;
		c->reply.result = -EIO;
		text_copy(c->reply.text, sizeof(c->reply.text), m.error);
	}
}

static void *reader_thread(void *arg)
{
	struct lease_door *d = arg;
	struct lease_reply reply;

	for (;;) {
		ssize_t n = recv(d->sock, &reply, sizeof(reply), 0);
		auto_unlock(guard, &d->lock);

		if (n < 0 && errno == EINTR)
			continue;
		if (n != sizeof(reply)) {
			got_nothing(d);
			return NULL;
		}
		if (reply.id)
			got_reply(d, &reply);
		else
			got_member(d, &reply.member);
	}
}

static void *notifier_thread(void *arg)
{
	struct lease_door *d = arg;
	auto_unlock(guard, &d->lock);

	while (!d->closed || d->news_told != d->news) {
		if (d->news_told == d->news) {
			cond_wait_until(&d->event, &d->lock, UINT64_MAX);
			continue;
		}
		d->news_told = d->news;
		pthread_mutex_unlock(&d->lock);
		if (d->changed)
			d->changed(d->changed_arg);
		pthread_mutex_lock(&d->lock);
	}
	return NULL;
}

int lease_door_open(int sock, void (*changed)(void *arg), void *arg,
		    struct lease_door **ret_door)
{
	struct lease_door *d = xcalloc(1, sizeof(*d));
	int room = 1 << 20;

	d->sock = sock;
	d->changed = changed;
	d->changed_arg = arg;
	d->member.state = LEASE_JOINING;
	setsockopt(sock, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room));
	pthread_mutex_init(&d->lock, NULL);
	cond_init(&d->event);
	/* Before the threads: changed() may come, and use it, at once. */
	*ret_door = d;
	if (pthread_create(&d->reader, NULL, reader_thread, d) != 0 ||
	    pthread_create(&d->notifier, NULL, notifier_thread, d) != 0)
		abort(); /* as without memory */
	return 0;
}

void lease_door_close(struct lease_door *d)
{
	struct lease *l;
	struct call *c;
	size_t at = 0;

	if (!d)
		return;
	shutdown(d->sock, SHUT_RDWR);
	pthread_join(d->reader, NULL);
	pthread_join(d->notifier, NULL);
	close(d->sock);
	while ((l = map_each(&d->leases, &at)))
		free(l);
	while ((c = d->calls)) {
		d->calls = c->next;
		free(c);
	}
	map_fini(&d->leases);
	pthread_cond_destroy(&d->event);
	pthread_mutex_destroy(&d->lock);
	free(d);
}

void lease_member(struct lease_door *d, struct lease_member *ret_member)
{
	auto_unlock(guard, &d->lock);

	*ret_member = d->member;
}

/* ---- take and release ---- */

static int member_error(const struct lease_member *m)
{
	return err_new(-EIO, "%s", m->error);
}

/* What a thread that has waited in vain is told. */
static int waited_in_vain(const struct lease_door *d, const struct lease *l)
{
	if (d->member.state == LEASE_JOINING)
		return err_new(-EAGAIN,
			       "lease %s: this host has not joined "
			       "the lockspace yet",
			       l->name);
	if (l->phase == GOING)
		return err_new(-ETIMEDOUT, "lease %s: sanlock does not answer",
			       l->name);
	return err_new(-EBUSY, "lease %s: this host (%u) is using it", l->name,
		       d->member.host_id);
}

/* Wait for our turn at the lease. */
static int queue_wait(struct lease_door *d, struct lease *l, uint64_t deadline)
{
	struct waiter me = { NULL };
	bool turn = false, late = false;
	int r = 0;

	*l->end = &me;
	l->end = &me.next;
	for (;;) {
		bool out = d->member.state == LEASE_FAILED ||
			   d->member.state == LEASE_LOST;

		turn = l->first == &me && l->phase == FREE &&
		       d->member.state == LEASE_JOINED;
		if (turn || out || late || !deadline)
			break;
		late = !cond_wait_until(&d->event, &d->lock, deadline);
	}
	if (!turn)
		r = d->member.state > LEASE_JOINED ? member_error(&d->member) :
						     waited_in_vain(d, l);
	queue_leave(l, &me);
	return r;
}

int lease_take(struct lease_door *d, const struct lease_ref *ref,
	       enum lease_mode mode, bool persistent, uint64_t deadline)
{
	auto_unlock(guard, &d->lock);
	struct lease *l = lease_find_or_add(d, ref->name);
	struct lease_request req;
	struct lease_reply reply;
	struct call *c;
	int r;

	r = queue_wait(d, l, deadline);
	if (r < 0) {
		lease_set(d, l, l->phase);
		return r;
	}
	request_init(&req, LEASE_TAKE, ref->name);
	req.ref = *ref;
	req.mode = mode;
	req.persistent = persistent;
	req.deadline = deadline;
	l->phase = ASKED;
	c = call_send(d, l, &req);
	r = call_wait(d, c, deadline ? deadline + ANSWER_MS : now_ms() + TRY_MS,
		      &reply);
	if (l->phase == ASKED)
		lease_set(d, l, r == 0 ? HELD : FREE);
	return r;
}

int lease_upgrade(struct lease_door *d, const struct lease_ref *ref,
		  uint64_t deadline)
{
	auto_unlock(guard, &d->lock);
	struct lease *l = lease_find_or_add(d, ref->name);
	struct lease_request req;
	struct lease_reply reply;
	int r;

	if (l->phase != HELD) {
		lease_set(d, l, l->phase);
		return err_new(-EBUSY, "lease %s: not held", ref->name);
	}
	request_init(&req, LEASE_UPGRADE, ref->name);
	req.ref = *ref;
	req.mode = LEASE_EXCLUSIVE;
	req.persistent = true;
	req.deadline = deadline;
	l->phase = ASKED;
	d->held--;
	/* To the end: until it is answered nobody knows how it is held. */
	r = call_wait(d, call_send(d, l, &req), UINT64_MAX, &reply);
	lease_set(d, l, HELD);
	return r;
}

int lease_release(struct lease_door *d, const char *name)
{
	auto_unlock(guard, &d->lock);
	struct lease *l = lease_find_or_add(d, name);
	bool held = l->phase == HELD;
	struct lease_request req;
	struct lease_reply reply;
	int r;

	if (l->phase == ASKED || l->phase == GOING)
		return err_new(-EBUSY, "lease %s: being taken or released",
			       name);
	request_init(&req, LEASE_RELEASE, name);
	l->phase = ASKED;
	d->held -= held;
	r = call_wait(d, call_send(d, l, &req), UINT64_MAX, &reply);
	lease_set(d, l, r < 0 && held ? HELD : FREE);
	return r;
}

/* ---- questions ---- */

static int ask(struct lease_door *d, struct lease_request *req, char *ret_text,
	       int len)
{
	auto_unlock(guard, &d->lock);
	struct lease_reply reply;
	int r;

	r = call_wait(d, call_send(d, NULL, req), now_ms() + TRY_MS, &reply);
	if (r == 0)
		text_copy(ret_text, (size_t)len, reply.text);
	return r;
}

int lease_holders(struct lease_door *d, const struct lease_ref *ref,
		  char *ret_text, int len)
{
	struct lease_request req;

	request_init(&req, LEASE_HOLDERS, ref->name);
	req.ref = *ref;
	return ask(d, &req, ret_text, len);
}

int lease_leftover(struct lease_door *d, unsigned int index, char *ret_name)
{
	struct lease_request req;

	request_init(&req, LEASE_LEFTOVER, "");
	req.index = index;
	return ask(d, &req, ret_name, LEASE_NAME);
}

unsigned int lease_count(struct lease_door *d)
{
	auto_unlock(guard, &d->lock);

	return d->held;
}
