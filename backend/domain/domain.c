/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Format, open and close a storage domain; what state it is in. */
#include <stdlib.h>
#include <unistd.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/cond.h"
#include "ovstorfs/err.h"
#include "ovstorfs/log.h"
#include "ovstorfs/pulse.h"

#define IO_TIMEOUT 10 /* sanlock's default, seconds */

static int space_of(struct storage *s, const struct meta *m,
		    struct lease_space *ret_space)
{
	struct lease_space sp = { .io_timeout = (unsigned int)m->io_timeout };
	uint64_t zero = 0;
	int r;

	uuid_format(&m->uuid, sp.name);
	r = storage_place(s, PLACE_IDS, sp.ids_path, &sp.ids_offset) ?:
		    storage_place(s, PLACE_LEASES, sp.leases_path, &sp.leases_offset) ?:
		    storage_place(s, PLACE_LOCK, sp.lock_path, &zero);
	if (r == 0)
		*ret_space = sp;
	return r;
}

/* Format a domain.		A crash after the step leaves	which
 *  1 layout of the backend	a directory with empty areas	format takes
 *  2 leases, change ring	the same, initialised		over when it
 *  3 domain record		a domain			is run again
 */
int domain_format(const char *source, const char *name, uint64_t io_timeout,
		  bool force)
{
	struct lease_space space = { 0 };
	struct storage *s = NULL;
	auto_meta struct meta m = { .kind = META_DOMAIN,
				    .created = time(NULL),
				    .op = OP_CREATE };
	int r;

	if (name && (strlen(name) > OVSTORFS_VALUE_MAX ||
		     !text_is_plain(name, strlen(name)) || !*name))
		return err_new(-EINVAL, "a name is plain text");
	uuid_new(&m.uuid);
	m.written = m.created;
	m.name = name ? xstrdup(name) : NULL;
	m.io_timeout = io_timeout ? io_timeout : IO_TIMEOUT;
	m.warn_free = xstrdup("10%");
	m.critical_free = xstrdup("5%");
	r = storage_format(source, force);
	if (r < 0)
		return r;
	r = storage_open(source, false, &s);
	if (r < 0)
		return r;
	r = space_of(s, &m, &space)	       ?:
		    lease_space_format(&space) ?:
		    changes_format(s)	       ?:
						 store_record(s, &m);
	storage_close(s);
	return r;
}

int domain_lease_space(const char *source, bool read_only,
		       struct lease_space *ret_space)
{
	struct storage *s = NULL;
	auto_meta struct meta m = { 0 };
	int r;

	r = storage_open(source, read_only, &s);
	if (r < 0)
		return r;
	r = load_record(s, &m, NULL);
	if (r == 0)
		r = space_of(s, &m, ret_space);
	storage_close(s);
	return r;
}

static void locks_init(struct domain *d)
{
	pthread_rwlock_init(&d->tree, NULL);
	pthread_mutex_init(&d->uses_lock, NULL);
	cond_init(&d->uses_cond);
	locktab_init(&d->locks);
	LIST_INIT(&d->lingering);
}

static void locks_fini(struct domain *d)
{
	locktab_fini(&d->locks);
	pthread_cond_destroy(&d->uses_cond);
	pthread_mutex_destroy(&d->uses_lock);
	pthread_rwlock_destroy(&d->tree);
}

static void member_changed(void *arg)
{
	struct domain *d = arg;
	struct lease_member m;

	if (!d->live)
		return;
	lease_member(d->door, &m);
	if (atomic_exchange(&d->told, m.state) == m.state)
		return;
	if (m.state == LEASE_JOINED)
		log_info("%s: joined as host %u, generation %llu",
			 d->options.source, m.host_id,
			 (unsigned long long)m.generation);
	else if (m.state != LEASE_JOINING)
		log_error("%s: leases are %s: %s", d->options.source,
			  m.state == LEASE_LOST ? "lost" : "not to be had",
			  m.error);
	domain_event(d, m.state == LEASE_JOINED ? "joined" : "leases", NULL,
		     m.state == LEASE_JOINED ? 0 : -EIO);
	if (d->options.gc_period)
		gc_wake(d, NULL);
}

