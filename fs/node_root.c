/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The root of a mount, and the directory of its state. */
#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

struct name {
	const char *name;
	enum node_fixed which;
};

static const struct name root_names[] = {
	{ OVSTORFS_IMAGES, NODE_IMAGES },
	{ OVSTORFS_TRASH, NODE_TRASH },
	{ OVSTORFS_CONTROL, NODE_CONTROL },
};

static const struct name control_names[] = {
	{ "status", NODE_STATUS },
	{ "metrics", NODE_METRICS },
	{ "events", NODE_EVENTS },
	{ "collect", NODE_COLLECT },
};

static int lookup(const struct name *names, size_t n, const char *name,
		  struct node *ret_node)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (!streq(names[i].name, name))
			continue;
		node_fixed(names[i].which, ret_node);
		return 0;
	}
	return err_new(-ENOENT, "no such name here");
}

static size_t list(const struct name *names, size_t n, uint64_t after,
		   struct node_item *items, size_t max)
{
	size_t i, k = 0;

	for (i = after; i < n && k < max; i++, k++) {
		strcpy(items[k].name, names[i].name);
		items[k].cookie = i + 1;
		node_fixed(names[i].which, &items[k].node);
	}
	return k;
}

static int root_lookup(struct server *s, const struct node *dir,
		       const char *name, struct node *ret_node)
{
	(void)s, (void)dir;
	return lookup(root_names, ARRAY_SIZE(root_names), name, ret_node);
}

static size_t root_list(struct server *s, const struct node *dir,
			uint64_t after, struct node_item *items, size_t max)
{
	(void)s, (void)dir;
	return list(root_names, ARRAY_SIZE(root_names), after, items, max);
}

static int control_lookup(struct server *s, const struct node *dir,
			  const char *name, struct node *ret_node)
{
	(void)s, (void)dir;
	return lookup(control_names, ARRAY_SIZE(control_names), name, ret_node);
}

static size_t control_list(struct server *s, const struct node *dir,
			   uint64_t after, struct node_item *items, size_t max)
{
	(void)s, (void)dir;
	return list(control_names, ARRAY_SIZE(control_names), after, items,
		    max);
}

/* The root and what tells of the mount are for everybody to read; what is in
 * the images is as the mount option mode says. */
static void stat_open(struct server *s, const struct node *n, struct stat *st)
{
	(void)s, (void)n;
	st->st_mode = S_IFDIR | 0755;
	st->st_uid = st->st_gid = 0;
}

const struct node_ops node_root_ops = {
	.type = S_IFDIR,
	.lookup = root_lookup,
	.list = root_list,
	.stat = stat_open,
};

const struct node_ops node_control_ops = {
	.type = S_IFDIR,
	.lookup = control_lookup,
	.list = control_list,
	.stat = stat_open,
};
