/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The collector: finishes or undoes what a marker shows.
 *
 * A round lists all markers without any lease. For each it takes the domain
 * lease and the image's lock - so no verb of this host is at work there, and
 * by the lease none of another's: the marker is an orphan by definition - and
 * looks again. Then it commits a third state, DYING or UNDO, from which
 * nothing comes back: a late rename of a dead owner finds its marker gone. It
 * cleans, and drops the marker last. Each step may run twice.
 *
 *	marker			third state	then
 *	volume NEW		DYING		bytes, lease area, marker
 *	volume SET, REMOVING	UNDO		bytes back to what they were,
 *						marker
 *	volume REMOVED		DYING		record, bytes, lease area,
 *						marker
 *	image NEW, REMOVED	DYING		all that is in it, directory
 *	image SET, REMOVING	UNDO		marker
 *
 * Bytes are deleted without the domain lease, under the volume's own.
 */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/io.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/log.h"
#include "ovstorfs/str.h"

#define TAKE_MS 10000

#define BIT(state) (1u << (state))
#define MARKERS                                                                \
	(BIT(RECORD_NEW) | BIT(RECORD_SET) | BIT(RECORD_UNDO) |                \
	 BIT(RECORD_REMOVING) | BIT(RECORD_REMOVED) | BIT(RECORD_DYING))

struct gc {
	pthread_mutex_t mutex; /* all below */
	pthread_cond_t wake, done;
	pthread_t thread;
	bool stop;
	uint64_t wanted, finished; /* rounds over everything */
	struct uuid *hints;	   /* images to look at sooner */
	size_t n_hints, hints_room;
	int result;
	uint64_t rounds, cleaned, left, last_cleaned;
	time_t last;
};

/* What a round found and has to look at again. */
struct found {
	struct domain *d;
	struct ref *refs;
	size_t n, room;
	uint64_t cleaned, left;
};

/* ---- find ---- */

static void found_add(struct found *f, const struct ref *ref)
{
	if (f->n == f->room) {
		f->room = f->room ? 2 * f->room : 16;
		f->refs = realloc(f->refs, f->room * sizeof(*f->refs));
		if (!f->refs)
			abort();
	}
	f->refs[f->n++] = *ref;
}

static bool is_marked(const struct storage_entry *e)
{
	unsigned int markers = e->records & MARKERS;

	if (ref_is_volume(&e->ref))
		/* What lies in a dying or new image goes with it. */
		return (e->ref.dir == RECORD_LIVE ||
			e->ref.dir == RECORD_REMOVED) &&
		       markers;
	if (e->ref.dir != RECORD_LIVE)
		return true;
	return markers;
}

/* An image under whichever of its names. */
static int find_image(struct found *f, const struct storage_visitor *v,
		      const struct uuid *image)
{
	static const enum record dirs[] = { RECORD_LIVE, RECORD_NEW,
					    RECORD_REMOVED, RECORD_DYING };
	size_t i;
	int r = 0;

	for (i = 0; i < ARRAY_SIZE(dirs) && r == 0; i++) {
		struct ref ref = { .image = *image, .dir = dirs[i] };

		r = storage_scan_image(f->d->storage, &ref, v);
		if (r == -ENOENT)
			r = 0;
	}
	return r;
}

static int visit_find(void *arg, const struct storage_entry *e)
{
	struct found *f = arg;

	if (is_marked(e))
		found_add(f, &e->ref);
	return 0;
}

/* ---- look again ---- */

struct again {
	const struct uuid *volume;
	struct storage_entry entry;
	bool met;
};

static int visit_again(void *arg, const struct storage_entry *e)
{
	struct again *a = arg;

	if (!uuid_eq(&e->ref.volume, a->volume))
		return 0;
	a->entry = *e;
	a->met = true;
	return 0;
}

/* The object as it is now; records is 0 when it is not there. */
static int look_again(struct domain *d, const struct ref *ref,
		      struct storage_entry *ret_entry)
{
	struct again a = { .volume = &ref->volume };
	struct storage_visitor v = { .entry = visit_again, .arg = &a };
	int r = storage_scan_image(d->storage, ref, &v);

	if (r < 0 && r != -ENOENT)
		return r;
	*ret_entry = a.entry;
	if (!a.met)
		*ret_entry = (struct storage_entry){ .ref = *ref };
	return a.met ? 0 : -ENOENT;
}

/* ---- volumes ---- */

/* Cut the bytes back to what they were before the marker's transaction. A
 * marker that cannot be read was torn, and nothing was done under it. */
