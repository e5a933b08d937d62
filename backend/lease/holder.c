/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper's half: has the leases, and outlives the server that asks.
 *
 * What a door asks becomes a job; one thread per seat of the backend does
 * them, since what a connection took only that connection can release. A
 * refused take goes back into the list with a time, so that nothing waits
 * behind it. The table says what is held and for which door; when a door
 * closes, its leases stay, as nobody's, until the next one takes them again
 * or gives them back. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/map.h"
#include "ovstorfs/str.h"

#include "internal.h"

#define STOP_MS 60000 /* then sanlock is not answering: leave it all to it */

struct job {
	struct job *next;
	struct lease_request req;
	unsigned int door;
	uint64_t due;
};

struct held {
	char name[LEASE_NAME];
	enum lease_mode mode;
	unsigned int seat;
	uint64_t order;	   /* of being taken */
	unsigned int door; /* 0: nobody's */
	bool adopted;	   /* what a dead mount or server left; maybe in use */
	bool busy;	   /* a seat is at it, without our lock */
};

struct seat {
	struct lease_holder *h;
	unsigned int number;
	pthread_t thread;
};

struct lease_holder {
	struct lease_backend *backend;
	struct seat *seats;
	pthread_t membership, leaver;

	pthread_mutex_t lock; /* protects all below */
	pthread_cond_t changed;
	struct lease_member member;
	bool membership_done;
	struct job *jobs;
	struct map held;
	uint64_t orders;
	unsigned int door, doors; /* the present one, 0: none; how many */
	int sock;		  /* its socket; -1 */
	bool stopping, left;
};

/* ---- the table ---- */

static uint64_t name_key(const char *name)
{
	return crc32c(0, name, strlen(name));
}

static struct held *held_find(struct lease_holder *h, const char *name)
{
	size_t at = 0;
	struct held *e;

	while ((e = map_find(&h->held, name_key(name), &at)))
		if (streq(e->name, name))
			return e;
	return NULL;
}

static struct held *held_add(struct lease_holder *h, const char *name,
			     unsigned int seat)
{
	struct held *e = xcalloc(1, sizeof(*e));

	text_copy(e->name, sizeof(e->name), name);
	e->seat = seat;
	e->order = ++h->orders;
	map_add(&h->held, name_key(name), e);
	return e;
}

static void held_del(struct lease_holder *h, struct held *e)
{
	map_del(&h->held, name_key(e->name), e);
	free(e);
}

/* ---- answers ---- */

/* A door that does not read is a dead one: nothing may wait for it. */
static void say(struct lease_holder *h, const struct lease_reply *reply)
{
	if (h->sock < 0)
		return;
	if (send(h->sock, reply, sizeof(*reply), MSG_NOSIGNAL | MSG_DONTWAIT) <
	    0) {
		log_debug(LOG_LEASE, "door: %s", strerror(errno));
		shutdown(h->sock, SHUT_RDWR);
	}
}

static void say_member(struct lease_holder *h)
{
	struct lease_reply reply = { .member = h->member };

	say(h, &reply);
}

/* Takes the job. text: NULL: this thread's error line. */
static void answer(struct lease_holder *h, struct job *j, int result,
		   const char *text)
{
	struct lease_reply reply = { .id = j->req.id, .result = result };

	if (!text)
		text = result < 0 ? err_text(result) : "";
	text_copy(reply.text, sizeof(reply.text), text);
	if (j->door == h->door)
		say(h, &reply);
	free(j);
}

/* ---- jobs ---- */

static void job_queue(struct lease_holder *h, struct job *j)
{
	struct job **end = &h->jobs;

	while (*end)
		end = &(*end)->next;
	j->next = NULL;
	*end = j;
	pthread_cond_broadcast(&h->changed);
}

/* May this seat do it? While another is at the same lease nobody may. */
static bool job_fits(struct lease_holder *h, const struct job *j,
		     unsigned int seat)
{
	const struct held *e;

	if (j->req.op == LEASE_HOLDERS || j->req.op == LEASE_LEFTOVER)
		return h->backend->seats == 1 || seat != 0;
	e = held_find(h, j->req.ref.name);
	if (e)
		return !e->busy && e->seat == seat;
	if (h->backend->seats == 1)
		return true;
	return j->req.persistent ? seat != 0 : seat == 0;
}

/* The first job that this seat may do now; NULL when stopping. */
static struct job *job_next(struct lease_holder *h, unsigned int seat)
{
	while (!h->stopping) {
		uint64_t now = now_ms(), until = UINT64_MAX;
		struct job **p;

		for (p = &h->jobs; *p; p = &(*p)->next) {
			struct job *j = *p;

			if (!job_fits(h, j, seat))
				continue;
			if (j->due <= now) {
				*p = j->next;
				return j;
			}
			if (j->due < until)
				until = j->due;
		}
		cond_wait_until(&h->changed, &h->lock, until);
	}
	return NULL;
}

