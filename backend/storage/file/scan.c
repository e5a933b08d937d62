/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What lies in a file domain, by names alone: records are not opened. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/str.h"

#include "file.h"

void file_bytes_of(const struct stat *st, struct storage_bytes *ret_bytes)
{
	ret_bytes->size = (uint64_t)st->st_size;
	ret_bytes->allocated = (uint64_t)st->st_blocks * 512;
	ret_bytes->mtime = st->st_mtim;
}

/* One name in an image's directory. */
struct found {
	struct uuid volume;
	enum file_part part;
	enum record state;
	struct stat st;
};

struct found_list {
	struct found *items;
	size_t n, room;
};

static void found_add(struct found_list *l, const struct found *f)
{
	if (l->n == l->room) {
		l->room = l->room ? 2 * l->room : 64;
		l->items = realloc(l->items, l->room * sizeof(*l->items));
		if (!l->items)
			abort();
	}
	l->items[l->n++] = *f;
}

static int found_cmp(const void *a, const void *b)
{
	const struct found *x = a, *y = b;

	return uuid_cmp(&x->volume, &y->volume);
}

static void stray(const struct storage_visitor *v, const char *dir,
		  const char *name, const char *why)
{
	auto_free char *path = xprintf("%s/%s", dir, name);

	if (v->stray)
		v->stray(v->arg, path, why);
}

static bool is_dots(const char *name)
{
	return streq(name, ".") || streq(name, "..");
}

/* A directory stream that owns its descriptor. */
static int list_open(struct storage_file *f, const char *path, DIR **ret_dir)
{
	auto_close int fd = open_dir_beneath(f->root, path);

	if (fd < 0)
		return fd;
	*ret_dir = fdopendir(fd);
	if (!*ret_dir)
		return err_new(-errno, "%s: %s", path, strerror(errno));
	fd = -1;
	return 0;
}

/* The next name, or NULL at the end with *ret_error set. */
static const char *list_next(DIR *d, int *ret_error)
{
	struct dirent *e;

	do {
		errno = 0;
		e = readdir(d);
	} while (e && is_dots(e->d_name));
	*ret_error = e ? 0 : -errno;
	return e ? e->d_name : NULL;
}

static int list_image(struct storage_file *f, const char *dir,
		      const struct storage_visitor *v, struct found_list *l)
{
	auto_closedir DIR *d = NULL;
	const char *name;
	int r = list_open(f, dir, &d);

	if (r < 0)
		return r;
	while ((name = list_next(d, &r))) {
		struct found x = { 0 };

		if (layout_parse_volume(name, &x.volume, &x.part, &x.state) <
		    0) {
			stray(v, dir, name, "no name of ours");
			continue;
		}
		if (fstatat(dirfd(d), name, &x.st, AT_SYMLINK_NOFOLLOW) < 0) {
			if (errno == ENOENT)
				continue;
			return err_new(-errno, "%s/%s: %s", dir, name,
				       strerror(errno));
		}
		found_add(l, &x);
	}
	return r < 0 ? err_new(r, "%s: %s", dir, strerror(-r)) : 0;
}

static void entry_take(struct storage_entry *e, const struct found *x)
{
	if (!S_ISREG(x->st.st_mode))
		e->odd = true;
	switch (x->part) {
	case PART_RECORD:
		e->records |= 1u << x->state;
		break;
	case PART_LEASE:
		e->has_lease = true;
		break;
	case PART_DATA:
		e->has_data = true;
		file_bytes_of(&x->st, &e->bytes);
		break;
	}
}

/* All that was found under one UUID is one entry. */
static int tell_object(const struct storage_visitor *v, const struct ref *image,
		       const struct uuid *volume, const struct found_list *l,
		       size_t *at)
{
	struct storage_entry e = { .ref = *image };

	e.ref.volume = *volume;
	while (*at < l->n && uuid_eq(&l->items[*at].volume, &e.ref.volume))
		entry_take(&e, &l->items[(*at)++]);
	return v->entry(v->arg, &e);
}

int file_scan_image(struct storage *s, const struct ref *image,
		    const struct storage_visitor *v)
{
	struct storage_file *f = container_of(s, struct storage_file, storage);
	struct found_list l = { 0 };
	char dir[NAME_ROOM];
	size_t i = 0;
	int r;

	layout_image_dir(image, image->dir, dir);
	r = list_image(f, dir, v, &l);
	if (r < 0)
		goto out;
	if (l.n)
		qsort(l.items, l.n, sizeof(*l.items), found_cmp);
	/* The image's own records have the nil UUID and come first; an image
	 * that has none is told of all the same. */
	r = tell_object(v, image, &(struct uuid){ 0 }, &l, &i);
	while (r == 0 && i < l.n)
		r = tell_object(v, image, &l.items[i].volume, &l, &i);
out:
	free(l.items);
	return r;
}

static int scan_one(struct storage_file *f, const struct ref *ref,
		    const struct storage_visitor *v)
{
	int r = file_scan_image(&f->storage, ref, v);

	/* Gone or renamed since it was listed: the next scan tells. */
	return r == -ENOENT ? 0 : r;
}

int file_scan(struct storage *s, const struct storage_visitor *v)
{
	struct storage_file *f = container_of(s, struct storage_file, storage);
	auto_closedir DIR *d = NULL;
	const char *name;
	int r = list_open(f, "images", &d);

	if (r < 0)
		return r;
	while ((name = list_next(d, &r))) {
		struct ref ref = { 0 };
		struct stat st;

		if (layout_parse_image(name, &ref) < 0) {
			stray(v, "images", name, "no name of ours");
			continue;
		}
		if (fstatat(dirfd(d), name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
		    !S_ISDIR(st.st_mode)) {
			stray(v, "images", name, "not a directory");
			continue;
		}
		r = scan_one(f, &ref, v);
		if (r < 0)
			return r;
	}
	return r < 0 ? err_new(r, "images: %s", strerror(-r)) : 0;
}
