/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The collector: finds markers and has them collected, see gc_marker.c.
 *
 * A round lists all markers without any lease, then goes through them. It is
 * made at a random moment of each period, when an image in the trash falls
 * due, when a verb hints at an image, and when somebody asks for one.
 */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/cond.h"
#include "ovstorfs/err.h"
#include "ovstorfs/gc.h"
#include "ovstorfs/io.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/log.h"
#include "ovstorfs/str.h"

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

	if (gc_is_marked(e))
		found_add(f, &e->ref);
	return 0;
}

/* ---- a round ---- */

static void collect_all(struct found *f)
{
	size_t i;

	for (i = 0; i < f->n; i++) {
		const struct ref *ref = &f->refs[i];
		bool collected;
		int r = gc_collect(f->d, ref, &collected);

		if (collected) {
			f->cleaned++;
			domain_changed(f->d, ref);
			domain_event(f->d, "collected", ref, 0);
		}
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
	r = lockset_take(&locks, d, now_ms() + GC_TAKE_MS);
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

	while (!gc->stop && gc->wanted == gc->finished && !gc->n_hints)
		if (!cond_wait_until(&gc->wake, &gc->mutex, at))
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

	pthread_mutex_init(&gc->mutex, NULL);
	cond_init(&gc->wake);
	cond_init(&gc->done);
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
			gc->hints = realloc(gc->hints,
					    gc->hints_room * sizeof(*image));
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
	int r = turn_enter(d, now_ms() + GC_TAKE_MS);

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

/* Until the end of the next round; false: none until then. */
static bool wait_round(struct gc *gc, uint64_t until)
{
	auto_unlock(guard, &gc->mutex);
	uint64_t rounds = gc->rounds;

	while (gc->rounds == rounds && !gc->stop)
		if (!cond_wait_until(&gc->done, &gc->mutex, until))
			return false;
	return !gc->stop;
}

bool gc_wait_round(struct domain *d, const struct uuid *image, uint64_t until)
{
	gc_wake(d, image);
	return wait_round(d->gc, until);
}

void gc_wait_gone(struct domain *d, const struct uuid *id, uint64_t ms)
{
	uint64_t until = now_ms() + ms;
	struct uuid image;

	while (is_leftover(d, id, &image)) {
		if (!gc_wait_round(d, &image, until))
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
