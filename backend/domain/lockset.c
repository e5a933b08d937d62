/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Sets of locks and leases, taken in the one order. See lockset.h. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/lockset.h"

static const struct uuid the_domain;

int lock_cmp(const struct lock_need *a, const struct lock_need *b)
{
	if (a->rank != b->rank)
		return a->rank < b->rank ? -1 : 1;
	if (a->place != b->place)
		return a->place < b->place ? -1 : 1;
	return uuid_cmp(&a->id, &b->id);
}

static int need_cmp(const void *a, const void *b)
{
	return lock_cmp(a, b);
}

static struct lock_need *need_add(struct lockset *ls, enum lock_rank rank,
				  const struct uuid *id, bool exclusive)
{
	struct lock_need *n;

	if (ls->n == ls->room) {
		ls->room = ls->room ? 2 * ls->room : 4;
		ls->needs = realloc(ls->needs, ls->room * sizeof(*ls->needs));
		if (!ls->needs)
			abort();
	}
	n = &ls->needs[ls->n++];
	*n = (struct lock_need){ .rank = rank,
				 .id = *id,
				 .exclusive = exclusive };
	return n;
}

void lockset_add(struct lockset *ls, enum lock_rank rank, const struct uuid *id,
		 bool exclusive)
{
	need_add(ls, rank, id ? id : &the_domain, exclusive);
}

static int need_take(struct domain *d, struct lock_need *n, uint64_t deadline)
{
	int r;

	switch (n->rank) {
	case RANK_DOMAIN_LEASE:
		r = turn_enter(d, deadline);
		break;
	case RANK_VOLUME_LEASE:
		/* The domain lease is in hand: only tried. */
		r = hold_get(d, n->volume, LEASE_EXCLUSIVE, 0);
		break;
	default:
		n->lock.rank = n->rank;
		n->lock.id = n->id;
		n->lock.exclusive = n->exclusive;
		r = locktab_take(&d->locks, &n->lock, deadline);
	}
	n->taken = r == 0;
	return r;
}

static void need_release(struct domain *d, struct lock_need *n)
{
	if (!n->taken)
		return;
	n->taken = false;
	switch (n->rank) {
	case RANK_DOMAIN_LEASE:
		turn_leave(d);
		break;
	case RANK_VOLUME_LEASE:
		hold_put(d, n->volume);
		break;
	default:
		locktab_release(&d->locks, &n->lock);
	}
}

/* The table of locks keeps pointers into needs: nothing is added to a set in
 * which something is taken. */
int lockset_take(struct lockset *ls, struct domain *d, uint64_t deadline)
{
	size_t i;
	int r;

	ls->d = d;
	if (ls->n)
		qsort(ls->needs, ls->n, sizeof(*ls->needs), need_cmp);
	for (i = 0; i < ls->n; i++) {
		r = need_take(d, &ls->needs[i], deadline);
		if (r < 0) {
			lockset_release(ls);
			return r;
		}
	}
	return 0;
}

int lockset_take_image(struct lockset *ls, struct domain *d,
		       const struct uuid *image, uint64_t deadline)
{
	lockset_add(ls, RANK_DOMAIN_LEASE, NULL, true);
	lockset_add(ls, RANK_DOMAIN, NULL, false);
	lockset_add(ls, RANK_IMAGE, image, true);
	return lockset_take(ls, d, deadline);
}

static bool descends(const struct volume *v, const struct volume *from)
{
	while (v && v != from)
		v = v->parent;
	return v == from;
}

static void add_leases(struct domain *d, struct volume *v,
		       struct lockset *leases)
{
	struct image *img = v->image;
	size_t i;

	pthread_rwlock_rdlock(&d->tree);
	for (i = 0; i < img->n_volumes; i++) {
		struct volume *w = img->volumes[i];

		if (w == v || (!w->children && descends(w, v)))
			need_add(leases, RANK_VOLUME_LEASE, &w->id, true)
				->volume = w;
	}
	if (!v->visible)
		need_add(leases, RANK_VOLUME_LEASE, &v->id, true)->volume = v;
	pthread_rwlock_unlock(&d->tree);
}

int lockset_try_volume(struct lockset *ls, struct volume *v)
{
	struct lockset leases = LOCKSET_INIT;
	size_t i;
	int r;

	add_leases(ls->d, v, &leases);
	r = lockset_take(&leases, ls->d, 0);
	if (r < 0) {
		lockset_release(ls);
		return r;
	}
	ls->leases = realloc(ls->leases,
			     (ls->n_leases + leases.n) * sizeof(*ls->leases));
	if (!ls->leases)
		abort();
	for (i = 0; i < leases.n; i++)
		ls->leases[ls->n_leases++] = leases.needs[i];
	free(leases.needs);
	return 0;
}

void lockset_release(struct lockset *ls)
{
	size_t i;

	for (i = ls->n_leases; i > 0; i--)
		need_release(ls->d, &ls->leases[i - 1]);
	for (i = ls->n; i > 0; i--)
		need_release(ls->d, &ls->needs[i - 1]);
	free(ls->leases);
	free(ls->needs);
	*ls = (struct lockset){ 0 };
}
