/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Nodes: what the kernel knows by a number.
 *
 * A number is made from a UUID and a kind, so that a new server, and a new
 * mount, find the same. The whole namespace is one table in tree.c: for each
 * kind its mode and its operations, a NULL slot is EPERM. Operations that
 * look answer from memory; verbs may wait, and run on a worker. */
#ifndef OVSTORFS_NODE_H
#define OVSTORFS_NODE_H

#include <sys/stat.h>

#include "ovstorfs/domain.h"

struct server;

/* The low three bits of an object's number. Below 128 stand the fixed ones. */
enum node_kind {
	NODE_FIXED = 0,
	NODE_IMAGE = 1, /* images/I, or trash/I while it is deleted */
	NODE_VOLUMES = 2,
	NODE_VOLUME = 3,
	NODE_DELETED = 4,
	NODE_EXPIRES = 5,
};

enum node_fixed {
	NODE_ROOT = 1,
	NODE_IMAGES = 8,
	NODE_TRASH = 16,
	NODE_CONTROL = 24,
	NODE_STATUS = 32,
	NODE_METRICS = 40,
	NODE_EVENTS = 48,
	NODE_COLLECT = 56,
};

struct node {
	uint64_t ino;
	enum node_kind kind;
	const struct node_ops *ops;
	struct image_info image;   /* IMAGE, VOLUMES, DELETED, EXPIRES */
	struct volume_info volume; /* VOLUME */
};

/* One line of a listing. */
struct node_item {
	char name[UUID_TEXT];
	uint64_t cookie;
	struct node node;
};

struct node_ops {
	mode_t type; /* S_IFDIR or S_IFREG */
	int (*lookup)(struct server *s, const struct node *dir,
		      const char *name, struct node *ret_node);
	/* Up to max items after a cookie; 0: from the start. */
	size_t (*list)(struct server *s, const struct node *dir, uint64_t after,
		       struct node_item *items, size_t max);
	void (*stat)(struct server *s, const struct node *n, struct stat *st);
	/* The text of a file that is made when it is opened. */
	void (*text)(struct server *s, const struct node *n,
		     struct strbuf *out);
	int (*put)(struct server *s, const char *data, size_t len);

	int (*make_dir)(struct server *s, const struct caller *by,
			const struct node *dir, const char *name);
	int (*make_file)(struct server *s, const struct caller *by,
			 const struct node *dir, const char *name);
	int (*remove_dir)(struct server *s, const struct caller *by,
			  const struct node *dir, const char *name);
	int (*remove_file)(struct server *s, const struct caller *by,
			   const struct node *dir, const char *name);
	/* name goes from this directory to `to`, under the same name. */
	int (*move_out)(struct server *s, const struct caller *by,
			const struct node *to, const char *name);
	int (*resize)(struct server *s, const struct caller *by,
		      const struct node *n, uint64_t size);
};

/* ---- tree.c ---- */

/* The node behind a number. Errors: -ENOENT (-ESTALE for the kernel). */
int node_find(struct server *s, uint64_t ino, struct node *ret_node);
void node_of_image(const struct image_info *i, enum node_kind kind,
		   struct node *ret_node);
void node_of_volume(const struct volume_info *v, struct node *ret_node);
void node_fixed(enum node_fixed which, struct node *ret_node);

/* Mode, owner, times and number; the kind's own stat adds the rest. */
void node_stat(struct server *s, const struct node *n, struct stat *st);
uint64_t node_generation(const struct node *n);
/* An image's times, for all that it shows. */
void node_image_times(struct server *s, const struct node *n, struct stat *st);

/* The object whose attributes a node shows: NULL ref is the domain itself.
 * Errors: -EOPNOTSUPP it has none. */
int node_object(const struct node *n, struct ref *buf,
		const struct ref **ret_ref);

/* ---- attributes that live in this mount only: owner, mode, times ---- */

struct node_override {
	uint64_t ino;
	bool has_owner, has_mode, has_times;
	uid_t uid;
	gid_t gid;
	mode_t mode;
	struct timespec atime, mtime;
	struct timespec file_mtime; /* when mtime was set; newer wins */
};

void override_set(struct server *s, uint64_t ino, const struct stat *st,
		  int to_set, const struct timespec *file_mtime);
void override_apply(struct server *s, uint64_t ino, struct stat *st);
void override_drop(struct server *s, uint64_t ino);
void override_fini(struct server *s);

/* ---- the kinds ---- */

extern const struct node_ops node_root_ops, node_images_ops, node_trash_ops,
	node_control_ops, node_image_ops, node_volumes_ops, node_volume_ops,
	node_deleted_ops, node_expires_ops, node_status_ops, node_metrics_ops,
	node_events_ops, node_collect_ops;

#endif
