/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Open and close a volume's bytes.
 *
 * Open for writing takes the volume's lease exclusively. Open for reading
 * takes nothing where this host holds the leaf of the volume's chain, whose
 * lease covers it and then stays; else the volume's own, shared. What we knew
 * was a second old, so after a grant the record is read again, and all checks
 * are made again before the open is answered. One backing file serves all who
 * have a volume open here; each grant opens it anew by name.
 */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/log.h"
#include "ovstorfs/txn.h"

#define OPEN_WAIT_MS 1000 /* for a lease that changes hands */
#define TELL_MS 1000
#define AGAIN_MS 2000

static int check(const struct volume *v, const struct caller *by, bool write)
{
	if (v->damaged)
		return err_new(-EUCLEAN, "%s",
			       v->error ? v->error : "it is damaged");
	if (v->legality == LEGALITY_ILLEGAL && v->illegal_by != by->uid)
		return err_new(-EUCLEAN, "it is illegal");
	if (write && v->image->ref.dir != RECORD_LIVE)
		return err_new(-EROFS, "its image is in the trash");
	if (write && v->children)
		return err_new(-EROFS,
			       "it is not a leaf: %u volumes are "
			       "layered over it",
			       v->children);
	return 0;
}

static bool holds(struct volume *v)
{
	return v->use && v->use->held && v->use->mode == LEASE_EXCLUSIVE &&
	       !v->use->busy;
}

static bool descends(const struct volume *v, const struct volume *from)
{
	while (v && v != from)
		v = v->parent;
	return v == from;
}

/* A leaf over v whose lease this host has. Caller holds d->tree. */
static struct volume *find_cover(struct domain *d, struct volume *v)
{
	struct image *img = v->image;
	struct volume *cover = NULL;
	size_t i;

	pthread_mutex_lock(&d->uses_lock);
	for (i = 0; i < img->n_volumes && !cover; i++)
		if (!img->volumes[i]->children && holds(img->volumes[i]) &&
		    descends(img->volumes[i], v))
			cover = img->volumes[i];
	if (cover)
		cover->use->refs++;
	pthread_mutex_unlock(&d->uses_lock);
	return cover;
}

static int find(struct domain *d, const struct caller *by,
		struct volume_open *o)
{
	struct volume *v;
	int r = 0;

	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, &o->ref.volume);
	if (!v || !v->visible || !uuid_eq(&v->image->ref.image, &o->ref.image))
		r = err_new(-ENOENT, "no such volume");
	else
		r = check(v, by, o->write);
	if (r == 0) {
		hold_pin(d, v);
		o->volume = v;
		o->ref = volume_ref(v);
		o->cover = o->write ? NULL : find_cover(d, v);
	}
	pthread_rwlock_unlock(&d->tree);
	return r;
}

/* Does a record of the volume, or of its image, exist in this state? */
static bool has_record(struct domain *d, const struct ref *ref,
		       enum record state)
{
	auto_free char *text = NULL;
	size_t len;

	return storage_record_read(d->storage, ref, state, &text, &len) !=
	       -ENOENT;
}

/* Bytes that the collector will cut back to what they were before a change
 * that never happened. */
static bool is_to_be_undone(struct domain *d, const struct ref *ref)
{
	static const enum record states[] = { RECORD_SET, RECORD_UNDO };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(states); i++) {
		auto_meta struct meta m = { 0 };

		if (load_meta(d->storage, ref, states[i], META_VOLUME, &m) ==
			    0 &&
		    (m.op == OP_SNAPSHOT || m.op == OP_RESIZE))
			return true;
	}
	return false;
}

/* Markers that are in the way. With *ret_again the collector can help. */
static int check_markers(struct domain *d, const struct volume_open *o,
			 bool *ret_again)
{
	struct ref image = { .image = o->ref.image, .dir = o->ref.dir };

	if (has_record(d, &o->ref, RECORD_REMOVED) ||
	    has_record(d, &o->ref, RECORD_DYING))
		return err_new(-ENOENT, "it was removed meanwhile");
	*ret_again = true;
	if (o->ref.dir == RECORD_LIVE && has_record(d, &image, RECORD_REMOVING))
		return err_new(-EBUSY, "its image is being removed");
	if (o->write && is_to_be_undone(d, &o->ref))
		return err_new(-EBUSY, "an interrupted change of it has to be "
				       "undone first");
	*ret_again = false;
	return 0;
}

