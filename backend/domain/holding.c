/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Volume leases that this host has, and the files that are open under them.
 *
 * A lease is counted: by verbs that run, by handles, by handles of parents
 * that it covers. It goes when the last count goes and no writer is left: a
 * shared mapping outlives the last close, so the file is probed first, and
 * fsynced. While one thread takes or gives a lease the use is busy and others
 * wait. A volume with a use is never forgotten. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/cond.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/log.h"
#include "ovstorfs/model.h"

#define REFRESH_MAX 64
#define FLUSHED_WAIT_MS 1000
/* A last fput() comes a little late: 20 us, 40 us, ... 41 ms in all. */
#define PROBE_TRIES 12
#define PROBE_FIRST_NS 20000

static struct use *use_of(struct volume *v)
{
	if (!v->use) {
		v->use = xcalloc(1, sizeof(*v->use));
		v->use->fd = -1;
	}
	return v->use;
}

static void use_drop(struct volume *v)
{
	struct use *u = v->use;

	if (u->refs || u->held || u->busy || u->readers || u->writers)
		return;
	v->use = NULL;
	free(u);
}

static int lease_of(struct domain *d, const struct ref *ref,
		    struct lease_ref *ret_lease)
{
	uuid_format(&ref->volume, ret_lease->name);
	return storage_lease_check(d->storage, ref) ?:
		       storage_lease_place(d->storage, ref, ret_lease->path,
					   &ret_lease->offset);
}

/* Wait while another thread takes or gives; false at the deadline. */
static bool wait_not_busy(struct domain *d, struct volume *v, uint64_t deadline)
{
	while (v->use && v->use->busy)
		if (!cond_wait_until(&d->uses_cond, &d->uses_lock, deadline))
			return !(v->use && v->use->busy);
	return true;
}

static int take_lease(struct domain *d, struct use *u, const struct ref *ref,
		      enum lease_mode mode, uint64_t deadline)
{
	struct lease_ref lease;
	bool shared = u->held;
	int r;

	u->busy = true;
	pthread_mutex_unlock(&d->uses_lock);
	r = lease_of(d, ref, &lease);
	if (r == 0)
		r = shared ? lease_upgrade(d->door, &lease, deadline) :
			     lease_take(d->door, &lease, mode, true, deadline);
	pthread_mutex_lock(&d->uses_lock);
	u->busy = false;
	if (r == 0) {
		u->held = true;
		u->mode = mode;
		u->ref = *ref;
	}
	pthread_cond_broadcast(&d->uses_cond);
	return r;
}

static bool is_enough(const struct use *u, enum lease_mode mode)
{
	return u->held && (u->mode == LEASE_EXCLUSIVE || mode == LEASE_SHARED);
}

void hold_pin(struct domain *d, struct volume *v)
{
	auto_unlock(guard, &d->uses_lock);

	use_of(v)->refs++;
}

int hold_get(struct domain *d, struct volume *v, enum lease_mode mode,
	     uint64_t deadline)
{
	uint64_t limit = deadline ? deadline : now_ms() + FLUSHED_WAIT_MS;
	struct ref ref;
	struct use *u;
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	ref = volume_ref(v);
	pthread_rwlock_unlock(&d->tree);
	auto_unlock(guard, &d->uses_lock);
	u = use_of(v);
	u->refs++;
	if (!wait_not_busy(d, v, limit))
		r = err_new(-EBUSY, "its lease is being taken or released");
	else if (!is_enough(u, mode))
		r = take_lease(d, u, &ref, mode, deadline);
	if (r < 0) {
		u->refs--;
		use_drop(v);
	}
	return r;
}

/* ---- giving up ---- */

static int still_written(struct domain *d, const struct ref *ref,
			 bool *ret_written)
{
	struct timespec pause = { .tv_nsec = PROBE_FIRST_NS };
	int i, r;

	for (i = 0; i < PROBE_TRIES; i++) {
		r = storage_data_is_written(d->storage, ref, ret_written);
		if (r < 0 || !*ret_written)
			return r;
		nanosleep(&pause, NULL);
		pause.tv_nsec *= 2;
	}
	return 0;
}

