/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A storage domain in a directory, local or on NFS.
 *
 * The order of fsyncs. A file's bytes are made durable before a rename gives
 * them their meaning, and the directory after it, before we say that it
 * happened. A marker's name is durable before anything that it answers for
 * exists; what it answers for is durable (storage_sync_image) before the
 * rename that commits. So at each moment a power cut leaves either a marker
 * that names all there is to undo, or the committed object whole. */
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/str.h"

#include "file.h"

#define RECORD_MAX 65536
#define LEASE_BYTES (1024 * 1024)
#define LEASES_BYTES (251ll * LEASE_BYTES) /* the domain's and 250 hosts' */

static struct storage_file *file_of(struct storage *s)
{
	return container_of(s, struct storage_file, storage);
}

static int sys(int r, const char *what, const char *path)
{
	if (r < 0)
		return err_new(-errno, "%s %s: %s", what, path,
			       strerror(errno));
	return 0;
}

static bool file_probe(const char *source)
{
	struct stat st;

	return stat(source, &st) == 0 && S_ISDIR(st.st_mode);
}

/* ---- format ---- */

static bool is_harmless(const char *name)
{
	return streq(name, ".") || streq(name, "..") ||
	       streq(name, "lost+found");
}

/* Nothing but what an interrupted format left. */
static int format_check_empty(const char *source)
{
	auto_closedir DIR *d = opendir(source);
	struct dirent *e;

	if (!d)
		return sys(-1, "open", source);
	while ((e = readdir(d)))
		if (!is_harmless(e->d_name) && !streq(e->d_name, "ovstorfs") &&
		    !streq(e->d_name, "images"))
			return err_new(-ENOTEMPTY,
				       "%s is not empty (%s is in it)", source,
				       e->d_name);
	return 0;
}

static gid_t lease_group(void)
{
	struct group *g = getgrnam("sanlock");

	return g ? g->gr_gid : (gid_t)-1;
}

/* What sanlock's daemon opens by itself is its group's. */
static int lease_file(int root, const char *path, off_t size, gid_t gid)
{
	auto_close int fd = -1;
	int r;

	fd = open_file_beneath(root, path, O_RDWR | O_CREAT, 0660);
	if (fd < 0)
		return fd;
	r = sys(ftruncate(fd, size), "truncate", path);
	if (r < 0)
		return r;
	if (gid != (gid_t)-1 && fchown(fd, (uid_t)-1, gid) == 0)
		r = sys(fchmod(fd, 0660), "chmod", path);
	return r < 0 ? r : fsync_fd(fd, path);
}

