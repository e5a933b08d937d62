/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The domain floor's inside: a domain in memory.
 *
 * The tree of images and volumes is what the last look at the storage told,
 * kept true by our own verbs and reread when others changed it. It is guarded
 * by d->tree; verbs change it with their image's lock held, so what a verb
 * has checked stays so while it runs. */
#ifndef OVSTORFS_MODEL_H
#define OVSTORFS_MODEL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "ovstorfs/changes.h"
#include "ovstorfs/domain.h"
#include "ovstorfs/locktab.h"
#include "ovstorfs/map.h"

/* What keeps a volume's lease here, and its open file. Guarded by
 * d->uses_lock; `busy` while a thread takes or releases the lease. */
struct use {
	bool held;
	bool busy;
	enum lease_mode mode;
	unsigned int refs; /* opens, covers, verbs */
	unsigned int readers, writers, flushed;
	bool lingering; /* closed, but somebody may still write */
	bool dirty;	/* was open for writing since the lease came */
	bool writable;	/* fd is for reading and writing */
	bool gave_up;	/* the domain is being closed: tried once */
	int fd;
	struct ref ref;
};

struct volume {
	struct uuid id;
	struct image *image;
	struct volume *parent;
	struct uuid parent_id;
	unsigned int children;
	unsigned int depth; /* 0: a base */
	uint64_t number;
	uint64_t data_generation;
	struct txn_id txn;
	struct storage_bytes bytes;
	uint64_t capacity;
	time_t created;
	time_t written;
	unsigned int format : 2, allocation : 2, legality : 2, wipe : 2;
	unsigned int visible : 1; /* else: a marker or a leftover with its name */
	unsigned int damaged : 1;
	unsigned int seen : 1; /* by the scan that goes on */
	uid_t illegal_by;      /* who may write it while illegal; -1: nobody */
	char *description;
	char *extra;
	char *error;
	struct use *use; /* NULL: no lease, not open */
	LIST_ENTRY(volume) in_image;
	LIST_ENTRY(volume) in_lingering;
};

struct image {
	struct ref ref; /* dir: its state */
	uint64_t number;
	struct txn_id txn;
	time_t created, written;
	uint64_t retention;
	time_t removed;
	uint64_t first_seen; /* now_ms() when this host saw it in the trash */
	bool purge;	     /* collect it before its time */
	bool damaged;
	bool seen;
	char *description;
	char *extra;
	char *error;
	LIST_HEAD(, volume) all;
	struct volume **volumes; /* visible ones, by cookie */
	size_t n_volumes, room;
};

struct domain {
	struct domain_options options;
	struct storage *storage;
	struct lease_door *door;
	struct lease_space space;
	struct meta meta; /* the domain record; guarded by tree */
	char *error;

	pthread_rwlock_t tree;
	struct map images, volumes; /* by uuid_hash() without the low 3 bits */
	struct image **by_number;   /* all of them */
	size_t n_images, room;
	uint64_t damaged; /* volumes and images */

	struct locktab locks;
	pthread_mutex_t uses_lock;
	pthread_cond_t uses_cond;
	LIST_HEAD(, volume) lingering;
	unsigned int n_open, n_lingering;
	size_t refresh_cursor; /* the pulse's own */

	atomic_bool live; /* between open and close */
	atomic_uint told; /* the member state that was told last */
	struct turn *turn;
	struct changes *changes;
	struct gc *gc;
	struct pulse *pulse;
};

#define HASH_MASK (~7ull)

static inline uint64_t hash_of(const struct uuid *u)
{
	return uuid_hash(u) & HASH_MASK;
}

/* ---- model.c: caller holds d->tree (for writing where it changes) ---- */

struct image *model_image(struct domain *d, const struct uuid *id);
struct volume *model_volume(struct domain *d, const struct uuid *id);
struct image *model_image_add(struct domain *d, const struct ref *ref);
/* Give it its place in listings. */
void model_image_renumber(struct domain *d, struct image *img, uint64_t number);
void model_image_del(struct domain *d, struct image *img);
struct volume *model_volume_add(struct domain *d, const struct uuid *id,
				struct image *img);
void model_volume_del(struct domain *d, struct volume *v);
/* Put v into its image's listing, or take it out; model_image_link() next. */
void model_volume_show(struct volume *v, bool visible);
/* Parents, children, depths and order of an image anew. */
void model_image_link(struct domain *d, struct image *img);
/* Does hash belong to another object than one with this UUID? */
bool model_hash_taken(struct domain *d, const struct uuid *id);
uint64_t volume_cookie(const struct volume *v);
enum volume_type volume_type(const struct volume *v);
struct ref volume_ref(const struct volume *v);
void volume_from_meta(struct volume *v, const struct meta *m);
void volume_to_meta(const struct volume *v, struct meta *ret_meta);
void image_from_meta(struct image *img, const struct meta *m);
void image_to_meta(const struct image *img, struct meta *ret_meta);

