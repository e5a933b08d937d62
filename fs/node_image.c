/* SPDX-License-Identifier: GPL-2.0-or-later */
/* images/ and trash/, the images in them, and what an image shows. */
#include <stdlib.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

static int find_image(struct server *s, const char *name, bool trashed,
		      struct image_info *ret_info)
{
	struct uuid id;
	int r = uuid_parse(name, &id);

	if (r == 0)
		r = image_stat(s->domain, &id, ret_info);
	if (r < 0 || ret_info->trashed != trashed)
		return err_new(-ENOENT, "no such image here");
	return 0;
}

static int images_lookup(struct server *s, const struct node *dir,
			 const char *name, struct node *ret_node)
{
	struct image_info i;
	int r = find_image(s, name, dir->ino == NODE_TRASH, &i);

	if (r == 0)
		node_of_image(&i, NODE_IMAGE, ret_node);
	return r;
}

static size_t images_list(struct server *s, const struct node *dir,
			  uint64_t after, struct node_item *items, size_t max)
{
	auto_free struct image_info *infos = xcalloc(max, sizeof(*infos));
	size_t i, n;

	n = image_list(s->domain, dir->ino == NODE_TRASH, after, infos, max);
	for (i = 0; i < n; i++) {
		uuid_format(&infos[i].ref.image, items[i].name);
		items[i].cookie = infos[i].number;
		node_of_image(&infos[i], NODE_IMAGE, &items[i].node);
	}
	return n;
}

static int images_make_dir(struct server *s, const struct caller *by,
			   const struct node *dir, const char *name)
{
	struct uuid id;
	int r = uuid_parse(name, &id);

	(void)dir;
	return r < 0 ? r : image_create(s->domain, by, &id);
}

static int images_remove_dir(struct server *s, const struct caller *by,
			     const struct node *dir, const char *name)
{
	bool trashed = dir->ino == NODE_TRASH;
	struct image_info i;
	int r = find_image(s, name, trashed, &i);

	if (r < 0)
		return r;
	return trashed ? image_purge(s->domain, by, &i.ref.image) :
			 image_remove(s->domain, by, &i.ref.image);
}

static int images_move_out(struct server *s, const struct caller *by,
			   const struct node *to, const char *name)
{
	struct image_info i;
	int r = find_image(s, name, false, &i);

	if (r < 0)
		return r;
	if (to->ino != NODE_TRASH)
		return err_new(-EPERM, "an image can be moved to trash/ only");
	return image_trash(s->domain, by, &i.ref.image);
}

static int trash_move_out(struct server *s, const struct caller *by,
			  const struct node *to, const char *name)
{
	struct uuid id;
	int r = uuid_parse(name, &id);

	if (r < 0)
		return r;
	if (to->ino != NODE_IMAGES)
		return err_new(-EPERM, "an image can be moved back to images/ "
				       "only");
	return image_restore(s->domain, by, &id);
}

const struct node_ops node_images_ops = {
	.type = S_IFDIR,
	.lookup = images_lookup,
	.list = images_list,
	.make_dir = images_make_dir,
	.remove_dir = images_remove_dir,
	.move_out = images_move_out,
};

const struct node_ops node_trash_ops = {
	.type = S_IFDIR,
	.lookup = images_lookup,
	.list = images_list,
	.remove_dir = images_remove_dir,
	.move_out = trash_move_out,
};

/* ---- one image ---- */

static const struct {
	const char *name;
	enum node_kind kind;
	bool trashed;
} members[] = {
	{ OVSTORFS_VOLUMES, NODE_VOLUMES, false },
	{ "deleted", NODE_DELETED, true },
	{ "expires", NODE_EXPIRES, true },
};

static int image_lookup(struct server *s, const struct node *dir,
			const char *name, struct node *ret_node)
{
	size_t i;

	(void)s;
	for (i = 0; i < ARRAY_SIZE(members); i++) {
		if (members[i].trashed != dir->image.trashed ||
		    !streq(members[i].name, name))
			continue;
		node_of_image(&dir->image, members[i].kind, ret_node);
		return 0;
	}
	return err_new(-ENOENT, "no such name in an image");
}

static size_t image_list_members(struct server *s, const struct node *dir,
				 uint64_t after, struct node_item *items,
				 size_t max)
{
	size_t i, n = 0;

	(void)s;
	for (i = after; i < ARRAY_SIZE(members) && n < max; i++) {
		if (members[i].trashed != dir->image.trashed)
			continue;
		strcpy(items[n].name, members[i].name);
		items[n].cookie = i + 1;
		node_of_image(&dir->image, members[i].kind, &items[n].node);
		n++;
	}
	return n;
}

/* volumes/ lives and dies with its image; removing an empty one succeeds and
 * changes nothing, so that rm -r works. */
static int image_remove_member(struct server *s, const struct caller *by,
			       const struct node *dir, const char *name)
{
	struct volume_info v;

	(void)by;
	if (dir->image.trashed || !streq(name, OVSTORFS_VOLUMES))
		return err_new(-EPERM, "%s cannot be removed", name);
	if (volume_list(s->domain, &dir->image.ref.image, 0, &v, 1))
		return err_new(-ENOTEMPTY, "it has volumes");
	return 0;
}

const struct node_ops node_image_ops = {
	.type = S_IFDIR,
	.lookup = image_lookup,
	.list = image_list_members,
	.stat = node_image_times,
	.remove_dir = image_remove_member,
};

static void put_time(time_t t, struct strbuf *out)
{
	char text[24];

	strbuf_printf(out, "%s\n", format_time(t, text));
}

static void deleted_text(struct server *s, const struct node *n,
			 struct strbuf *out)
{
	(void)s;
	put_time(n->image.deleted, out);
}

static void expires_text(struct server *s, const struct node *n,
			 struct strbuf *out)
{
	(void)s;
	put_time(n->image.expires, out);
}

const struct node_ops node_deleted_ops = {
	.type = S_IFREG,
	.text = deleted_text,
};

const struct node_ops node_expires_ops = {
	.type = S_IFREG,
	.text = expires_text,
};