/* Say whose it is. Owners of shared leases are not in the leader. */
static int refused(const struct lease_ref *ref, unsigned int our_id, int r)
{
	struct area_owner owner;
	char why[256];

	if (r != -EBUSY)
		return r;
	text_copy(why, sizeof(why), err_text(r));
	if (area_owner(ref, &owner) < 0 || !owner.timestamp)
		return err_new(r, "%s", why);
	if (owner.host_id == our_id)
		return err_new(r,
			       "lease %s: another process of this host "
			       "(%u) has it",
			       ref->name, our_id);
	return err_new(r, "lease %s: host %llu has it", ref->name,
		       (unsigned long long)owner.host_id);
}

/* One attempt, with e marked busy and the lock dropped. */
static int try_take(struct lease_holder *h, struct job *j, struct held *e,
		    bool fresh, int *ret_again)
{
	const struct lease_ref *ref = &j->req.ref;
	unsigned int our_id = h->member.host_id;
	struct lease_grant grant = { e->mode, e->adopted };
	bool have = !fresh, last;
	int r = 0;

	e->busy = true;
	pthread_mutex_unlock(&h->lock);
	if (fresh)
		r = h->backend->ops->take(h->backend, e->seat, ref, j->req.mode,
					  j->req.persistent, &grant, ret_again);
	if (r == 0 && grant.mode != j->req.mode) {
		have = true;
		r = h->backend->ops->convert(h->backend, e->seat, ref->name,
					     j->req.mode, ret_again);
	}
	last = r == 0 || !*ret_again ||
	       now_ms() + (uint64_t)*ret_again >= j->req.deadline;
	if (last)
		r = refused(ref, our_id, r);
	pthread_mutex_lock(&h->lock);
	e->busy = false;
	e->mode = r == 0 ? j->req.mode : grant.mode;
	e->adopted = grant.adopted;
	if (last)
		*ret_again = 0;
	if (r < 0 && !have)
		held_del(h, e);
	return r;
}

static int try_release(struct lease_holder *h, struct held *e)
{
	int r;

	e->busy = true;
	pthread_mutex_unlock(&h->lock);
	r = h->backend->ops->release(h->backend, e->seat, e->name);
	pthread_mutex_lock(&h->lock);
	e->busy = false;
	if (r == 0)
		held_del(h, e);
	return r;
}

/* Nobody is there to have it. What is in use must not go: the next one who
 * wants it, or looks for leftovers, finds it. */
static int decline(struct lease_holder *h, struct held *e)
{
	if (!e->adopted)
		return try_release(h, e);
	e->door = 0;
	return 0;
}

static int not_a_member(const struct lease_member *m)
{
	if (m->state == LEASE_JOINING)
		return err_new(-EAGAIN, "not joined yet");
	return err_new(-EIO, "%s", m->error);
}

static void do_take(struct lease_holder *h, unsigned int seat, struct job *j)
{
	struct held *e = held_find(h, j->req.ref.name);
	bool fresh = !e;
	int r, again = 0;

	if (h->member.state != LEASE_JOINED)
		r = not_a_member(&h->member);
	else if (j->req.deadline && now_ms() > j->req.deadline)
		r = err_new(-ETIMEDOUT, "sanlock did not answer in time");
	else if (e && e->door &&
		 !(j->req.op == LEASE_UPGRADE && e->door == j->door))
		r = err_new(-EBUSY, "lease %s: this mount has it", e->name);
	else {
		if (fresh)
			e = held_add(h, j->req.ref.name, seat);
		r = try_take(h, j, e, fresh, &again);
		if (r == 0 && j->door == h->door)
			e->door = j->door;
		else if (r == 0)
			decline(h, e);
	}
	if (again && j->door == h->door) {
		j->due = now_ms() + (uint64_t)again;
		job_queue(h, j);
	} else {
		answer(h, j, r, NULL);
	}
}

static void do_release(struct lease_holder *h, struct job *j)
{
	struct held *e = held_find(h, j->req.ref.name);
	int r;

	if (e && j->req.op == LEASE_DECLINE)
		r = decline(h, e);
	else if (e)
		r = try_release(h, e);
	else
		r = err_new(-ENOENT, "lease %s: not held", j->req.ref.name);
	answer(h, j, r, NULL);
}