/* ---- look.c ---- */

/* Size and times, fresh where v is open, which is returned. Caller holds
 * d->tree. */
bool volume_bytes_now(struct domain *d, const struct volume *v,
		      struct storage_bytes *ret_bytes);

/* ---- load.c ---- */

/* Read everything. Takes d->tree. */
int load_domain(struct domain *d);
/* Read one image, under any name, with all that is in it; objects that went
 * are forgotten. Takes d->tree. Caller has the image's lock. */
int load_image(struct domain *d, const struct uuid *image);
/* Read and parse one record. */
int load_meta(struct storage *s, const struct ref *ref, enum record state,
	      enum meta_kind kind, struct meta *ret_meta);

/* ---- record.c ---- */

/* The domain record from its two copies: the sound one with the higher
 * sequence. *ret_agree: both are sound and the same; may be NULL. */
int load_record(struct storage *s, struct meta *ret_meta, bool *ret_agree);
/* Write the domain record with its next sequence: the older copy first, which
 * commits, then the other. */
int store_record(struct storage *s, struct meta *m);
/* Write both copies where a change has died between them. Takes the domain
 * lease if there is something to do. */
int record_settle(struct domain *d);
/* ---- qcow2.c: what a header says; pure ---- */

#define QCOW2_HEADER 32
/* Errors: -EINVAL not one. */
int qcow2_parse_size(const uint8_t *header, size_t len, uint64_t *ret_size);

/* Where the name of the backing file stands; len is 0 when there is none. */
struct qcow2_backing {
	uint64_t offset;
	size_t len;
};
#define QCOW2_BACKING_MAX 1023
/* Errors: -EINVAL not a header, or out of bounds. */
int qcow2_parse_backing(const uint8_t *header, size_t len,
			struct qcow2_backing *ret_backing);

/* ---- turn.c: the domain lease, shared by what waits for it here ---- */

int turn_open(struct domain *d);
void turn_close(struct domain *d);
int turn_enter(struct domain *d, uint64_t deadline);
void turn_leave(struct domain *d);

/* ---- holding.c: volume leases and open files ---- */

/* Keep v from being forgotten; caller holds d->tree, which comes before
 * d->uses_lock. hold_put() undoes it. */
void hold_pin(struct domain *d, struct volume *v);
/* Take v's lease in a mode, or count one that is held. Only tried when
 * deadline is 0. v is pinned, or its image locked. */
int hold_get(struct domain *d, struct volume *v, enum lease_mode mode,
	     uint64_t deadline);
void hold_put(struct domain *d, struct volume *v);
/* Count the lease of a volume that is open for writing here; false: it is not
 * (any more). */
bool hold_written(struct domain *d, struct volume *v);
/* What keeps anyone from deleting or changing v here: 0, or -EBUSY. Waits up
 * to a second for handles that are about to go. writers_only: readers do not
 * matter. */
int hold_check_idle(struct domain *d, const struct uuid *volume,
		    bool writers_only);
/* Give up all leases at the end of the mount; those whose volumes somebody can
 * still write are counted and left. No request is at work any more. */
unsigned int hold_close(struct domain *d);
/* What the headers of open qcow2 volumes say may change under their writers:
 * read some of them again. Once a second. */
void hold_refresh(struct domain *d);
/* Look after leases whose volumes others may still write. Once a second. */
void hold_probe(struct domain *d);

/* ---- gc.c ---- */

void gc_info(struct domain *d, struct domain_info *info);

int gc_open(struct domain *d);
void gc_close(struct domain *d);
/* Work is waiting: in one image, or anywhere (NULL). */
void gc_wake(struct domain *d, const struct uuid *image);
/* Have it look at an image, until the end of the next round; false: there was
 * none until then. */
bool gc_wait_round(struct domain *d, const struct uuid *image, uint64_t until);
/* Wait until the collector has no marker of this UUID any more. */
void gc_wait_gone(struct domain *d, const struct uuid *id, uint64_t ms);

/* Why nothing may be changed now: 0, -EROFS, -EAGAIN, -EIO. */
int domain_may_change(struct domain *d);

/* Tell the front. No locks held. */
void domain_changed(struct domain *d, const struct ref *ref);
void domain_event(struct domain *d, const char *event, const struct ref *ref,
		  int result);

#endif
