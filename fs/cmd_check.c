/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ovstorfs check, fsck.ovstorfs; ovstorfs dump; ovstorfs gc */
#include <fcntl.h>
#include <getopt.h>
#include <stdio.h>
#include <sys/file.h>
#include <unistd.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/cmd.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"

struct report {
	struct json_object *problems; /* NULL: lines on standard output */
};

static void say(void *arg, const char *object, const char *problem,
		bool repaired)
{
	struct report *r = arg;
	struct json_object *o;

	if (!r->problems) {
		printf("%s: %s%s\n", object, problem,
		       repaired ? " (repaired)" : "");
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "object", json_object_new_string(object));
	json_object_object_add(o, "problem", json_object_new_string(problem));
	json_object_object_add(o, "repaired",
			       json_object_new_boolean(repaired));
	json_object_array_add(r->problems, o);
}

static void print_result(const struct report *r, const char *source,
			 const struct check_result *c)
{
	struct json_object *o;

	if (!r->problems) {
		printf("%s: %llu images, %llu volumes, %llu problems", source,
		       (unsigned long long)c->images,
		       (unsigned long long)c->volumes,
		       (unsigned long long)c->problems);
		if (c->repaired)
			printf(", %llu repaired",
			       (unsigned long long)c->repaired);
		printf("\n");
		return;
	}
	o = json_object_new_object();
	json_object_object_add(o, "source", json_object_new_string(source));
	json_object_object_add(o, "images",
			       json_object_new_int64((int64_t)c->images));
	json_object_object_add(o, "volumes",
			       json_object_new_int64((int64_t)c->volumes));
	json_object_object_add(o, "problems", r->problems);
	view_print_json(o);
}

/* A mount point stands for its domain. */
static void resolve(const char *path, char *ret_source, bool *ret_mounted)
{
	struct json_object *status, *v = NULL;
	char mnt[PATH_MAX];

	snprintf(ret_source, PATH_MAX, "%s", path);
	*ret_mounted = false;
	if (view_find(path, mnt) < 0)
		return;
	status = view_status(mnt);
	if (status && json_object_object_get_ex(status, "source", &v)) {
		snprintf(ret_source, PATH_MAX, "%s", json_object_get_string(v));
		*ret_mounted = true;
	}
	json_object_put(status);
}

/* Is a mount of this machine at work there? Its lock is exclusive, or shared
 * with other mounts; ours conflicts with both. A repair keeps it, in *ret_fd;
 * who only looks does not, so that nobody has to wait. */
static bool is_in_use(const char *source, bool keep, int *ret_fd)
{
	struct flock l = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct lease_space space;
	auto_close int fd = -1;

	if (domain_lease_space(source, true, &space) < 0)
		return false;
	fd = open(space.lock_path, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (!keep)
		return fcntl(fd, F_OFD_GETLK, &l) == 0 && l.l_type != F_UNLCK;
	if (fcntl(fd, F_OFD_SETLK, &l) < 0)
		return true;
	*ret_fd = steal_fd(&fd);
	return false;
}

static const struct option check_flags[] = {
	{ "repair", no_argument, NULL, 'r' },
	{ "json", no_argument, NULL, 'j' },
	{ 0 },
};

/* -a -p -y repair, -n does not, -f -v -V -C and the like say nothing new: as
 * fsck(8) calls us. */
static bool parse_check(int argc, char **argv, bool *ret_repair, bool *ret_json)
{
	int c;

	while ((c = getopt_long(argc, argv, "rjapynfvVC:", check_flags,
				NULL)) >= 0) {
		if (c == 'j')
			*ret_json = true;
		else if (c == 'n')
			*ret_repair = false;
		else if (strchr("rapy", c))
			*ret_repair = true;
		else if (c == '?')
			return false;
	}
	return argc - optind == 1;
}

static int exit_of(const struct check_result *c)
{
	if (c->problems > c->repaired)
		return EXIT_FSCK_LEFT;
	return c->repaired ? EXIT_FSCK_REPAIRED : EXIT_GOOD;
}

int cmd_check(int argc, char **argv)
{
	struct check_result result = { 0 };
	struct report report = { 0 };
	struct check_options o = { .say = say, .arg = &report };
	bool repair = false, json = false;
	auto_close int lock = -1;
	char source[PATH_MAX];
	int r;

	if (!parse_check(argc, argv, &repair, &json))
		return cmd_fail(EXIT_FSCK_USAGE, "usage: ovstorfs check "
						 "[--repair] [--json] SOURCE "
						 "| MNT");
	resolve(argv[optind], source, &o.mounted);
	if (is_in_use(source, repair, &lock))
		o.mounted = true;
	if (repair && o.mounted)
		return cmd_fail(EXIT_FSCK_FAILED,
				"check --repair %s: it is "
				"mounted; unmount it on all "
				"hosts first",
				argv[optind]);
	o.repair = repair;
	if (json)
		report.problems = json_object_new_array();
	r = check_domain(source, &o, &result);
	if (r < 0 && !result.problems) {
		json_object_put(report.problems);
		return cmd_fail(EXIT_FSCK_FAILED, "check %s: %s", source,
				err_text(r));
	}
	print_result(&report, source, &result);
	if (r < 0)
		return cmd_fail(EXIT_FSCK_LEFT, "check %s: not finished: %s",
				source, err_text(r));
	return exit_of(&result);
}

int cmd_dump(int argc, char **argv)
{
	bool repair = false, json = false, mounted;
	char source[PATH_MAX];
	int r;

	if (!parse_check(argc, argv, &repair, &json) || repair)
		return cmd_fail(EXIT_USAGE, "usage: ovstorfs dump [--json] "
					    "SOURCE");
	resolve(argv[optind], source, &mounted);
	r = dump_domain(source, json, stdout);
	return r < 0 ? cmd_fail(EXIT_FAILED, "dump %s: %s", source,
				err_text(r)) :
		       EXIT_GOOD;
}

int cmd_gc(int argc, char **argv)
{
	auto_free char *path = NULL;
	auto_close int fd = -1;
	char mnt[PATH_MAX], report[256];
	ssize_t n;
	int r;

	if (argc != 2)
		return cmd_fail(EXIT_USAGE, "usage: ovstorfs gc MNT");
	r = view_find(argv[1], mnt);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "gc: %s", err_text(r));
	path = xprintf("%s/" OVSTORFS_CONTROL "/collect", mnt);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0 || write(fd, "now", 3) != 3)
		return cmd_fail(EXIT_FAILED, "gc %s: %s", mnt, strerror(errno));
	close(steal_fd(&fd));
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : read(fd, report, sizeof(report) - 1);
	if (n > 0)
		fwrite(report, 1, (size_t)n, stdout);
	return EXIT_GOOD;
}
