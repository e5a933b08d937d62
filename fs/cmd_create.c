/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ovstorfs create: an image, or a volume in one, with its attributes. It does
 * what mkdir, touch, setfattr and truncate do. */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/cmd.h"
#include "ovstorfs/err.h"
#include "ovstorfs/qemuimg.h"

struct request {
	const char *uuid;
	const char *size;
	const char *format, *allocation, *parent, *description;
};

static const struct option options[] = {
	{ "uuid", required_argument, NULL, 'u' },
	{ "size", required_argument, NULL, 's' },
	{ "format", required_argument, NULL, 'f' },
	{ "allocation", required_argument, NULL, 'a' },
	{ "parent", required_argument, NULL, 'p' },
	{ "description", required_argument, NULL, 'd' },
	{ 0 },
};

static bool parse(int argc, char **argv, struct request *q)
{
	int c;

	while ((c = getopt_long(argc, argv, "u:s:f:a:p:d:", options, NULL)) >=
	       0) {
		if (c == 'u')
			q->uuid = optarg;
		else if (c == 's')
			q->size = optarg;
		else if (c == 'f')
			q->format = optarg;
		else if (c == 'a')
			q->allocation = optarg;
		else if (c == 'p')
			q->parent = optarg;
		else if (c == 'd')
			q->description = optarg;
		else
			return false;
	}
	return argc - optind == 1;
}

static int set(const char *path, const char *key, const char *value)
{
	auto_free char *name = xprintf(OVSTORFS_XATTR "%s", key);

	if (!value)
		return 0;
	if (setxattr(path, name, value, strlen(value), 0) < 0)
		return err_new(-errno, "%s=%s: %s", key, value,
			       strerror(errno));
	return 0;
}

/* The size that a guest will see: of a qcow2 volume it stands in the header
 * that qemu-img writes. */
static int resize(const struct request *q, const char *path)
{
	uint64_t bytes;
	int r;

	if (!q->size)
		return 0;
	r = parse_size(q->size, &bytes);
	if (r < 0)
		return r;
	if (q->parent)
		return qemuimg_resize(path, bytes);
	if (q->format && streq(q->format, "qcow2"))
		return qemuimg_create(path, bytes);
	if (truncate(path, (off_t)bytes) < 0)
		return err_new(-errno, "size %s: %s", q->size, strerror(errno));
	return 0;
}

static int make_volume(const struct request *q, const char *path)
{
	auto_close int fd =
		open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0660);
	int r;

	if (fd < 0)
		return err_new(-errno, "%s", strerror(errno));
	close(steal_fd(&fd));
	r = set(path, "format", q->format)		     ?:
		    set(path, "allocation", q->allocation)   ?:
		    set(path, "parent", q->parent)	     ?:
		    set(path, "description", q->description) ?:
							       resize(q, path);
	if (r < 0)
		unlink(path);
	return r;
}

static int make_image(const struct request *q, const char *path)
{
	if (mkdir(path, 0770) < 0)
		return err_new(-errno, "%s", strerror(errno));
	return set(path, "description", q->description);
}

int cmd_create(int argc, char **argv)
{
	struct request q = { 0 };
	auto_free char *path = NULL;
	char uuid[UUID_TEXT], mnt[PATH_MAX], at[PATH_MAX];
	struct uuid id;
	int r;

	if (!parse(argc, argv, &q))
		return cmd_fail(EXIT_USAGE,
				"usage: ovstorfs create [--uuid UUID] "
				"[--description TEXT] MNT, or "
				"[--size N] [--format raw|qcow2] "
				"[--allocation sparse|preallocated] "
				"[--parent UUID] ... IMAGE");
	r = view_find(argv[optind], mnt);
	if (r < 0 || !realpath(argv[optind], at))
		return cmd_fail(EXIT_FAILED, "create: %s", err_text(r));
	uuid_new(&id);
	uuid_format(&id, uuid);
	path = xprintf("%s/%s/%s", at,
		       streq(at, mnt) ? OVSTORFS_IMAGES : OVSTORFS_VOLUMES,
		       q.uuid ? q.uuid : uuid);
	r = streq(at, mnt) ? make_image(&q, path) : make_volume(&q, path);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "create %s: %s", path,
				err_text(r));
	puts(path);
	return EXIT_GOOD;
}
