/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ovstorfs ls, info, explain: what is there, and why not. */
#include <dirent.h>
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/cmd.h"
#include "ovstorfs/err.h"

static const struct option options[] = {
	{ "json", no_argument, NULL, 'j' },
	{ 0 },
};

static bool parse_json(int argc, char **argv, bool *ret_json)
{
	int c;

	*ret_json = false;
	while ((c = getopt_long(argc, argv, "j", options, NULL)) >= 0) {
		if (c != 'j')
			return false;
		*ret_json = true;
	}
	return argc - optind == 1;
}

static struct json_object *describe(const char *path, const char *name)
{
	struct json_object *o = view_attrs(path);
	struct stat st;

	if (stat(path, &st) == 0 && S_ISREG(st.st_mode))
		json_object_object_add(o, "size",
				       json_object_new_int64(st.st_size));
	json_object_object_add(o, "uuid", json_object_new_string(name));
	return o;
}

/* ---- ls ---- */

static const char *text_of(struct json_object *o, const char *key)
{
	struct json_object *v = NULL;

	return json_object_object_get_ex(o, key, &v) ?
		       json_object_get_string(v) :
		       "";
}

static const char *size_of(struct json_object *o, const char *key, char *out)
{
	uint64_t bytes;

	if (parse_u64(text_of(o, key), &bytes) < 0)
		return "-";
	return format_size(bytes, out);
}

static void print_volume(struct json_object *o)
{
	char size[16], capacity[16], allocated[16];

	printf("  %s %6s %6s %6s  %-5s %-8s %-7s%s%s\n", text_of(o, "uuid"),
	       size_of(o, "size", size), size_of(o, "capacity", capacity),
	       size_of(o, "allocated", allocated), text_of(o, "format"),
	       text_of(o, "type"), text_of(o, "legality"),
	       *text_of(o, "holders") ? "  held by " : "",
	       text_of(o, "holders"));
}

/* The names in a directory, each handed to add(). */
static void each_name(const char *dir,
		      void (*add)(const char *dir, const char *name, void *arg),
		      void *arg)
{
	auto_closedir DIR *d = opendir(dir);
	struct dirent *e;

	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.')
			add(dir, e->d_name, arg);
}

static void add_volume(const char *dir, const char *name, void *arg)
{
	auto_free char *path = xprintf("%s/%s", dir, name);

	json_object_array_add(arg, describe(path, name));
}

static void add_image(const char *dir, const char *name, void *arg)
{
	auto_free char *path = xprintf("%s/%s", dir, name);
	auto_free char *volumes = xprintf("%s/" OVSTORFS_VOLUMES, path);
	struct json_object *o = describe(path, name);
	struct json_object *list = json_object_new_array();

	each_name(volumes, add_volume, list);
	json_object_object_add(o, "volumes", list);
	json_object_array_add(arg, o);
}

static void print_image(struct json_object *o)
{
	struct json_object *list = NULL;
	size_t i;

	json_object_object_get_ex(o, "volumes", &list);
	printf("%s%s%s\n", text_of(o, "uuid"),
	       *text_of(o, "description") ? "  " : "",
	       text_of(o, "description"));
	for (i = 0; list && i < json_object_array_length(list); i++)
		print_volume(json_object_array_get_idx(list, i));
}

static struct json_object *list_images(const char *path, const char *mnt)
{
	struct json_object *images = json_object_new_array();
	auto_free char *all = xprintf("%s/" OVSTORFS_IMAGES, mnt);
	char real[PATH_MAX];
	char *name;

	if (!realpath(path, real) || streq(real, mnt) || streq(real, all)) {
		each_name(all, add_image, images);
		return images;
	}
	if (!str_starts(real, all))
		return images;
	name = real + strlen(all) + 1;
	name[strcspn(name, "/")] = '\0';
	add_image(all, name, images);
	return images;
}

int cmd_ls(int argc, char **argv)
{
	struct json_object *images;
	char mnt[PATH_MAX];
	bool json;
	size_t i;
	int r;

	if (!parse_json(argc, argv, &json))
		return cmd_fail(EXIT_USAGE, "usage: ovstorfs ls [--json] "
					    "PATH");
	r = view_find(argv[optind], mnt);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "ls: %s", err_text(r));
	images = list_images(argv[optind], mnt);
	if (json) {
		view_print_json(images);
		return EXIT_GOOD;
	}
	if (json_object_array_length(images))
		printf("IMAGE\n  %-36s %6s %6s %6s  %-5s %-8s %s\n", "VOLUME",
		       "SIZE", "GUEST", "ON DISK", "FORM", "TYPE", "LEGALITY");
	for (i = 0; i < json_object_array_length(images); i++)
		print_image(json_object_array_get_idx(images, i));
	json_object_put(images);
	return EXIT_GOOD;
}