/* What the storage says now, under the lease. */
static int reread(struct domain *d, const struct caller *by,
		  struct volume_open *o, bool *ret_again)
{
	auto_meta struct meta m = { 0 };
	int r = check_markers(d, o, ret_again);

	if (r < 0)
		return r;
	r = load_meta(d->storage, &o->ref, RECORD_LIVE, META_VOLUME, &m);
	if (r == -ENOENT)
		return err_new(-ENOENT, "it was removed meanwhile");
	if (r < 0)
		return r;
	pthread_rwlock_wrlock(&d->tree);
	if (memcmp(&o->volume->txn, &m.txn, sizeof(m.txn))) {
		volume_from_meta(o->volume, &m);
		model_image_link(d, o->volume->image);
	}
	r = check(o->volume, by, o->write);
	o->writable = !d->options.read_only && !o->volume->children &&
		      o->volume->image->ref.dir == RECORD_LIVE;
	pthread_rwlock_unlock(&d->tree);
	/* A child that another host has made of it meanwhile stands in the
	 * child's record, not in its own. */
	if (r == 0 && o->write && !d->options.alone &&
	    changes_have_moved(d->changes)) {
		*ret_again = true;
		r = err_new(-EBUSY, "another host has changed something");
	}
	return r;
}

/* Count the handle. Caller has uses_lock, and the file is open. */
static void add_handle(struct domain *d, struct volume_open *o)
{
	struct use *u = o->volume->use;

	if (!u->readers && !u->writers)
		d->n_open++;
	if (o->write) {
		u->writers++;
		u->dirty = true;
	} else {
		u->readers++;
	}
	o->fd = u->fd;
}

/* Opens of one volume queue at its lock; closes may come between. */
static int open_file(struct domain *d, struct volume_open *o)
{
	struct use *u = o->volume->use;
	int fd = -1, r;

	pthread_mutex_lock(&d->uses_lock);
	if (u->fd >= 0 && (u->writable || !o->write)) {
		add_handle(d, o);
		pthread_mutex_unlock(&d->uses_lock);
		return 0;
	}
	pthread_mutex_unlock(&d->uses_lock);
	r = storage_data_open(d->storage, &o->ref,
			      o->writable ? O_RDWR : O_RDONLY, &fd);
	if (r < 0)
		return r;
	pthread_mutex_lock(&d->uses_lock);
	/* A reader had it from a time when it could not be written: the same
	 * number is now open for both. */
	if (u->fd >= 0) {
		dup3(fd, u->fd, O_CLOEXEC);
		close(fd);
	} else {
		u->fd = fd;
	}
	u->writable = o->writable;
	add_handle(d, o);
	pthread_mutex_unlock(&d->uses_lock);
	return 0;
}

static int take_lease(struct domain *d, const struct caller *by,
		      struct volume_open *o, bool *ret_again)
{
	uint64_t wait = now_ms() + OPEN_WAIT_MS;
	struct lease_member m;
	int r;

	lease_member(d->door, &m);
	if (m.state == LEASE_JOINING)
		wait = by->deadline;

	if (o->cover)
		return reread(d, by, o, ret_again);
	r = hold_get(d, o->volume, o->write ? LEASE_EXCLUSIVE : LEASE_SHARED,
		     wait < by->deadline ? wait : by->deadline);
	if (r < 0)
		return r;
	r = reread(d, by, o, ret_again);
	if (r < 0)
		hold_put(d, o->volume);
	return r;
}

static int open_once(struct domain *d, const struct caller *by,
		     const struct uuid *image, const struct uuid *volume,
		     bool write, bool *ret_again, struct volume_open **ret_open)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_free struct volume_open *o = xcalloc(1, sizeof(*o));
	struct volume *v;
	int r;

	o->ref = (struct ref){ *image, *volume, RECORD_LIVE };
	o->write = write;
	/* Who is still joining waits for the lease, below. */
	r = write ? domain_may_change(d) : 0;
	if (r < 0 && r != -EAGAIN)
		return r;
	lockset_add(&locks, RANK_IMAGE, image, false);
	lockset_add(&locks, RANK_VOLUME, volume, true);
	r = lockset_take(&locks, d, by->deadline) ?: find(d, by, o);
	if (r < 0)
		return r;
	v = o->volume;
	r = take_lease(d, by, o, ret_again);
	if (r == 0) {
		r = open_file(d, o);
		if (r < 0)
			hold_put(d, o->cover ? o->cover : v);
	} else if (o->cover) {
		hold_put(d, o->cover);
	}
	if (r < 0) {
		hold_put(d, v); /* the pin */
		return r;
	}
	*ret_open = steal(o);
	return 0;
}