static int open_all(struct domain *d)
{
	const struct domain_options *o = &d->options;
	int r;

	r = storage_open(o->source, o->read_only, &d->storage);
	if (r < 0)
		return r;
	r = load_record(d->storage, &d->meta, NULL);
	if (r < 0)
		return err_add(r, "%s", o->source);
	r = space_of(d->storage, &d->meta, &d->space)	  ?:
		    changes_open(d->storage, &d->changes) ?:
							    load_domain(d);
	if (r < 0)
		return r;
	r = lease_door_open(o->lease_sock, member_changed, d, &d->door);
	if (r < 0)
		return r;
	return turn_open(d) ?: gc_open(d) ?: pulse_open(d);
}

int domain_open(const struct domain_options *o, struct domain **ret_domain)
{
	struct domain *d = xcalloc(1, sizeof(*d));
	int r;

	d->options = *o;
	locks_init(d);
	r = open_all(d);
	if (r < 0) {
		domain_close(d);
		return r;
	}
	*ret_domain = d;
	/* What the door has said meanwhile is told now. */
	d->live = true;
	member_changed(d);
	return 0;
}

unsigned int domain_close(struct domain *d)
{
	unsigned int left = 0;

	if (!d)
		return 0;
	d->live = false;
	gc_close(d);
	pulse_close(d);
	if (d->door)
		left = hold_close(d);
	turn_close(d);
	if (d->door)
		lease_door_close(d->door);
	changes_close(d->changes);
	while (d->n_images)
		model_image_del(d, d->by_number[d->n_images - 1]);
	map_fini(&d->images);
	map_fini(&d->volumes);
	free(d->by_number);
	free(d->error);
	meta_fini(&d->meta);
	storage_close(d->storage);
	locks_fini(d);
	free(d);
	return left;
}

void domain_changed(struct domain *d, const struct ref *ref)
{
	if (d->options.changed)
		d->options.changed(d->options.arg, ref);
}

void domain_event(struct domain *d, const char *event, const struct ref *ref,
		  int result)
{
	struct lease_member m;

	if (!d->options.event)
		return;
	lease_member(d->door, &m);
	d->options.event(d->options.arg, event, m.host_id, ref, result);
}

int domain_may_change(struct domain *d)
{
	struct lease_member m;

	if (d->options.read_only)
		return err_new(-EROFS, "the domain is mounted read-only");
	lease_member(d->door, &m);
	switch (m.state) {
	case LEASE_JOINED:
		return 0;
	case LEASE_JOINING:
		return err_new(-EAGAIN, "this host is still joining");
	case LEASE_FAILED:
		return err_new(-EROFS, "this host could not join: %s", m.error);
	case LEASE_LOST:
		break;
	}
	return err_new(-EROFS, "the leases are lost: %s", m.error);
}

static const char *state_word(struct domain *d, const struct lease_member *m)
{
	if (m->state == LEASE_LOST)
		return "lost";
	if (pulse_is_stuck(d))
		return "stuck";
	if (d->options.read_only || m->state == LEASE_FAILED)
		return "read-only";
	return m->state == LEASE_JOINED ? "ok" : "joining";
}

void domain_info(struct domain *d, struct domain_info *ret_info)
{
	struct domain_info i = { .source = d->options.source,
				 .backend = d->storage->ops->name };
	size_t n;

	lease_member(d->door, &i.member);
	i.state = state_word(d, &i.member);
	pthread_rwlock_rdlock(&d->tree);
	i.uuid = d->meta.uuid;
	i.name = d->meta.name ? d->meta.name : "";
	i.damaged = d->damaged;
	for (n = 0; n < d->n_images; n++) {
		const struct image *img = d->by_number[n];

		i.images += img->ref.dir == RECORD_LIVE;
		i.trashed += img->ref.dir == RECORD_REMOVED && img->retention;
		i.volumes += img->ref.dir == RECORD_LIVE ? img->n_volumes : 0;
	}
	pthread_rwlock_unlock(&d->tree);
	pthread_mutex_lock(&d->uses_lock);
	i.open_volumes = d->n_open;
	i.lingering = d->n_lingering;
	pthread_mutex_unlock(&d->uses_lock);
	pulse_space(d, &i.total, &i.free, &i.level);
	gc_info(d, &i);
	i.change = changes_number(d->changes);
	*ret_info = i;
}