/* ---- info ---- */

int cmd_info(int argc, char **argv)
{
	char mnt[PATH_MAX], real[PATH_MAX];
	struct json_object *o;
	bool json;
	int r;

	if (!parse_json(argc, argv, &json))
		return cmd_fail(EXIT_USAGE, "usage: ovstorfs info [--json] "
					    "PATH");
	r = view_find(argv[optind], mnt);
	if (r < 0 || !realpath(argv[optind], real))
		return cmd_fail(EXIT_FAILED, "info: %s", err_text(r));
	o = view_attrs(real);
	if (streq(real, mnt))
		json_object_object_add(o, "status", view_status(mnt));
	if (json) {
		view_print_json(o);
		return EXIT_GOOD;
	}
	json_object_object_foreach(o, key, value)
	{
		if (json_object_is_type(value, json_type_string))
			printf("%-14s %s\n", key,
			       json_object_get_string(value));
		else
			printf("%s\n",
			       json_object_to_json_string_ext(
				       value, JSON_C_TO_STRING_PRETTY |
						      JSON_C_TO_STRING_SPACED));
	}
	json_object_put(o);
	return EXIT_GOOD;
}

/* ---- explain ---- */

static const struct {
	const char *name;
	const char *advice;
} advice[] = {
	{ "EBUSY", "Close what has it open here (fuser, lsof), or on the "
		   "host that the reason names." },
	{ "EROFS",
	  "Only a leaf can be written. Write to the volume on top of "
	  "the chain, or make a new layer with the attribute parent." },
	{ "ENOTEMPTY", "Remove what is in it, or layered over it, first: "
		       "leaves before their parents. rm -r does so." },
	{ "EEXIST", "UUIDs are unique in the whole domain, trash and "
		    "leftovers included. Choose another, or run "
		    "`ovstorfs gc`." },
	{ "ENOSPC", "The domain is full: remove something, then run "
		    "`ovstorfs gc`; `df` tells the free space." },
	{ "EUCLEAN", "If it is illegal, set the attribute legality to legal "
		     "once its bytes are right. If it is damaged, unmount on "
		     "all hosts and run `ovstorfs check`." },
	{ "EPERM", "This cannot be done here, or only by root and the "
		   "mount's owner; see the tree in ovstorfs(8)." },
	{ "EINVAL", "The name or the value is not one that is taken; see "
		    "ovstorfs-xattr(7)." },
	{ "EOPNOTSUPP", "There is no such attribute or operation; see "
			"ovstorfs-xattr(7)." },
	{ "ESTALE", "The collector has begun: what is left cannot be taken "
		    "back." },
	{ "ETIMEDOUT", "The storage or another operation did not answer in "
		       "time; the operation may still happen. Look again, "
		       "then at .ovstorfs/status." },
	{ "EAGAIN", "This host is still joining the domain; try again. "
		    ".ovstorfs/status tells the state." },
	{ "EIO", "The storage failed; see the log of the mount and of the "
		 "kernel." },
};

static const char *advice_for(const char *error)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(advice); i++) {
		auto_free char *tag = xprintf("(%s)", advice[i].name);

		if (strstr(error, tag))
			return advice[i].advice;
	}
	return "See ovstorfs(8).";
}

/* What does not exist keeps its error with what it was to be made in. */
static char *nearest_error(const char *path, char *ret_at)
{
	char *error, *slash;

	snprintf(ret_at, PATH_MAX, "%s", path);
	for (;;) {
		error = view_attr(ret_at, "error");
		if (error)
			return error;
		slash = strrchr(ret_at, '/');
		if (!slash || slash == ret_at)
			return NULL;
		*slash = '\0';
	}
}

int cmd_explain(int argc, char **argv)
{
	auto_free char *error = NULL;
	char at[PATH_MAX];

	if (argc != 2)
		return cmd_fail(EXIT_USAGE, "usage: ovstorfs explain PATH");
	error = nearest_error(argv[1], at);
	if (!error) {
		printf("%s: no operation on it was refused.\n", argv[1]);
		return EXIT_GOOD;
	}
	printf("%s: %s\n%s\n", at, error, advice_for(error));
	return EXIT_GOOD;
}