/* No byte of ours is left to be written: 0, or why not yet. */
static int settle(struct domain *d, const struct ref *ref)
{
	bool written = true;
	int r = still_written(d, ref, &written);

	if (r == -ENOENT)
		return 0; /* deleted: nothing is left to be written */
	if (r < 0)
		return r;
	if (written)
		return err_new(-EBUSY, "somebody still has it mapped");
	return storage_data_sync(d->storage, ref);
}

/* Release v's lease, if nothing under it is unfinished. Caller has uses_lock
 * and saw refs at 0. */
static void give_up(struct domain *d, struct volume *v)
{
	struct use *u = v->use;
	struct ref ref = u->ref;
	bool dirty = u->dirty;
	char name[LEASE_NAME];
	int r = 0;

	u->busy = true;
	pthread_mutex_unlock(&d->uses_lock);
	uuid_format(&ref.volume, name);
	if (dirty)
		r = settle(d, &ref);
	if (r == 0)
		r = lease_release(d->door, name);
	pthread_mutex_lock(&d->uses_lock);
	u->busy = false;
	if (r == 0) {
		u->held = u->dirty = false;
		if (u->lingering) {
			u->lingering = false;
			LIST_REMOVE(v, in_lingering);
			d->n_lingering--;
		}
	} else if (!u->lingering) {
		log_info("%s: lease kept after close: %s", ref_name(&ref),
			 err_text(r));
		u->lingering = true;
		LIST_INSERT_HEAD(&d->lingering, v, in_lingering);
		d->n_lingering++;
	}
	pthread_cond_broadcast(&d->uses_cond);
	use_drop(v);
}

bool hold_written(struct domain *d, struct volume *v)
{
	auto_unlock(guard, &d->uses_lock);
	struct use *u = v->use;

	if (!u || !u->writers || !u->held || u->busy)
		return false;
	u->refs++;
	return true;
}

void hold_put(struct domain *d, struct volume *v)
{
	auto_unlock(guard, &d->uses_lock);
	struct use *u = v->use;

	if (--u->refs == 0 && !u->busy && u->held && !u->lingering)
		give_up(d, v);
	else
		use_drop(v);
}

void hold_probe(struct domain *d)
{
	struct volume *v, *next;
	auto_unlock(guard, &d->uses_lock);

	for (v = LIST_FIRST(&d->lingering); v; v = next) {
		next = LIST_NEXT(v, in_lingering);
		if (v->use->refs || v->use->busy)
			continue;
		give_up(d, v);
		/* The list may have changed meanwhile: on with it next time. */
		break;
	}
}

/* What is in the way, seen under both locks. */
static int look_idle(struct domain *d, const struct uuid *volume,
		     bool writers_only, bool *ret_may_end)
{
	struct volume *v = model_volume(d, volume);
	struct use *u = v ? v->use : NULL;
	unsigned int handles;

	*ret_may_end = false;
	if (!u)
		return 0;
	handles = u->writers + (writers_only ? 0 : u->readers);
	if (!handles && u->lingering && !u->busy)
		return err_new(-EBUSY, "it is closed, but somebody still has "
				       "it mapped");
	/* Until the lease has gone it is not known that no writer is left. */
	if (!handles && !u->busy && !(u->dirty && u->held))
		return 0;
	*ret_may_end = handles <= u->flushed;
	return err_new(-EBUSY, "it is open on this host");
}

/* A mapping may have gone since the last look at it. */
static void probe_one(struct domain *d, const struct uuid *volume)
{
	struct volume *v;

	pthread_mutex_lock(&d->uses_lock);
	LIST_FOREACH(v, &d->lingering, in_lingering)
	if (uuid_eq(&v->id, volume))
		break;
	if (v && !v->use->refs && !v->use->busy)
		give_up(d, v);
	pthread_mutex_unlock(&d->uses_lock);
}

static bool is_used(struct domain *d, const struct uuid *volume)
{
	struct volume *v = model_volume(d, volume);

	return v && v->use;
}

