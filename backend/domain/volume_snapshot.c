/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Make an empty volume a qcow2 layer over a parent.
 *
 *	step			a crash just after it leaves	the collector
 *	1 intent in the ring	a number that nobody used	-
 *	2 marker V.meta.set	the empty volume, a marker	drops the marker
 *	3 qcow2 header in V's	a volume with bytes that its	empties it, drops
 *	  bytes, made durable	record does not know		the marker
 *	4 marker -> metadata	the layer; the parent is	leaves it alone
 *				internal and read-only
 *
 * Both leases are held exclusively, and the parent is not open for writing:
 * its bytes are what the layer stands on from step 4.
 */
#include <fcntl.h>
#include <unistd.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/io.h"
#include "ovstorfs/lockset.h"
#include "ovstorfs/qemuimg.h"
#include "ovstorfs/set.h"
#include "ovstorfs/txn.h"

struct snapshot {
	struct domain *d;
	struct ref ref, parent_ref;
	struct volume *volume, *parent;
	uint64_t size;		    /* what the guest sees */
	struct storage_bytes bytes; /* of the new layer */
};

static int check_volume(const struct snapshot *s)
{
	const struct volume *v = s->volume;

	if (!v || !v->visible || !uuid_eq(&v->image->ref.image, &s->ref.image))
		return err_new(-ENOENT, "no such volume");
	if (v->image->ref.dir != RECORD_LIVE)
		return err_new(-EPERM, "its image is in the trash");
	if (v->damaged)
		return err_new(-EUCLEAN, "it is damaged; see fsck.ovstorfs");
	if (!uuid_is_nil(&v->parent_id))
		return err_new(-EPERM, "it has a parent, which cannot be "
				       "changed");
	if (v->children)
		return err_new(-EPERM, "it is a parent itself");
	return 0;
}

static int check_parent(const struct snapshot *s)
{
	const struct volume *p = s->parent;

	if (!p || !p->visible || p->image != s->volume->image)
		return err_new(-EINVAL, "the parent is no volume of this "
					"image");
	if (p == s->volume)
		return err_new(-EINVAL, "a volume cannot be its own parent");
	if (p->damaged || p->legality != LEGALITY_LEGAL)
		return err_new(-EINVAL, "the parent is illegal or damaged");
	if (p->children)
		return err_new(-EINVAL, "the parent has a child already");
	if (p->depth + 1 >= OVSTORFS_DEPTH_MAX)
		return err_new(-EINVAL, "the chain has %d layers",
			       OVSTORFS_DEPTH_MAX);
	return 0;
}

static int check(struct snapshot *s)
{
	struct domain *d = s->d;
	int r;

	pthread_rwlock_rdlock(&d->tree);
	s->volume = model_volume(d, &s->ref.volume);
	s->parent = model_volume(d, &s->parent_ref.volume);
	r = check_volume(s) ?: check_parent(s);
	pthread_rwlock_unlock(&d->tree);
	return r;
}

static int check_empty(const struct snapshot *s)
{
	struct storage_bytes b = { 0 };
	int r = storage_data_stat(s->d->storage, &s->ref, &b);

	if (r == 0 && b.size)
		r = err_new(-EPERM, "parent can be set only while the volume "
				    "is empty");
	return r;
}

/* The size that the guest sees of the parent, read now. */
static int measure(struct snapshot *s)
{
	struct storage_bytes b = { 0 };
	uint8_t header[QCOW2_HEADER];
	auto_close int fd = -1;
	int r = storage_data_stat(s->d->storage, &s->parent_ref, &b);

	s->size = b.size;
	if (r < 0 || s->parent->format == FORMAT_RAW)
		return r;
	r = storage_data_open(s->d->storage, &s->parent_ref, O_RDONLY, &fd);
	if (r < 0)
		return r;
	if (b.size < QCOW2_HEADER ||
	    pread_full(fd, header, QCOW2_HEADER, 0) < 0 ||
	    qcow2_parse_size(header, QCOW2_HEADER, &s->size) < 0)
		return err_new(-EINVAL, "the parent's format is qcow2, but it "
					"has no qcow2 header");
	return 0;
}