static int undo_bytes(struct domain *d, const struct ref *ref)
{
	auto_meta struct meta m = { 0 };
	struct storage_bytes b = { 0 };
	int r = load_meta(d->storage, ref, RECORD_UNDO, META_VOLUME, &m);

	if (r == -EUCLEAN)
		return 0;
	if (r < 0)
		return r;
	if (m.op == OP_SNAPSHOT)
		return storage_data_resize(d->storage, ref, m.size_before);
	if (m.op != OP_RESIZE)
		return 0;
	r = storage_data_stat(d->storage, ref, &b);
	return r < 0 ? r : storage_data_resize(d->storage, ref, b.size);
}

static struct volume *volume_here(struct domain *d, const struct ref *ref)
{
	struct volume *v;

	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, &ref->volume);
	if (v && !uuid_eq(&v->image->ref.image, &ref->image))
		v = NULL;
	pthread_rwlock_unlock(&d->tree);
	return v;
}

static int undo_volume(struct domain *d, const struct storage_entry *e,
		       enum record state, struct lockset *locks)
{
	struct volume *v = volume_here(d, &e->ref);
	int r = v ? lockset_try_volume(locks, v) : 0;

	if (r < 0)
		return r;
	if (state != RECORD_UNDO)
		r = storage_record_move(d->storage, &e->ref, state,
					RECORD_UNDO) ?:
		    fault_point("gc.undo");
	if (r == 0)
		r = undo_bytes(d, &e->ref);
	if (r == 0)
		r = fault_point("gc.undone") ?:
		    storage_record_drop(d->storage, &e->ref, RECORD_UNDO);
	return r;
}

/* Deleting bytes may take long: without the domain lease. */
static int delete_bytes(struct domain *d, const struct ref *ref)
{
	int r = storage_data_drop(d->storage, ref);

	return r < 0 ? r : fault_point("gc.data");
}

static int delete_rest(struct domain *d, const struct ref *ref)
{
	int r = storage_lease_drop(d->storage, ref) ?: fault_point("gc.lease");

	return r < 0 ? r :
		       storage_record_drop(d->storage, ref, RECORD_DYING);
}

static int bury_volume(struct domain *d, const struct storage_entry *e,
		       struct lockset *locks)
{
	bool removed = e->records & BIT(RECORD_REMOVED);
	struct volume *v = volume_here(d, &e->ref);
	const struct ref *ref = &e->ref;
	int r = 0;

	/* A create that never was has nobody who could hold its lease, and
	 * maybe no lease area. */
	if (v && removed)
		r = hold_get(d, v, LEASE_EXCLUSIVE, 0);
	if (r < 0)
		return r;
	if (!(e->records & BIT(RECORD_DYING)))
		r = storage_record_move(d->storage, ref,
					removed ? RECORD_REMOVED : RECORD_NEW,
					RECORD_DYING);
	if (r == 0)
		r = fault_point("gc.dying") ?:
		    storage_record_drop(d->storage, ref, RECORD_LIVE);
	lockset_release(locks);
	if (r == 0)
		r = fault_point("gc.record") ?: delete_bytes(d, ref);
	if (v && removed)
		hold_put(d, v);
	if (r < 0)
		return r;
	r = lockset_take_image(locks, d, &ref->image, now_ms() + TAKE_MS);
	return r < 0 ? r : delete_rest(d, ref);
}

/* Memory follows: cheaper than reading the image again. */
static void forget_volume(struct domain *d, const struct ref *ref)
{
	struct volume *v;

	pthread_rwlock_wrlock(&d->tree);
	v = model_volume(d, &ref->volume);
	pthread_mutex_lock(&d->uses_lock);
	if (v && (v->visible || v->use))
		v = NULL;
	pthread_mutex_unlock(&d->uses_lock);
	if (v)
		model_volume_del(d, v);
	pthread_rwlock_unlock(&d->tree);
}

static int collect_volume(struct domain *d, const struct storage_entry *e,
			  struct lockset *locks)
{
	unsigned int has = e->records;
	bool gone = has & (BIT(RECORD_DYING) | BIT(RECORD_REMOVED));
	enum record state = has & BIT(RECORD_UNDO) ? RECORD_UNDO :
			    has & BIT(RECORD_SET)  ? RECORD_SET :
						     RECORD_REMOVING;
	int r;

