/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The namespace as one table: what there is, under which number, with which
 * operations.
 *
 *	/				NODE_ROOT
 *	/images/			NODE_IMAGES
 *	/images/I/			NODE_IMAGE	hash(I) | 1
 *	/images/I/volumes/		NODE_VOLUMES	hash(I) | 2
 *	/images/I/volumes/V		NODE_VOLUME	hash(V) | 3
 *	/trash/				NODE_TRASH
 *	/trash/I/			NODE_IMAGE	the same, deleted
 *	/trash/I/deleted, expires	NODE_DELETED, NODE_EXPIRES
 *	/.ovstorfs/			NODE_CONTROL
 *	/.ovstorfs/status ...		NODE_STATUS ...
 */
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

static const struct {
	enum node_fixed which;
	const struct node_ops *ops;
} fixed[] = {
	{ NODE_ROOT, &node_root_ops },	   { NODE_IMAGES, &node_images_ops },
	{ NODE_TRASH, &node_trash_ops },   { NODE_CONTROL, &node_control_ops },
	{ NODE_STATUS, &node_status_ops }, { NODE_METRICS, &node_metrics_ops },
	{ NODE_EVENTS, &node_events_ops }, { NODE_COLLECT, &node_collect_ops },
};

static const struct node_ops *const kinds[] = {
	[NODE_IMAGE] = &node_image_ops,	    [NODE_VOLUMES] = &node_volumes_ops,
	[NODE_VOLUME] = &node_volume_ops,   [NODE_DELETED] = &node_deleted_ops,
	[NODE_EXPIRES] = &node_expires_ops,
};

void node_fixed(enum node_fixed which, struct node *ret_node)
{
	size_t i;

	for (i = 0; fixed[i].which != which; i++)
		;
	ret_node->ino = which;
	ret_node->kind = NODE_FIXED;
	ret_node->ops = fixed[i].ops;
}

void node_of_image(const struct image_info *i, enum node_kind kind,
		   struct node *ret_node)
{
	ret_node->ino = (uuid_hash(&i->ref.image) & ~7ull) | kind;
	ret_node->kind = kind;
	ret_node->ops = kinds[kind];
	ret_node->image = *i;
}

void node_of_volume(const struct volume_info *v, struct node *ret_node)
{
	ret_node->ino = (uuid_hash(&v->ref.volume) & ~7ull) | NODE_VOLUME;
	ret_node->kind = NODE_VOLUME;
	ret_node->ops = kinds[NODE_VOLUME];
	ret_node->volume = *v;
}

static bool is_fixed(uint64_t ino)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fixed); i++)
		if (fixed[i].which == ino)
			return true;
	return false;
}

/* The files of a deleted image, and the volumes of one that is not. */
static bool is_there(const struct node *n)
{
	if (n->kind == NODE_VOLUMES)
		return !n->image.trashed;
	if (n->kind == NODE_DELETED || n->kind == NODE_EXPIRES)
		return n->image.trashed;
	return true;
}

int node_find(struct server *s, uint64_t ino, struct node *ret_node)
{
	enum node_kind kind = (enum node_kind)(ino & 7);
	struct volume_info v;
	struct image_info i;

	if (is_fixed(ino)) {
		node_fixed((enum node_fixed)ino, ret_node);
		return 0;
	}
	if (kind == NODE_VOLUME) {
		if (volume_by_hash(s->domain, ino, &v) < 0 ||
		    v.ref.dir != RECORD_LIVE)
			return err_new(-ENOENT, "no such volume any more");
		node_of_volume(&v, ret_node);
		return 0;
	}
	if (kind < NODE_IMAGE || kind > NODE_EXPIRES ||
	    image_by_hash(s->domain, ino, &i) < 0)
		return err_new(-ENOENT, "no such image any more");
	node_of_image(&i, kind, ret_node);
	return is_there(ret_node) ? 0 : err_new(-ENOENT, "the image has moved");
}

uint64_t node_generation(const struct node *n)
{
	if (n->kind == NODE_FIXED)
		return 1;
	return n->kind == NODE_VOLUME ? n->volume.generation :
					n->image.generation;
}

int node_object(const struct node *n, struct ref *buf,
		const struct ref **ret_ref)
{
	if (n->kind == NODE_FIXED && n->ino == NODE_ROOT) {
		*ret_ref = NULL;
		return 0;
	}
	if (n->kind != NODE_IMAGE && n->kind != NODE_VOLUME)
		return err_new(-EOPNOTSUPP, "it has no attributes");
	*buf = n->kind == NODE_VOLUME ? n->volume.ref : n->image.ref;
	*ret_ref = buf;
	return 0;
}

void node_image_times(struct server *s, const struct node *n, struct stat *st)
{
	(void)s;
	if (n->image.created)
		st->st_mtim.tv_sec = st->st_ctim.tv_sec = st->st_atim.tv_sec =
			n->image.created;
}

/* Directories may be entered by who may read them. */
static mode_t dir_mode(mode_t mode)
{
	return mode | (mode & 0444) >> 2;
}

void node_stat(struct server *s, const struct node *n, struct stat *st)
{
	const struct mount_options *o = s->options;

	memset(st, 0, sizeof(*st));
	st->st_ino = n->ino;
	st->st_uid = o->uid;
	st->st_gid = o->gid;
	st->st_nlink = n->ops->type == S_IFDIR ? 2 : 1;
	st->st_blksize = 4096;
	st->st_mtim.tv_sec = st->st_ctim.tv_sec = st->st_atim.tv_sec =
		s->started;
	if (n->ops->type == S_IFDIR)
		st->st_mode = S_IFDIR | dir_mode(o->mode | 0200);
	else
		st->st_mode = S_IFREG | (o->mode & 0444);
	if (n->ops->stat)
		n->ops->stat(s, n, st);
	override_apply(s, n->ino, st);
}
