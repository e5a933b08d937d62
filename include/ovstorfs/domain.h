/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A storage domain, as the front sees it: what is there, and the verbs.
 *
 * Looking (stat, list, find, attribute reads) is answered from memory and
 * never waits for the storage or a lease. Verbs do what must hold: locks and
 * leases, checks, steps, commit; each is in a file of its own, which opens
 * with its steps. All are called without locks held, from any thread, and
 * return 0 or -Exxx with err_new() done. */
#ifndef OVSTORFS_DOMAIN_H
#define OVSTORFS_DOMAIN_H

#include <stdio.h>
#include <sys/types.h>

#include "ovstorfs/lease.h"
#include "ovstorfs/meta.h"
#include "ovstorfs/storage.h"

struct domain;

/* On whose behalf a verb runs, and until when that one waits (now_ms()
 * clock). */
struct caller {
	uid_t uid;
	uint64_t deadline;
};

struct domain_options {
	const char *source;
	bool read_only;
	bool alone;	/* no other host can change the domain */
	int lease_sock; /* to the lease holder; taken */
	int claim_fd;	/* every child that writes keeps it open; -1: none */
	uint64_t gc_period;	  /* seconds; 0: only when woken */
	uint64_t trash_retention; /* seconds */

	/* Called from any thread, with no lock of the domain held. */
	void (*changed)(void *arg, const struct ref *ref);
	void (*event)(void *arg, const char *event, unsigned int host,
		      const struct ref *ref, int result);
	void *arg;
};

/* Lay out a new domain and write its record, which makes it one. name may be
 * NULL. io_timeout: seconds, 0: sanlock's default of 10. */
int domain_format(const char *source, const char *name, uint64_t io_timeout,
		  bool force);

/* The lockspace and lease places of the domain in source, for the holder.
 * read_only: it will not be written. */
int domain_lease_space(const char *source, bool read_only,
		       struct lease_space *ret_space);

/* Load a domain and serve it. Changes wait until the lease door has joined.
 * Owner: domain_close(). */
int domain_open(const struct domain_options *o, struct domain **ret_domain);

/* Stop the collector, release what is held. Returns how many leases could not
 * be given up, since somebody can still write under them: those are for the
 * next mount. */
unsigned int domain_close(struct domain *d);

/* ---- looking ---- */

struct domain_info {
	struct uuid uuid;
	const char *name; /* "" when none; lives as long as the domain */
	const char *backend;
	const char *source;
	const char *state; /* joining ok read-only lost stuck */
	struct lease_member member;
	uint64_t total, free; /* bytes, some seconds old at most */
	const char *level;    /* ok warn critical */
	uint64_t images, volumes, trashed, damaged;
	uint64_t open_volumes, lingering;
	uint64_t gc_rounds, gc_cleaned, gc_left;
	time_t gc_last;
	uint64_t change; /* number of the last one */
};

void domain_info(struct domain *d, struct domain_info *ret_info);

struct image_info {
	struct ref ref;
	uint64_t number;     /* orders listings, unique */
	uint64_t generation; /* another one when the UUID is made anew */
	time_t created;
	time_t changed;
	bool trashed;
	time_t deleted, expires; /* of a trashed one */
};

enum volume_type { TYPE_BASE, TYPE_INTERNAL, TYPE_LEAF, TYPE_SHARED };

struct volume_info {
	struct ref ref;
	uint64_t cookie;     /* orders listings, leaves first; unique */
	uint64_t generation; /* another one when the UUID is made anew */
	enum volume_type type;
	bool damaged;
	bool illegal;
	bool open;
	time_t created;
	struct storage_bytes bytes;
};

/* Objects by 61 bits of uuid_hash() (the low 3 are the front's).
 * Errors: -ENOENT. */
int image_by_hash(struct domain *d, uint64_t hash, struct image_info *ret_info);
int volume_by_hash(struct domain *d, uint64_t hash,
		   struct volume_info *ret_info);

/* Errors: -ENOENT. An image in the trash is found too. */
int image_stat(struct domain *d, const struct uuid *image,
	       struct image_info *ret_info);
int volume_stat(struct domain *d, const struct uuid *image,
		const struct uuid *volume, struct volume_info *ret_info);