	if (!gone && has & BIT(RECORD_NEW) && has & BIT(RECORD_LIVE))
		return storage_record_drop(d->storage, &e->ref, RECORD_NEW);
	if (!gone && !(has & BIT(RECORD_NEW))) {
		r = undo_volume(d, e, state, locks);
		return r < 0 ? r : load_image(d, &e->ref.image);
	}
	r = bury_volume(d, e, locks);
	if (r == 0)
		forget_volume(d, &e->ref);
	return r;
}

/* ---- images ---- */

static int undo_image(struct domain *d, const struct storage_entry *e)
{
	enum record state = e->records & BIT(RECORD_UNDO) ? RECORD_UNDO :
			    e->records & BIT(RECORD_SET)  ? RECORD_SET :
							    RECORD_REMOVING;
	int r = 0;

	if (state != RECORD_UNDO)
		r = storage_record_move(d->storage, &e->ref, state,
					RECORD_UNDO);
	return r < 0 ? r :
		       storage_record_drop(d->storage, &e->ref, RECORD_UNDO);
}

/* Is its time in the trash over, by our own clock? */
static bool is_due(struct domain *d, const struct ref *ref)
{
	struct image *img;
	bool due = true;

	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, &ref->image);
	if (img && img->ref.dir == RECORD_REMOVED && img->retention &&
	    !img->purge)
		due = now_ms() >= img->first_seen + img->retention * 1000;
	pthread_rwlock_unlock(&d->tree);
	return due;
}

struct bury {
	struct domain *d;
	struct ref image;
};

static int visit_use(void *arg, const struct storage_entry *e)
{
	struct bury *b = arg;
	struct volume *v;
	int r;

	if (!ref_is_volume(&e->ref))
		return 0;
	v = volume_here(b->d, &e->ref);
	if (!v)
		return 0;
	r = hold_check_idle(b->d, &v->id, false) ?:
	    hold_get(b->d, v, LEASE_EXCLUSIVE, 0);
	/* To be had is enough: see image_remove.c. */
	if (r == 0)
		hold_put(b->d, v);
	return r;
}

static int visit_delete(void *arg, const struct storage_entry *e)
{
	struct bury *b = arg;

	return ref_is_volume(&e->ref) ? delete_bytes(b->d, &e->ref) : 0;
}

static int bury_image(struct domain *d, const struct ref *ref,
		      struct lockset *locks)
{
	struct bury b = { d, *ref };
	struct storage_visitor use = { .entry = visit_use, .arg = &b };
	struct storage_visitor del = { .entry = visit_delete, .arg = &b };
	struct image *img;
	int r = 0;

	if (ref->dir == RECORD_REMOVED)
		r = storage_scan_image(d->storage, ref, &use);
	if (r == 0 && ref->dir != RECORD_DYING)
		r = storage_record_move(d->storage, ref, ref->dir,
					RECORD_DYING);
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->tree);
	img = model_image(d, &ref->image);
	if (img)
		img->ref.dir = RECORD_DYING;
	pthread_rwlock_unlock(&d->tree);
	lockset_release(locks);
	b.image.dir = RECORD_DYING;
	r = fault_point("gc.image_dying") ?:
	    storage_scan_image(d->storage, &b.image, &del);
	if (r < 0)
		return r;
	r = lockset_take_image(locks, d, &ref->image, now_ms() + TAKE_MS);
	if (r < 0)
		return r;
	return fault_point("gc.image_empty") ?:
		       storage_record_drop(d->storage, &b.image, RECORD_DYING);
}

static int collect_image(struct domain *d, const struct storage_entry *e,
			 struct lockset *locks)
{
	int r = e->ref.dir == RECORD_LIVE ? undo_image(d, e) :
					    bury_image(d, &e->ref, locks);

	return r < 0 ? r : load_image(d, &e->ref.image);
}

/* ---- a round ---- */

static bool image_is_damaged(struct domain *d, const struct ref *ref)
{
	struct image *img;
	bool damaged;
	size_t i;

	pthread_rwlock_rdlock(&d->tree);
	img = model_image(d, &ref->image);
	damaged = img && img->damaged;
	for (i = 0; img && i < img->n_volumes; i++)
		damaged |= img->volumes[i]->damaged;
	pthread_rwlock_unlock(&d->tree);
	return damaged;
}

