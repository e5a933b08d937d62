/* SPDX-License-Identifier: GPL-2.0-or-later */
/* volumes/ and the volumes in it. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

static int volumes_lookup(struct server *s, const struct node *dir,
			  const char *name, struct node *ret_node)
{
	struct volume_info v;
	struct uuid id;
	int r = uuid_parse(name, &id);

	if (r == 0)
		r = volume_stat(s->domain, &dir->image.ref.image, &id, &v);
	if (r < 0)
		return err_new(-ENOENT, "no such volume");
	node_of_volume(&v, ret_node);
	return 0;
}

static size_t volumes_list(struct server *s, const struct node *dir,
			   uint64_t after, struct node_item *items, size_t max)
{
	auto_free struct volume_info *infos = xcalloc(max, sizeof(*infos));
	size_t i, n;

	n = volume_list(s->domain, &dir->image.ref.image, after, infos, max);
	for (i = 0; i < n; i++) {
		uuid_format(&infos[i].ref.volume, items[i].name);
		items[i].cookie = infos[i].cookie;
		node_of_volume(&infos[i], &items[i].node);
	}
	return n;
}

static int volumes_make_file(struct server *s, const struct caller *by,
			     const struct node *dir, const char *name)
{
	struct uuid id;
	int r = uuid_parse(name, &id);

	return r < 0 ? r :
		       volume_create(s->domain, by, &dir->image.ref.image, &id);
}

static int volumes_remove_file(struct server *s, const struct caller *by,
			       const struct node *dir, const char *name)
{
	struct uuid id;

	if (uuid_parse(name, &id) < 0)
		return err_new(-ENOENT, "no such volume");
	return volume_remove(s->domain, by, &dir->image.ref.image, &id);
}

const struct node_ops node_volumes_ops = {
	.type = S_IFDIR,
	.lookup = volumes_lookup,
	.list = volumes_list,
	.stat = node_image_times,
	.make_file = volumes_make_file,
	.remove_file = volumes_remove_file,
};

static void volume_attributes(struct server *s, const struct node *n,
			      struct stat *st)
{
	const struct volume_info *v = &n->volume;

	st->st_mode = S_IFREG | s->options->mode;
	if (v->type != TYPE_LEAF)
		st->st_mode &= ~0222u;
	st->st_size = (off_t)v->bytes.size;
	st->st_blocks = (blkcnt_t)(v->bytes.allocated / 512);
	st->st_mtim = st->st_ctim = st->st_atim = v->bytes.mtime;
}

static int resize(struct server *s, const struct caller *by,
		  const struct node *n, uint64_t size)
{
	return volume_resize(s->domain, by, &n->volume.ref.image,
			     &n->volume.ref.volume, size);
}

const struct node_ops node_volume_ops = {
	.type = S_IFREG,
	.stat = volume_attributes,
	.resize = resize,
};