/* Up to max entries that come after cookie (0: from the start); returns how
 * many. */
size_t image_list(struct domain *d, bool trashed, uint64_t after,
		  struct image_info *ret_infos, size_t max);
size_t volume_list(struct domain *d, const struct uuid *image, uint64_t after,
		   struct volume_info *ret_infos, size_t max);

/* An attribute of the domain (ref NULL), an image or a volume; key without
 * prefix. Errors: -ENODATA has none; -EOPNOTSUPP unknown key. */
int attr_get(struct domain *d, const struct ref *ref, const char *key,
	     struct strbuf *out);

/* The keys that have a value: each name followed by a NUL. */
void attr_list(struct domain *d, const struct ref *ref, struct strbuf *out);

/* Keep the text of the last refusal as the object's `error`. */
void attr_note_error(struct domain *d, const struct ref *ref, const char *text);

/* ---- verbs ---- */

int image_create(struct domain *d, const struct caller *by,
		 const struct uuid *image);
/* Errors: -ENOTEMPTY it has volumes. */
int image_remove(struct domain *d, const struct caller *by,
		 const struct uuid *image);
int image_trash(struct domain *d, const struct caller *by,
		const struct uuid *image);
/* Errors: -ESTALE the collector has begun. */
int image_restore(struct domain *d, const struct caller *by,
		  const struct uuid *image);
/* Collect an image that is in the trash now. */
int image_purge(struct domain *d, const struct caller *by,
		const struct uuid *image);

int volume_create(struct domain *d, const struct caller *by,
		  const struct uuid *image, const struct uuid *volume);
int volume_remove(struct domain *d, const struct caller *by,
		  const struct uuid *image, const struct uuid *volume);
int volume_resize(struct domain *d, const struct caller *by,
		  const struct uuid *image, const struct uuid *volume,
		  uint64_t size);

/* Make an empty volume a qcow2 layer over parent. */
int volume_snapshot(struct domain *d, const struct caller *by,
		    const struct uuid *image, const struct uuid *volume,
		    const struct uuid *parent);

/* Set an attribute; value is len bytes. Errors: -EOPNOTSUPP unknown key;
 * -EPERM read-only; -EINVAL a bad value. */
int attr_set(struct domain *d, const struct caller *by, const struct ref *ref,
	     const char *key, const char *value, size_t len);

/* One round of the collector now; returns when it is done. *ret_left: markers
 * that could not be collected yet. */
int gc_run(struct domain *d, uint64_t *ret_cleaned, uint64_t *ret_left);

/* ---- bytes ---- */

/* An open volume. fd is the backing file, one for all that have the volume
 * open; borrowed while it is open. */
struct volume_open {
	struct volume *volume;
	struct volume *cover; /* whose lease covers it */
	struct ref ref;
	int fd;
	bool write;
	bool writable; /* fd is for reading and writing */
	bool flushed;
};

/* Errors: -EBUSY held by another host; -EUCLEAN illegal or damaged; -EROFS
 * for writing and not a leaf. Owner: volume_close(). */
int volume_open(struct domain *d, const struct caller *by,
		const struct uuid *image, const struct uuid *volume, bool write,
		struct volume_open **ret_open);

/* The caller has given up its own ways to the file (backing ids) before. May
 * wait for the storage. */
void volume_close(struct domain *d, struct volume_open *o);

/* A close(2) was seen; the last close may follow soon. */
void volume_flushed(struct domain *d, struct volume_open *o);

/* May bytes be written through o now? 0, or -EIO (lost), -EROFS. */
int volume_may_write(struct domain *d, const struct volume_open *o);

/* ---- offline ---- */

struct check_options {
	bool repair;
	bool mounted; /* somebody may be at work: look twice */
	void (*say)(void *arg, const char *object, const char *problem,
		    bool repaired);
	void *arg;
};

struct check_result {
	uint64_t images, volumes, problems, repaired;
};

/* Errors: -EUCLEAN the domain record is unreadable, told through say. */
int check_domain(const char *source, const struct check_options *o,
		 struct check_result *ret_result);

/* Records, ring and leases of source as text, or as JSON. */
int dump_domain(const char *source, bool json, FILE *out);

#endif