static void do_holders(struct lease_holder *h, struct job *j)
{
	const struct lease_backend_ops *ops = h->backend->ops;
	unsigned int our_id = h->member.host_id;
	struct held *e = held_find(h, j->req.ref.name);
	bool shared = e && e->mode == LEASE_SHARED;
	char text[256] = "";
	int r = 0;

	pthread_mutex_unlock(&h->lock);
	if (ops->holders)
		r = ops->holders(h->backend, &j->req.ref, text, sizeof(text));
	else if (e)
		snprintf(text, sizeof(text), "%u%s", our_id,
			 shared ? " shared" : "");
	pthread_mutex_lock(&h->lock);
	answer(h, j, r, r < 0 ? NULL : text);
}

static void do_leftover(struct lease_holder *h, struct job *j)
{
	uint32_t left = j->req.index;
	size_t at = 0;
	struct held *e;

	while ((e = map_each(&h->held, &at)))
		if (!e->door && !e->busy && left-- == 0)
			break;
	answer(h, j, e ? 0 : -ENOENT, e ? e->name : "");
}

static void *seat_thread(void *arg)
{
	struct seat *s = arg;
	struct lease_holder *h = s->h;
	auto_unlock(guard, &h->lock);
	struct job *j;

	while ((j = job_next(h, s->number))) {
		err_clear();
		if (j->req.op == LEASE_TAKE || j->req.op == LEASE_UPGRADE)
			do_take(h, s->number, j);
		else if (j->req.op == LEASE_RELEASE ||
			 j->req.op == LEASE_DECLINE)
			do_release(h, j);
		else if (j->req.op == LEASE_HOLDERS)
			do_holders(h, j);
		else
			do_leftover(h, j);
		pthread_cond_broadcast(&h->changed);
	}
	return NULL;
}

/* ---- membership ---- */

static void set_member(struct lease_holder *h, struct lease_member *m,
		       enum lease_state state, int r)
{
	auto_unlock(guard, &h->lock);

	m->state = state;
	text_copy(m->error, sizeof(m->error), r < 0 ? err_text(r) : "");
	h->member = *m;
	say_member(h);
	pthread_cond_broadcast(&h->changed);
	if (r < 0 && !h->stopping)
		log_error("leases: %s", m->error);
}