static int collect(struct found *f, const struct ref *ref)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	struct domain *d = f->d;
	struct storage_entry e;
	int r;

	if (!ref_is_volume(ref) && !is_due(d, ref))
		return 0;
	r = lockset_take_image(&locks, d, &ref->image, now_ms() + TAKE_MS);
	if (r < 0)
		return r;
	r = look_again(d, ref, &e);
	if (r == -ENOENT || (r == 0 && !is_marked(&e)))
		return 0;
	if (r == 0 && image_is_damaged(d, ref))
		r = err_new(-EUCLEAN, "nothing is deleted in a damaged "
				      "image; see fsck.ovstorfs");
	if (r == 0)
		r = ref_is_volume(ref) ? collect_volume(d, &e, &locks) :
					 collect_image(d, &e, &locks);
	lockset_release(&locks);
	if (r < 0)
		return r;
	f->cleaned++;
	domain_changed(d, ref);
	domain_event(d, "collected", ref, 0);
	return 0;
}

static void collect_all(struct found *f)
{
	size_t i;

	for (i = 0; i < f->n; i++) {
		int r = collect(f, &f->refs[i]);

		if (r == 0)
			continue;
		f->left++;
		log_warn("%s: not collected: %s", ref_name(&f->refs[i]),
			 err_text(r));
	}
	free(f->refs);
}

/* A change that died before its marker left nothing but an intent. */
static int settle_changes(struct domain *d)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	int r;

	if (changes_are_settled(d->storage))
		return 0;
	lockset_add(&locks, RANK_DOMAIN_LEASE, NULL, true);
	r = lockset_take(&locks, d, now_ms() + TAKE_MS);
	return r < 0 ? r : changes_settle(d->changes);
}

/* Everything, or only the images hinted at. */
static int run_round(struct domain *d, bool all, const struct uuid *hints,
		     size_t n_hints, struct found *f)
{
	struct storage_visitor v = { .entry = visit_find, .arg = f };
	int r = domain_may_change(d);
	size_t i;

	f->d = d;
	if (r == 0 && all)
		r = storage_scan(d->storage, &v);
	for (i = 0; r == 0 && !all && i < n_hints; i++)
		r = find_image(f, &v, &hints[i]);
	collect_all(f);
	return r == 0 && all ? settle_changes(d) ?: record_settle(d) : r;
}

/* ---- the thread ---- */

/* The next look by itself, at a random moment of the period, so that hosts do
 * not meet; also when the next image in the trash falls due. */
static uint64_t next_time(struct domain *d)
{
	uint64_t period = d->options.gc_period * 1000;
	uint64_t at = now_ms() + 365ull * 86400 * 1000;
	size_t i;

	if (period)
		at = now_ms() + period / 2 + (uint64_t)random() % period;
	pthread_rwlock_rdlock(&d->tree);
	for (i = 0; i < d->n_images; i++) {
		const struct image *img = d->by_number[i];
		uint64_t due = img->first_seen + img->retention * 1000;

		if (img->ref.dir == RECORD_REMOVED && img->retention &&
		    due < at)
			at = due;
	}
	pthread_rwlock_unlock(&d->tree);
	return at > now_ms() + 100 ? at : now_ms() + 100;
}

static void wait_for_work(struct domain *d, struct gc *gc)
{
	uint64_t at = next_time(d);
	struct timespec ts = { .tv_sec = (time_t)(at / 1000),
			       .tv_nsec = (long)(at % 1000) * 1000000 };

	while (!gc->stop && gc->wanted == gc->finished && !gc->n_hints)
		if (pthread_cond_timedwait(&gc->wake, &gc->mutex, &ts))
			break;
}

/* One round, without the mutex while it runs. */
static void serve(struct domain *d, struct gc *gc, bool all)
{
	struct uuid *hints = gc->hints;
	size_t n_hints = gc->n_hints;
	uint64_t serves = gc->wanted;
	struct found f = { 0 };
	int r;

	gc->hints = NULL;
	gc->n_hints = gc->hints_room = 0;
	pthread_mutex_unlock(&gc->mutex);
	r = run_round(d, all, hints, n_hints, &f);
	free(hints);
	pthread_mutex_lock(&gc->mutex);
	gc->rounds++;
	gc->cleaned += f.cleaned;
	gc->last = time(NULL);
	if (all) {
		gc->finished = serves;
		gc->result = r;
		gc->last_cleaned = f.cleaned;
		gc->left = f.left;
	}
	pthread_cond_broadcast(&gc->done);
}

static void *gc_thread(void *arg)
{
	struct domain *d = arg;
	struct gc *gc = d->gc;

	pthread_mutex_lock(&gc->mutex);
	for (;;) {
		wait_for_work(d, gc);
		if (gc->stop)
			break;
		serve(d, gc, gc->wanted != gc->finished || !gc->n_hints);
	}
	pthread_cond_broadcast(&gc->done);
	pthread_mutex_unlock(&gc->mutex);
	return NULL;
}