/* What the collector undoes, and what another host has changed, is in the way
 * for a moment only: have it done, read it, and try again. */
static bool make_way(struct domain *d, const struct caller *by,
		     const struct uuid *image)
{
	uint64_t until = now_ms() + AGAIN_MS;

	if (turn_enter(d, until < by->deadline ? until : by->deadline) < 0)
		return false;
	turn_leave(d);
	return gc_wait_round(d, image, until);
}

int volume_open(struct domain *d, const struct caller *by,
		const struct uuid *image, const struct uuid *volume, bool write,
		struct volume_open **ret_open)
{
	auto_free char *why = NULL;
	bool again = false;
	int r = open_once(d, by, image, volume, write, &again, ret_open);

	if (r == 0 || !again)
		return r;
	why = xstrdup(err_text(r));
	if (!make_way(d, by, image))
		return err_new(r, "%s", why);
	return open_once(d, by, image, volume, write, &again, ret_open);
}

int volume_may_write(struct domain *d, const struct volume_open *o)
{
	struct lease_member m;

	if (!o->write)
		return err_new(-EBADF, "it is open for reading");
	lease_member(d->door, &m);
	if (m.state == LEASE_LOST)
		return err_new(-EIO, "the leases are lost: %s", m.error);
	return 0;
}

void volume_flushed(struct domain *d, struct volume_open *o)
{
	auto_unlock(guard, &d->uses_lock);

	if (o->flushed)
		return;
	o->flushed = true;
	o->volume->use->flushed++;
	pthread_cond_broadcast(&d->uses_cond);
}

/* ---- close ---- */

/* What the file is like at the end. True: others should hear of it. */
static bool take_bytes(struct domain *d, struct volume_open *o)
{
	struct volume *v = o->volume;
	struct storage_bytes b = { 0 };
	uint8_t header[QCOW2_HEADER];
	uint64_t capacity = 0;
	bool changed, qcow2;
	struct stat st;

	if (fstat(o->fd, &st) < 0)
		return false;
	pthread_rwlock_rdlock(&d->tree);
	qcow2 = v->format == FORMAT_QCOW2;
	pthread_rwlock_unlock(&d->tree);
	b.size = capacity = (uint64_t)st.st_size;
	b.allocated = (uint64_t)st.st_blocks * 512;
	b.mtime = st.st_mtim;
	if (qcow2) {
		capacity = 0;
		if (pread(o->fd, header, sizeof(header), 0) == sizeof(header))
			(void)qcow2_parse_size(header, sizeof(header),
					       &capacity);
	}
	pthread_rwlock_wrlock(&d->tree);
	changed = v->bytes.size != b.size || v->capacity != capacity;
	v->bytes = b;
	v->capacity = capacity;
	pthread_rwlock_unlock(&d->tree);
	return changed;
}

/* A ring entry for a size that changed while the volume was open here. Who
 * looks elsewhere may hear of it late, never of something false. */
static void tell_others(struct domain *d, const struct ref *ref)
{
	struct change_entry e = { .image = ref->image, .volume = ref->volume };
	uint64_t number;

	if (turn_enter(d, now_ms() + TELL_MS) < 0)
		return;
	if (changes_join(d->changes, &number) == 0)
		(void)changes_leave(d->changes, number, &e);
	turn_leave(d);
}

static bool drop_handle(struct domain *d, struct volume_open *o)
{
	struct use *u = o->volume->use;
	bool last;
	int fd = -1;

	pthread_mutex_lock(&d->uses_lock);
	if (o->flushed)
		u->flushed--;
	if (o->write)
		u->writers--;
	else
		u->readers--;
	last = !u->readers && !u->writers;
	if (last) {
		fd = u->fd;
		u->fd = -1;
		d->n_open--;
	}
	pthread_cond_broadcast(&d->uses_cond);
	pthread_mutex_unlock(&d->uses_lock);
	if (fd >= 0)
		close(fd);
	return last;
}

void volume_close(struct domain *d, struct volume_open *o)
{
	bool changed = take_bytes(d, o);

	if (drop_handle(d, o) && o->write && changed)
		tell_others(d, &o->ref);
	hold_put(d, o->cover ? o->cover : o->volume);
	hold_put(d, o->volume); /* the pin */
	free(o);
}