static int format_area(int root, enum storage_area a)
{
	const char *path = layout_area_name(a);
	auto_close int fd =
		open_file_beneath(root, path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	int r;

	if (fd < 0)
		return fd;
	/* Allocated now, so that a full disk later cannot stop a commit. */
	r = posix_fallocate(fd, 0, (off_t)layout_area_size(a));
	if (r)
		return err_new(-r, "allocate %s: %s", path, strerror(r));
	return fsync_fd(fd, path);
}

static int make_dir(int root, const char *name)
{
	if (mkdirat(root, name, 0755) < 0 && errno != EEXIST)
		return sys(-1, "mkdir", name);
	return 0;
}

static int format_is_new(int root, const char *source)
{
	auto_free char *text = NULL;
	size_t len = 0, i;
	int r = read_file_at(root, "ovstorfs/domain", STORAGE_DOMAIN_SIZE,
			     &text, &len);

	if (r == -ENOENT)
		return 0;
	for (i = 0; r == 0 && i < len; i++)
		if (text[i])
			return err_new(-EEXIST,
				       "%s is a storage domain already",
				       source);
	return r;
}

static int file_format(const char *source, bool force)
{
	auto_close int root = open(source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	gid_t gid = lease_group();
	int a, r;

	if (root < 0)
		return sys(-1, "open", source);
	r = format_is_new(root, source);
	if (r < 0)
		return r;
	r = force ? 0 : format_check_empty(source);
	if (r < 0)
		return r;
	r = make_dir(root, "ovstorfs") ?: make_dir(root, "images");
	if (r < 0)
		return r;
	for (a = 0; a < AREA_COUNT; a++) {
		r = format_area(root, (enum storage_area)a);
		if (r < 0)
			return r;
	}
	r = lease_file(root, "ovstorfs/ids", LEASE_BYTES, gid) ?:
		    lease_file(root, "ovstorfs/leases", LEASES_BYTES, gid);
	if (r < 0)
		return r;
	return fsync_dir_beneath(root, "ovstorfs") ?:
						     fsync_dir_beneath(root, ".");
}

/* ---- open ---- */

/* Past the page cache where the file system can, for other hosts' sake. */
static int area_open(struct storage_file *f, enum storage_area a)
{
	const char *path = layout_area_name(a);
	int flags = f->read_only ? O_RDONLY : O_RDWR | O_DSYNC;
	int fd = open_file_beneath(f->root, path, flags | O_DIRECT, 0);
	struct stat st;

	if (fd == -EINVAL)
		fd = open_file_beneath(f->root, path, flags, 0);
	if (fd < 0)
		return fd;
	f->areas[a] = fd;
	if (fstat(fd, &st) < 0)
		return sys(-1, "stat", path);
	if ((uint64_t)st.st_size != layout_area_size(a))
		return err_new(-EUCLEAN, "%s: %lld bytes instead of %llu", path,
			       (long long)st.st_size,
			       (unsigned long long)layout_area_size(a));
	return 0;
}

static void file_close(struct storage *s)
{
	struct storage_file *f = file_of(s);
	int a;

	for (a = 0; a < AREA_COUNT; a++)
		if (f->areas[a] >= 0)
			close(f->areas[a]);
	if (f->root >= 0)
		close(f->root);
	free(f);
}

static int open_all(struct storage_file *f, const char *source)
{
	int a, r;

	if (!realpath(source, f->source))
		return sys(-1, "open", source);
	f->root = open(f->source, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (f->root < 0)
		return sys(-1, "open", f->source);
	for (a = 0; a < AREA_COUNT; a++) {
		r = area_open(f, (enum storage_area)a);
		if (r == -ENOENT && a == AREA_DOMAIN)
			return err_new(r,
				       "%s is no storage domain (there is "
				       "no ovstorfs/domain in it)",
				       source);
		if (r == -EROFS)
			return err_new(r,
				       "%s is on a read-only file system; "
				       "mount with -o ro",
				       source);
		if (r < 0)
			return r;
	}
	return 0;
}

static int file_open(const char *source, bool read_only,
		     struct storage **ret_storage)
{
	struct storage_file *f = xcalloc(1, sizeof(*f));
	int a, r;

	f->storage.ops = &storage_file_ops;
	f->read_only = read_only;
	f->lease_gid = lease_group();
	f->root = -1;
	for (a = 0; a < AREA_COUNT; a++)
		f->areas[a] = -1;
	r = open_all(f, source);
	if (r < 0) {
		file_close(&f->storage);
		return r;
	}
	*ret_storage = &f->storage;
	return 0;
}

/* What others open by its absolute name must be no link out of the domain. */
static int place_check(struct storage_file *f, const char *path)
{
	auto_close int fd = open_beneath(f->root, path, O_PATH | O_NOFOLLOW, 0);
	struct stat st;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return sys(-1, "stat", path);
	if (!S_ISREG(st.st_mode))
		return err_new(-EUCLEAN, "%s is not a regular file", path);
	return 0;
}

static int file_place(struct storage *s, enum storage_place p, char *ret_path,
		      uint64_t *ret_offset)
{
	static const char *const names[] = { "ovstorfs/ids", "ovstorfs/leases",
					     "ovstorfs/domain" };
	struct storage_file *f = file_of(s);

	if (snprintf(ret_path, PATH_MAX, "%s/%s", f->source, names[p]) >=
	    PATH_MAX)
		return err_new(-ENAMETOOLONG, "%s: too long", f->source);
	*ret_offset = 0;
	return place_check(f, names[p]);
}

static int file_space(struct storage *s, uint64_t *ret_total,
		      uint64_t *ret_free)
{
	struct statvfs v;
	int r = sys(fstatvfs(file_of(s)->root, &v), "statvfs", "domain");

	if (r < 0)
		return r;
	*ret_total = (uint64_t)v.f_blocks * v.f_frsize;
	*ret_free = (uint64_t)v.f_bavail * v.f_frsize;
	return 0;
}

/* ---- areas ---- */

static int area_check(enum storage_area a, uint64_t offset, size_t len)
{
	if (offset % STORAGE_BLOCK || len % STORAGE_BLOCK ||
	    offset + len > layout_area_size(a))
		return err_new(-EINVAL, "%s: not whole blocks inside",
			       layout_area_name(a));
	return 0;
}

static int file_area_read(struct storage *s, enum storage_area a,
			  uint64_t offset, void *buf, size_t len)
{
	int r = area_check(a, offset, len) ?:
			pread_full(file_of(s)->areas[a], buf, len, offset);

	return r < 0 ? err_add(r, "%s", layout_area_name(a)) : 0;
}

static int file_area_write(struct storage *s, enum storage_area a,
			   uint64_t offset, const void *buf, size_t len)
{
	int r = area_check(a, offset, len) ?:
			pwrite_full(file_of(s)->areas[a], buf, len, offset);

	return r < 0 ? err_add(r, "%s", layout_area_name(a)) : 0;
}

/* ---- records ---- */

static int sync_dir(struct storage_file *f, const struct ref *ref)
{
	char dir[NAME_ROOM];

	layout_image_dir(ref, ref->dir, dir);
	return fsync_dir_beneath(f->root, dir);
}

/* The last component of a path below an image's directory. */
static const char *leaf_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

/* The directory that holds path, opened so that no symlink is followed. */
static int parent_open(struct storage_file *f, const char *path)
{
	auto_free char *dir = xstrndup(path, (size_t)(leaf_of(path) - path));

	return open_dir_beneath(f->root, dir);
}

/* Missing is success. */
static int unlink_name(struct storage_file *f, const char *path, bool durably)
{
	auto_close int dir = parent_open(f, path);

	if (dir == -ENOENT)
		return 0;
	if (dir < 0)
		return dir;
	if (unlinkat(dir, leaf_of(path), 0) < 0 && errno != ENOENT)
		return sys(-1, "unlink", path);
	return durably ? fsync_fd(dir, path) : 0;
}

static int file_record_read(struct storage *s, const struct ref *ref,
			    enum record state, char **ret_text, size_t *ret_len)
{
	char path[NAME_ROOM];
	int r;

	layout_path(ref, PART_RECORD, state, path);
	r = read_file_at(file_of(s)->root, path, RECORD_MAX, ret_text, ret_len);
	if (r == -EFBIG)
		return err_new(-EUCLEAN, "%s: too long for a record", path);
	return r;
}

static int new_image_dir(struct storage_file *f, const struct ref *ref)
{
	auto_close int images = open_dir_beneath(f->root, "images");
	char dir[NAME_ROOM];

	if (images < 0)
		return images;
	layout_image_dir(ref, RECORD_NEW, dir);
	if (mkdirat(images, leaf_of(dir), 0755) < 0 && errno != EEXIST)
		return sys(-1, "mkdir", dir);
	return fsync_fd(images, "images");
}

static int file_record_write(struct storage *s, const struct ref *ref,
			     enum record state, const char *text, size_t len)
{
	struct storage_file *f = file_of(s);
	auto_close int fd = -1;
	char path[NAME_ROOM];
	int r;

	if (state == RECORD_NEW && !ref_is_volume(ref)) {
		r = new_image_dir(f, ref);
		if (r < 0)
			return r;
	}
	layout_path(ref, PART_RECORD, state, path);
	/* A new file each time: what lies there may be a link or a FIFO. */
	r = unlink_name(f, path, false);
	if (r < 0)
		return r;
	fd = open_file_beneath(f->root, path, O_WRONLY | O_CREAT | O_EXCL,
			       0600);
	if (fd < 0)
		return fd;
	r = write_full(fd, text, len) ?: fsync_fd(fd, path);
	if (r < 0)
		return err_add(r, "%s", path);
	return sync_dir(f, ref);
}

/* A rename within one directory, and that directory made durable. */
static int rename_durably(struct storage_file *f, const char *from,
			  const char *to)
{
	auto_close int dir = parent_open(f, from);

	if (dir < 0)
		return dir;
	if (renameat(dir, leaf_of(from), dir, leaf_of(to)) < 0)
		return err_new(-errno, "rename %s to %s: %s", from, leaf_of(to),
			       strerror(errno));
	return fsync_fd(dir, to);
}

/* An image is NEW, REMOVED or DYING by the name of its directory; what is set
 * is a file in it. */
static bool moves_dir(const struct ref *ref, enum record from, enum record to)
{
	return !ref_is_volume(ref) && from != RECORD_SET && to != RECORD_UNDO;
}

static int file_record_move(struct storage *s, const struct ref *ref,
			    enum record from, enum record to)
{
	char a[NAME_ROOM], b[NAME_ROOM];

	if (moves_dir(ref, from, to)) {
		layout_image_dir(ref, ref->dir, a);
		layout_image_dir(ref, to, b);
	} else {
		layout_path(ref, PART_RECORD, from, a);
		layout_path(ref, PART_RECORD, to, b);
	}
	return rename_durably(file_of(s), a, b);
}

static int clear_dir(int dirfd)
{
	auto_closedir DIR *d = fdopendir(dup(dirfd));
	struct dirent *e;

	if (!d)
		return sys(-1, "open", "a dying image");
	while ((e = readdir(d))) {
		if (is_harmless(e->d_name))
			continue;
		if (unlinkat(dirfd, e->d_name, 0) < 0 && errno != ENOENT)
			return sys(-1, "unlink", e->d_name);
	}
	return 0;
}

static int drop_image(struct storage_file *f, const struct ref *ref)
{
	auto_close int images = open_dir_beneath(f->root, "images");
	auto_close int dir = -1;
	char path[NAME_ROOM];
	int r;

	if (images < 0)
		return images;
	layout_image_dir(ref, RECORD_DYING, path);
	dir = open_dir_beneath(f->root, path);
	if (dir == -ENOENT)
		return 0;
	if (dir < 0)
		return dir;
	r = clear_dir(dir);
	if (r < 0)
		return r;
	if (unlinkat(images, leaf_of(path), AT_REMOVEDIR) < 0 &&
	    errno != ENOENT)
		return sys(-1, "rmdir", path);
	return fsync_fd(images, "images");
}

static int file_record_drop(struct storage *s, const struct ref *ref,
			    enum record state)
{
	char path[NAME_ROOM];

	if (state == RECORD_DYING && !ref_is_volume(ref))
		return drop_image(file_of(s), ref);
	layout_path(ref, PART_RECORD, state, path);
	return unlink_name(file_of(s), path, true);
}

/* ---- leases ---- */

static int file_lease_create(struct storage *s, const struct ref *vol)
{
	struct storage_file *f = file_of(s);
	char path[NAME_ROOM];

	layout_path(vol, PART_LEASE, RECORD_LIVE, path);
	return lease_file(f->root, path, LEASE_BYTES, f->lease_gid);
}

static int file_lease_place(struct storage *s, const struct ref *vol,
			    char *ret_path, uint64_t *ret_offset)
{
	char path[NAME_ROOM];

	layout_path(vol, PART_LEASE, RECORD_LIVE, path);
	if (snprintf(ret_path, PATH_MAX, "%s/%s", file_of(s)->source, path) >=
	    PATH_MAX)
		return err_new(-ENAMETOOLONG, "%s: too long", path);
	*ret_offset = 0;
	return 0;
}

static int file_lease_check(struct storage *s, const struct ref *vol)
{
	char path[NAME_ROOM];

	layout_path(vol, PART_LEASE, RECORD_LIVE, path);
	return place_check(file_of(s), path);
}

static int file_lease_drop(struct storage *s, const struct ref *vol)
{
	char path[NAME_ROOM];

	layout_path(vol, PART_LEASE, RECORD_LIVE, path);
	return unlink_name(file_of(s), path, true);
}

/* ---- bytes ---- */

static int file_data_create(struct storage *s, const struct ref *vol)
{
	auto_close int fd = -1;
	char path[NAME_ROOM];

	layout_path(vol, PART_DATA, RECORD_LIVE, path);
	fd = open_file_beneath(file_of(s)->root, path,
			       O_RDWR | O_CREAT | O_EXCL, 0600);
	return fd < 0 ? fd : 0;
}

static int file_data_open(struct storage *s, const struct ref *vol, int flags,
			  int *ret_fd)
{
	char path[NAME_ROOM];
	int fd;

	layout_path(vol, PART_DATA, RECORD_LIVE, path);
	fd = open_file_beneath(file_of(s)->root, path, flags, 0);
	if (fd < 0)
		return fd;
	*ret_fd = fd;
	return 0;
}

static int file_data_stat(struct storage *s, const struct ref *vol,
			  struct storage_bytes *ret_bytes)
{
	auto_close int fd = -1;
	char path[NAME_ROOM];
	struct stat st;

	layout_path(vol, PART_DATA, RECORD_LIVE, path);
	fd = open_beneath(file_of(s)->root, path, O_PATH | O_NOFOLLOW, 0);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return sys(-1, "stat", path);
	if (!S_ISREG(st.st_mode))
		return err_new(-EUCLEAN, "%s is not a regular file", path);
	file_bytes_of(&st, ret_bytes);
	return 0;
}

static int file_data_resize(struct storage *s, const struct ref *vol,
			    uint64_t size)
{
	auto_close int fd = -1;
	char path[NAME_ROOM];
	int r = file_data_open(s, vol, O_RDWR, &fd);

	layout_path(vol, PART_DATA, RECORD_LIVE, path);
	if (r == 0)
		r = sys(ftruncate(fd, (off_t)size), "truncate", path);
	return r < 0 ? r : fsync_fd(fd, path);
}

static int file_data_reserve(struct storage *s, const struct ref *vol,
			     uint64_t size)
{
	auto_close int fd = -1;
	char path[NAME_ROOM];
	int r = file_data_open(s, vol, O_RDWR, &fd);

	layout_path(vol, PART_DATA, RECORD_LIVE, path);
	if (r < 0 || size == 0)
		return r;
	return sys(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, (off_t)size),
		   "allocate", path);
}

static int file_data_is_written(struct storage *s, const struct ref *vol,
				bool *ret_written)
{
	auto_close int fd = -1;
	int r = file_data_open(s, vol, O_RDONLY, &fd);

	return r < 0 ? r : writers_probe(fd, ret_written);
}

static int file_data_sync(struct storage *s, const struct ref *vol)
{
	auto_close int fd = -1;
	int r = file_data_open(s, vol, O_RDONLY, &fd);

	return r < 0 ? r : fsync_fd(fd, ref_name(vol));
}

static int file_data_drop(struct storage *s, const struct ref *vol)
{
	char path[NAME_ROOM];

	layout_path(vol, PART_DATA, RECORD_LIVE, path);
	return unlink_name(file_of(s), path, true);
}

static int file_sync_image(struct storage *s, const struct ref *image)
{
	return sync_dir(file_of(s), image);
}

const struct storage_ops storage_file_ops = {
	.name = "file",
	.probe = file_probe,
	.format = file_format,
	.open = file_open,
	.close = file_close,
	.place = file_place,
	.space = file_space,
	.scan = file_scan,
	.scan_image = file_scan_image,
	.area_read = file_area_read,
	.area_write = file_area_write,
	.record_read = file_record_read,
	.record_write = file_record_write,
	.record_move = file_record_move,
	.record_drop = file_record_drop,
	.lease_create = file_lease_create,
	.lease_place = file_lease_place,
	.lease_check = file_lease_check,
	.lease_drop = file_lease_drop,
	.data_create = file_data_create,
	.data_open = file_data_open,
	.data_stat = file_data_stat,
	.data_resize = file_data_resize,
	.data_reserve = file_data_reserve,
	.data_is_written = file_data_is_written,
	.data_sync = file_data_sync,
	.data_drop = file_data_drop,
	.sync_image = file_sync_image,
};