/* Processes that have it from a mount before this one, which died. */
static int check_strangers(struct domain *d, const struct uuid *volume)
{
	struct ref ref = { .dir = RECORD_LIVE };
	bool written = false;
	struct volume *v;
	int r;

	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, volume);
	if (v && v->visible)
		ref = volume_ref(v);
	pthread_rwlock_unlock(&d->tree);
	if (!ref_is_volume(&ref))
		return 0;
	r = storage_data_is_written(d->storage, &ref, &written);
	if (r == 0 && written)
		r = err_new(-EBUSY, "a process of this host has it open from "
				    "an earlier mount");
	/* What cannot be opened is not written either; others tell of it. */
	return r == -EBUSY ? r : 0;
}

int hold_check_idle(struct domain *d, const struct uuid *volume,
		    bool writers_only)
{
	uint64_t deadline = now_ms() + FLUSHED_WAIT_MS;
	bool may_end, known;
	int r;

	probe_one(d, volume);
	for (;;) {
		pthread_rwlock_rdlock(&d->tree);
		pthread_mutex_lock(&d->uses_lock);
		r = look_idle(d, volume, writers_only, &may_end);
		known = r < 0 || is_used(d, volume);
		pthread_rwlock_unlock(&d->tree);
		if (may_end &&
		    !cond_wait_until(&d->uses_cond, &d->uses_lock, deadline))
			may_end = false;
		pthread_mutex_unlock(&d->uses_lock);
		if (!may_end)
			return known ? r : check_strangers(d, volume);
	}
}

/* The volumes that are open for writing as qcow2, from a place in the map on;
 * descriptors of our own for what is read outside of the locks. */
static size_t find_written(struct domain *d, size_t *cursor, struct uuid *ids,
			   int *fds, size_t max)
{
	struct volume *v;
	size_t n = 0;

	pthread_rwlock_rdlock(&d->tree);
	pthread_mutex_lock(&d->uses_lock);
	while (n < max && (v = map_each(&d->volumes, cursor))) {
		if (v->format != FORMAT_QCOW2 || !v->use || !v->use->writers)
			continue;
		fds[n] = fcntl(v->use->fd, F_DUPFD_CLOEXEC, 64);
		ids[n++] = v->id;
	}
	if (n < max)
		*cursor = 0;
	pthread_mutex_unlock(&d->uses_lock);
	pthread_rwlock_unlock(&d->tree);
	return n;
}

static void refresh_one(struct domain *d, const struct uuid *id, int fd)
{
	uint8_t header[QCOW2_HEADER];
	uint64_t capacity;
	struct volume *v;

	if (pread(fd, header, sizeof(header), 0) != sizeof(header) ||
	    qcow2_parse_size(header, sizeof(header), &capacity) < 0)
		return;
	pthread_rwlock_wrlock(&d->tree);
	v = model_volume(d, id);
	if (v && v->format == FORMAT_QCOW2)
		v->capacity = capacity;
	pthread_rwlock_unlock(&d->tree);
}

void hold_refresh(struct domain *d)
{
	struct uuid ids[REFRESH_MAX];
	int fds[REFRESH_MAX];
	size_t i, n;

	n = find_written(d, &d->refresh_cursor, ids, fds, REFRESH_MAX);
	for (i = 0; i < n; i++) {
		if (fds[i] < 0)
			continue;
		refresh_one(d, &ids[i], fds[i]);
		close(fds[i]);
	}
}

/* A volume whose lease is held and was not tried. Caller has uses_lock. */
static struct volume *next_held(struct domain *d)
{
	size_t cursor = 0;
	struct volume *v;

	while ((v = map_each(&d->volumes, &cursor)))
		if (v->use && v->use->held && !v->use->gave_up)
			return v;
	return NULL;
}

unsigned int hold_close(struct domain *d)
{
	auto_unlock(guard, &d->uses_lock);
	unsigned int left = 0;
	struct volume *v;

	while ((v = next_held(d))) {
		struct use *u = v->use;

		if (u->fd >= 0)
			close(u->fd);
		u->fd = -1;
		u->readers = u->writers = 0;
		u->refs = 1; /* keeps u while its lease is given up */
		u->gave_up = true;
		give_up(d, v);
		left += u->held;
	}
	return left;
}