int gc_open(struct domain *d)
{
	struct gc *gc = xcalloc(1, sizeof(*gc));
	pthread_condattr_t attr;

	pthread_mutex_init(&gc->mutex, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&gc->wake, &attr);
	pthread_cond_init(&gc->done, &attr);
	pthread_condattr_destroy(&attr);
	gc->wanted = d->options.gc_period ? 1 : 0; /* one at the start */
	d->gc = gc;
	if (pthread_create(&gc->thread, NULL, gc_thread, d)) {
		d->gc = NULL;
		free(gc);
		return err_new(-EAGAIN, "no thread for the collector");
	}
	return 0;
}

void gc_close(struct domain *d)
{
	struct gc *gc = d->gc;

	if (!gc)
		return;
	pthread_mutex_lock(&gc->mutex);
	gc->stop = true;
	pthread_cond_broadcast(&gc->wake);
	pthread_mutex_unlock(&gc->mutex);
	pthread_join(gc->thread, NULL);
	pthread_cond_destroy(&gc->wake);
	pthread_cond_destroy(&gc->done);
	pthread_mutex_destroy(&gc->mutex);
	free(gc->hints);
	free(gc);
	d->gc = NULL;
}

void gc_wake(struct domain *d, const struct uuid *image)
{
	struct gc *gc = d->gc;
	auto_unlock(guard, &gc->mutex);

	if (!image) {
		gc->wanted++;
	} else {
		if (gc->n_hints == gc->hints_room) {
			gc->hints_room = gc->hints_room ? 2 * gc->hints_room :
							  16;
			gc->hints = realloc(gc->hints, gc->hints_room *
							       sizeof(*image));
			if (!gc->hints)
				abort();
		}
		gc->hints[gc->n_hints++] = *image;
	}
	pthread_cond_signal(&gc->wake);
}

int gc_run(struct domain *d, uint64_t *ret_cleaned, uint64_t *ret_left)
{
	struct gc *gc = d->gc;
	uint64_t mine;
	int r = turn_enter(d, now_ms() + TAKE_MS);

	/* A round before this host has joined would find nothing to do. */
	if (r < 0)
		return r;
	turn_leave(d);
	auto_unlock(guard, &gc->mutex);
	mine = ++gc->wanted;
	pthread_cond_signal(&gc->wake);
	while (gc->finished < mine && !gc->stop)
		pthread_cond_wait(&gc->done, &gc->mutex);
	if (gc->finished < mine)
		return err_new(-EAGAIN, "the mount is going");
	*ret_cleaned = gc->last_cleaned;
	*ret_left = gc->left;
	return gc->result < 0 ? err_new(gc->result, "collection: the round "
						    "ended early") :
				0;
}

/* Is it a leftover, and of which image? */
static bool is_leftover(struct domain *d, const struct uuid *id,
			struct uuid *ret_image)
{
	struct image *img;
	struct volume *v;
	bool is;

	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, id);
	img = model_image(d, id);
	is = (v && !v->visible) ||
	     (img && (img->ref.dir == RECORD_DYING ||
		      (img->ref.dir == RECORD_REMOVED && !img->retention)));
	if (is)
		*ret_image = img ? img->ref.image : v->image->ref.image;
	pthread_rwlock_unlock(&d->tree);
	return is;
}

/* Until the end of the next round; false: none until `at`. */
static bool wait_round(struct gc *gc, const struct timespec *at)
{
	auto_unlock(guard, &gc->mutex);
	uint64_t rounds = gc->rounds;

	while (gc->rounds == rounds && !gc->stop)
		if (pthread_cond_timedwait(&gc->done, &gc->mutex, at))
			return false;
	return !gc->stop;
}

void gc_wait_gone(struct domain *d, const struct uuid *id, uint64_t ms)
{
	uint64_t until = now_ms() + ms;
	struct timespec at = { .tv_sec = (time_t)(until / 1000),
			       .tv_nsec = (long)(until % 1000) * 1000000 };
	struct uuid image;

	while (is_leftover(d, id, &image)) {
		gc_wake(d, &image);
		if (!wait_round(d->gc, &at))
			return;
	}
}

void gc_info(struct domain *d, struct domain_info *info)
{
	struct gc *gc = d->gc;
	auto_unlock(guard, &gc->mutex);

	info->gc_rounds = gc->rounds;
	info->gc_cleaned = gc->cleaned;
	info->gc_left = gc->left;
	info->gc_last = gc->last;
}