static int write_layer(const struct snapshot *s)
{
	struct qemuimg_layer layer = {
		.fd = -1,
		.claim_fd = s->d->options.claim_fd,
		.backing_format = format_word(s->parent->format),
		.size = (s->size + 511) & ~511ull,
	};
	char backing[UUID_TEXT];
	int r;

	layer.backing = uuid_format(&s->parent_ref.volume, backing);
	r = storage_data_open(s->d->storage, &s->ref, O_RDWR, &layer.fd);
	if (r < 0)
		return r;
	r = qemuimg_create_layer(&layer) ?: fsync_fd(layer.fd, "the layer");
	close(layer.fd);
	return r;
}

static int steps(struct snapshot *s, struct txn *txn, struct meta *m)
{
	int r;

	pthread_rwlock_rdlock(&s->d->tree);
	volume_to_meta(s->volume, m);
	pthread_rwlock_unlock(&s->d->tree);
	m->parent = s->parent_ref.volume;
	m->format = FORMAT_QCOW2;
	m->size_before = 0;
	r = fault_point("volume_snapshot.intent") ?:
		    txn_write(txn, &s->ref, RECORD_SET, m);
	if (r < 0)
		return r;
	r = fault_point("volume_snapshot.marker") ?:
		    write_layer(s)		  ?:
		    storage_data_stat(s->d->storage, &s->ref, &s->bytes);
	if (r < 0)
		return r;
	r = fault_point("volume_snapshot.layer") ?:
		    storage_record_move(s->d->storage, &s->ref, RECORD_SET,
					RECORD_LIVE);
	return r < 0 ? r : fault_point("volume_snapshot.commit");
}

static void take_over(struct snapshot *s, const struct meta *m)
{
	pthread_rwlock_wrlock(&s->d->tree);
	volume_from_meta(s->volume, m);
	s->volume->bytes = s->bytes;
	s->volume->capacity = (s->size + 511) & ~511ull;
	model_image_link(s->d, s->volume->image);
	pthread_rwlock_unlock(&s->d->tree);
}

int volume_snapshot(struct domain *d, const struct caller *by,
		    const struct uuid *image, const struct uuid *volume,
		    const struct uuid *parent)
{
	auto_lockset struct lockset locks = LOCKSET_INIT;
	auto_txn struct txn *txn = NULL;
	auto_meta struct meta m = { 0 };
	struct snapshot s = {
		.d = d,
		.ref = { *image, *volume, RECORD_LIVE },
		.parent_ref = { *image, *parent, RECORD_LIVE },
	};
	int r;

	r = hold_check_idle(d, volume, false) ?:
						hold_check_idle(d, parent, true);
	if (r < 0)
		return r;
	r = lockset_take_image(&locks, d, image, by->deadline);
	if (r < 0)
		return r;
	r = check(&s) ?: hold_check_idle(d, volume, false);
	if (r < 0)
		return r;
	r = hold_check_idle(d, parent, true);
	if (r < 0)
		return err_add(r, "the parent");
	r = lockset_try_volume(&locks, s.parent) ?:
		    lockset_try_volume(&locks, s.volume);
	if (r < 0)
		return r;
	r = check_empty(&s) ?: measure(&s);
	if (r < 0)
		return r;
	r = txn_begin(d, &s.ref, OP_SNAPSHOT, "snapshot", &txn);
	if (r < 0)
		return r;
	r = steps(&s, txn, &m);
	if (r < 0)
		return r;
	take_over(&s, &m);
	r = txn_commit(&txn);
	domain_changed(d, &s.parent_ref);
	return r;
}

int volume_set_parent(struct domain *d, const struct caller *by,
		      const struct ref *ref, const char *key, const char *value)
{
	struct uuid parent;
	bool same = false;
	struct volume *v;
	int r = uuid_parse(value, &parent);

	if (r < 0)
		return err_add(r, "%s", key);
	pthread_rwlock_rdlock(&d->tree);
	v = model_volume(d, &ref->volume);
	same = v && v->visible && uuid_eq(&v->parent_id, &parent);
	pthread_rwlock_unlock(&d->tree);
	return same ? 0 :
		      volume_snapshot(d, by, &ref->image, &ref->volume,
				      &parent);
}
