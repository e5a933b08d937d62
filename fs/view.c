/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A mount as any client sees it: by paths and attributes. */
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/cmd.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"

#define TEXT_MAX (1024 * 1024)

int cmd_fail(int code, const char *fmt, ...)
{
	va_list ap;

	fprintf(stderr, "ovstorfs: ");
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fprintf(stderr, "\n");
	return code;
}

static bool is_root_of_ours(const char *path)
{
	auto_free char *status =
		xprintf("%s/" OVSTORFS_CONTROL "/status", path);
	auto_free char *backend = view_attr(path, "backend");

	return backend && access(status, F_OK) == 0;
}

/* Up from path, as long as it is one file system. */
int view_find(const char *path, char *ret_mnt)
{
	char at[PATH_MAX];
	char *slash;

	if (!realpath(path, at))
		return err_new(-errno, "%s: %s", path, strerror(errno));
	for (;;) {
		if (is_root_of_ours(at)) {
			strcpy(ret_mnt, at);
			return 0;
		}
		slash = strrchr(at, '/');
		if (!slash || slash == at)
			break;
		*slash = '\0';
	}
	return err_new(-EINVAL, "%s is not on a mounted storage domain", path);
}

char *view_attr(const char *path, const char *key)
{
	auto_free char *name = xprintf(OVSTORFS_XATTR "%s", key);
	char value[PATH_MAX + 256];
	ssize_t n = getxattr(path, name, value, sizeof(value) - 1);

	return n < 0 ? NULL : xstrndup(value, (size_t)n);
}

struct json_object *view_attrs(const char *path)
{
	struct json_object *o = json_object_new_object();
	char names[4096];
	ssize_t n = listxattr(path, names, sizeof(names));
	const char *p;

	for (p = names; p < names + n; p += strlen(p) + 1) {
		auto_free char *v = NULL;

		if (!str_starts(p, OVSTORFS_XATTR))
			continue;
		v = view_attr(path, p + strlen(OVSTORFS_XATTR));
		if (v)
			json_object_object_add(o, p + strlen(OVSTORFS_XATTR),
					       json_object_new_string(v));
	}
	return o;
}

/* Its size is not known before it is read. */
static char *read_text(const char *path)
{
	auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct strbuf b = { 0 };
	char buf[4096];
	ssize_t n;

	if (fd < 0)
		return NULL;
	while ((n = read(fd, buf, sizeof(buf))) > 0 && b.len < TEXT_MAX)
		strbuf_add(&b, buf, (size_t)n);
	return b.text;
}

struct json_object *view_status(const char *mnt)
{
	auto_free char *path = xprintf("%s/" OVSTORFS_CONTROL "/status", mnt);
	auto_free char *text = read_text(path);

	return text ? json_tokener_parse(text) : NULL;
}

void view_print_json(struct json_object *o)
{
	puts(json_object_to_json_string_ext(
		o, JSON_C_TO_STRING_PRETTY | JSON_C_TO_STRING_SPACED |
			   JSON_C_TO_STRING_NOSLASHESCAPE));
	json_object_put(o);
}
