/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The commands of the program: each is given its own arguments, argv[0] is
 * its name, and returns an exit code. */
#ifndef OVSTORFS_CMD_H
#define OVSTORFS_CMD_H

#include <json-c/json.h>

#include "ovstorfs/domain.h"

enum exit_code {
	EXIT_GOOD = 0,
	EXIT_FAILED = 1,      /* refused, or an error */
	EXIT_USAGE = 2,	      /* arguments that make no sense */
	EXIT_MOUNT_USAGE = 1, /* mount(8) */
	EXIT_MOUNT_FAILED = 32,
	EXIT_FSCK_REPAIRED = 1, /* fsck(8) */
	EXIT_FSCK_LEFT = 4,
	EXIT_FSCK_FAILED = 8,
	EXIT_FSCK_USAGE = 16,
};

int cmd_format(int argc, char **argv);
int cmd_mount(int argc, char **argv);
int cmd_unmount(int argc, char **argv);
int cmd_ls(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_check(int argc, char **argv);
int cmd_gc(int argc, char **argv);
int cmd_explain(int argc, char **argv);
int cmd_dump(int argc, char **argv);

/* Say why, on standard error, with the command's name; returns code. */
int cmd_fail(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* ---- view.c: a mount as a client sees it ---- */

/* The mount point that path lies on, in ret_mnt (PATH_MAX), when it is one of
 * ours. Errors: -EINVAL it is not. */
int view_find(const char *path, char *ret_mnt);

/* An attribute of path, key without prefix. NULL: none. Caller frees. */
char *view_attr(const char *path, const char *key);

/* All attributes of path. Owner: caller puts. */
struct json_object *view_attrs(const char *path);

/* The status file of a mount. NULL: cannot be read. Owner: caller puts. */
struct json_object *view_status(const char *mnt);

/* Print an object and a newline. Puts it. */
void view_print_json(struct json_object *o);

#endif