static void *membership_thread(void *arg)
{
	struct lease_holder *h = arg;
	struct lease_backend *b = h->backend;
	struct lease_member m = { .state = LEASE_JOINING };
	int r;

	r = b->ops->join(b, &m);
	set_member(h, &m, r < 0 ? LEASE_FAILED : LEASE_JOINED, r);
	if (r == 0 && b->ops->watch) {
		r = b->ops->watch(b);
		if (r < 0)
			set_member(h, &m, LEASE_LOST, r);
	}
	pthread_mutex_lock(&h->lock);
	h->membership_done = true;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

/* ---- serve ---- */

static int door_enter(struct lease_holder *h, int sock)
{
	auto_unlock(guard, &h->lock);

	if (h->sock >= 0 || h->stopping)
		return err_new(-EBUSY, "leases: %s",
			       h->stopping ? "stopping" : "another door");
	h->sock = sock;
	h->door = ++h->doors;
	say_member(h);
	return 0;
}

static void door_leave(struct lease_holder *h)
{
	auto_unlock(guard, &h->lock);
	struct job **p = &h->jobs;
	struct held *e;
	size_t at = 0;

	h->sock = -1;
	h->door = 0;
	while ((e = map_each(&h->held, &at))) {
		e->door = 0;
		e->adopted = !e->busy;
	}
	while (*p) {
		struct job *j = *p;

		/* A release is carried out: its lease is no one's now. */
		if (j->req.op == LEASE_RELEASE || j->req.op == LEASE_DECLINE) {
			p = &j->next;
		} else {
			*p = j->next;
			free(j);
		}
	}
	pthread_cond_broadcast(&h->changed);
}

int lease_holder_serve(struct lease_holder *h, int sock)
{
	int r;

	r = door_enter(h, sock);
	if (r < 0)
		return r;
	for (;;) {
		struct job *j = xcalloc(1, sizeof(*j));
		ssize_t n = recv(sock, &j->req, sizeof(j->req), 0);

		if (n < 0 && errno == EINTR) {
			free(j);
			continue;
		}
		if (n != sizeof(j->req)) {
			free(j);
			break;
		}
		j->req.ref.name[LEASE_NAME - 1] = '\0';
		j->req.ref.path[PATH_MAX - 1] = '\0';
		pthread_mutex_lock(&h->lock);
		j->door = h->door;
		job_queue(h, j);
		pthread_mutex_unlock(&h->lock);
	}
	door_leave(h);
	return 0;
}

/* ---- start and stop ---- */

/* The keeper's signals are its main thread's; SIGPIPE, which sanlock's
 * library provokes when the daemon dies, is nobody's. */
static void start_thread(pthread_t *ret_thread, void *(*fn)(void *), void *arg)
{
	sigset_t all, old;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	if (pthread_create(ret_thread, NULL, fn, arg) != 0)
		abort();
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static int open_backend(const struct lease_holder_options *o,
			struct lease_backend **ret_backend)
{
	struct timespec none = { 0, 0 };
	sigset_t pipe, old;
	int r;

	sigemptyset(&pipe);
	sigaddset(&pipe, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &pipe, &old);
	if (o->locks == LEASE_LOCKS_LOCAL)
		r = local_backend_open(o, ret_backend);
	else
		r = member_backend_open(o, ret_backend);
	if (!sigismember(&old, SIGPIPE))
		sigtimedwait(&pipe, NULL, &none);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return r;
}

int lease_holder_start(const struct lease_holder_options *o,
		       struct lease_holder **ret_holder)
{
	struct lease_backend *b;
	struct lease_holder *h;
	unsigned int i;
	int r;

	if (o->host_id > LEASE_MAX_HOSTS)
		return err_new(-EINVAL, "host id %u: more than %d", o->host_id,
			       LEASE_MAX_HOSTS);
	r = open_backend(o, &b);
	if (r < 0)
		return r;
	h = xcalloc(1, sizeof(*h));
	h->backend = b;
	h->sock = -1;
	pthread_mutex_init(&h->lock, NULL);
	cond_init(&h->changed);
	h->seats = xcalloc(b->seats, sizeof(*h->seats));
	for (i = 0; i < b->seats; i++) {
		h->seats[i] = (struct seat){ .h = h, .number = i };
		start_thread(&h->seats[i].thread, seat_thread, &h->seats[i]);
	}
	start_thread(&h->membership, membership_thread, h);
	*ret_holder = h;
	return 0;
}

int lease_holder_claim_fd(const struct lease_holder *h)
{
	return h->backend->ops->claim_fd(h->backend);
}

static struct held *held_newest(struct lease_holder *h)
{
	struct held *e, *newest = NULL;
	size_t at = 0;

	while ((e = map_each(&h->held, &at)))
		if (!newest || e->order > newest->order)
			newest = e;
	return newest;
}

/* All threads are gone: what is left has one user. */
static void release_all(struct lease_holder *h)
{
	struct held *e;

	while ((e = held_newest(h))) {
		int r = h->backend->ops->release(h->backend, e->seat, e->name);

		if (r < 0)
			log_warn("%s", err_text(r));
		held_del(h, e);
	}
}

static void *leave_thread(void *arg)
{
	struct lease_holder *h = arg;
	struct lease_backend *b = h->backend;
	unsigned int i;

	pthread_mutex_lock(&h->lock);
	while (!h->membership_done) {
		pthread_mutex_unlock(&h->lock);
		b->ops->cancel(b);
		pthread_mutex_lock(&h->lock);
		if (!h->membership_done)
			cond_wait_until(&h->changed, &h->lock, now_ms() + 200);
	}
	pthread_mutex_unlock(&h->lock);
	pthread_join(h->membership, NULL);
	for (i = 0; i < b->seats; i++)
		pthread_join(h->seats[i].thread, NULL);
	release_all(h);
	b->ops->leave(b);
	pthread_mutex_lock(&h->lock);
	h->left = true;
	pthread_cond_broadcast(&h->changed);
	pthread_mutex_unlock(&h->lock);
	return NULL;
}

static void holder_free(struct lease_holder *h)
{
	struct job *j;

	while ((j = h->jobs)) {
		h->jobs = j->next;
		free(j);
	}
	h->backend->ops->free(h->backend);
	map_fini(&h->held);
	pthread_cond_destroy(&h->changed);
	pthread_mutex_destroy(&h->lock);
	free(h->seats);
	free(h);
}

void lease_holder_stop(struct lease_holder *h)
{
	uint64_t until = now_ms() + STOP_MS;
	bool left;

	if (!h)
		return;
	pthread_mutex_lock(&h->lock);
	h->stopping = true;
	if (h->sock >= 0)
		shutdown(h->sock, SHUT_RDWR);
	pthread_cond_broadcast(&h->changed);
	start_thread(&h->leaver, leave_thread, h);
	while ((!h->left || h->sock >= 0) &&
	       cond_wait_until(&h->changed, &h->lock, until))
		;
	left = h->left && h->sock < 0;
	pthread_mutex_unlock(&h->lock);
	if (!left) { /* its threads still use it; the process is ending */
		log_error("leases: sanlock does not answer, left as they are");
		return;
	}
	pthread_join(h->leaver, NULL);
	holder_free(h);
}
