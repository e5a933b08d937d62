/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ovstorfs mount, mount.ovstorfs, mount.fuse.ovstorfs, and ovstorfs unmount.
 *
 * Mount returns when the mount answers: the keeper goes to the background and
 * tells the result over a pipe. */
#include <fcntl.h>
#include <getopt.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/cmd.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/keeper.h"
#include "ovstorfs/log.h"

static const char *config_path(void)
{
	const char *path = getenv("OVSTORFS_CONF");

	return path ? path : CONFIG_PATH;
}

static int absolute(const char *what, char *path)
{
	char resolved[PATH_MAX];
	struct stat st;

	if (!realpath(path, resolved))
		return err_new(-errno, "%s %s: %s", what, path,
			       strerror(errno));
	if (stat(resolved, &st) < 0 || !S_ISDIR(st.st_mode))
		return err_new(-ENOTDIR, "%s %s: not a directory", what, path);
	strcpy(path, resolved);
	return 0;
}

/* SOURCE MNT, or a section of the configuration by name or mount point. */
static int take_arguments(struct mount_options *o, int argc, char **argv,
			  const char *conf)
{
	int r;

	if (argc == 1)
		return options_from_config(o, conf, argv[0]);
	r = options_from_config(o, conf, NULL);
	snprintf(o->source, sizeof(o->source), "%s", argv[0]);
	snprintf(o->mountpoint, sizeof(o->mountpoint), "%s", argv[1]);
	return r;
}

static void go_background(void)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (chdir("/") < 0)
		log_warn("/: %s", strerror(errno));
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	close(null);
	setenv("OVSTORFS_SYSLOG", "1", 1);
	log_to_syslog(true);
}

/* First child, second child: so that the keeper has no terminal and no
 * parent that waits for it. */
static int start_keeper(const struct mount_options *o)
{
	int ready[2], r;
	pid_t pid;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_new(-errno, "pipe: %s", strerror(errno));
	fflush(NULL);
	pid = fork();
	if (pid < 0)
		return err_new(-errno, "fork: %s", strerror(errno));
	if (pid == 0) {
		close(ready[0]);
		setsid();
		go_background();
		_exit(keeper_main(o, ready[1]));
	}
	close(ready[1]);
	r = keeper_read_result(ready[0]);
	close(ready[0]);
	return r;
}

/* Be the keeper; the result of the start has been waiting in the pipe. */
static int mount_foreground(const struct mount_options *o)
{
	auto_close int result = -1;
	int ready[2], code, r;

	if (pipe2(ready, O_CLOEXEC) < 0)
		return cmd_fail(EXIT_MOUNT_FAILED, "pipe: %s", strerror(errno));
	result = ready[0];
	code = keeper_main(o, ready[1]);
	r = keeper_read_result(result);
	if (r < 0)
		return cmd_fail(EXIT_MOUNT_FAILED, "mount %s: %s (%s)",
				o->source, err_text(r), err_name(r));
	return code ? EXIT_FAILED : EXIT_GOOD;
}

static int mount_with(struct mount_options *o, bool foreground)
{
	int r;

	r = absolute("source", o->source) ?:
		    absolute("mount point", o->mountpoint);
	if (r < 0)
		return cmd_fail(EXIT_MOUNT_FAILED, "mount: %s", err_text(r));
	if (foreground)
		return mount_foreground(o);
	r = start_keeper(o);
	if (r < 0)
		return cmd_fail(EXIT_MOUNT_FAILED, "mount %s: %s (%s)",
				o->source, err_text(r), err_name(r));
	return EXIT_GOOD;
}

int cmd_mount(int argc, char **argv)
{
	struct strbuf given = { 0 };
	const char *conf = config_path();
	struct mount_options o;
	bool foreground = false;
	int c, r;

	options_init(&o);
	/* -n, -s, -v, -t TYPE: what mount(8) hands on. */
	while ((c = getopt(argc, argv, "fo:c:nsvt:")) >= 0) {
		if (c == 'f')
			foreground = true;
		else if (c == 'o')
			strbuf_printf(&given, "%s%s", given.len ? "," : "",
				      optarg);
		else if (c == 'c')
			conf = optarg;
		else if (c == '?')
			return cmd_fail(EXIT_MOUNT_USAGE,
					"usage: ovstorfs mount "
					"[-f] [-c CONFIG] "
					"[-o OPTIONS] SOURCE MNT "
					"| NAME");
	}
	argc = 0;
	while (argv[optind + argc])
		argc++;
	/* mount(8) puts its -o behind the arguments; getopt has moved it. */
	if (argc != 1 && argc != 2)
		return cmd_fail(EXIT_MOUNT_USAGE,
				"mount needs SOURCE and MNT, or a "
				"NAME of the configuration");
	r = take_arguments(&o, argc, argv + optind, conf);
	if (r == 0 && given.len)
		r = options_parse(&o, given.text);
	strbuf_fini(&given);
	if (r < 0)
		r = cmd_fail(EXIT_MOUNT_USAGE, "mount: %s", err_text(r));
	else if (geteuid() != 0)
		r = cmd_fail(EXIT_MOUNT_FAILED, "mount: only root can mount");
	else
		r = mount_with(&o, foreground);
	options_fini(&o);
	return r;
}

/* ---- unmount ---- */

static int keeper_of(const char *mnt)
{
	struct json_object *status = view_status(mnt);
	struct json_object *pid = NULL;
	int r = -1;

	if (status && json_object_object_get_ex(status, "keeper_pid", &pid))
		r = json_object_get_int(pid);
	json_object_put(status);
	return r;
}

/* The leases are released when the keeper has gone. */
static void wait_gone(int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	while (poll(&p, 1, -1) < 0 && errno == EINTR)
		;
}

static int unmount(const char *mnt)
{
	auto_close int pidfd = -1;
	int keeper = keeper_of(mnt);

	if (keeper > 0)
		pidfd = (int)syscall(SYS_pidfd_open, keeper, 0);
	if (umount2(mnt, UMOUNT_NOFOLLOW) < 0)
		return cmd_fail(EXIT_MOUNT_FAILED, "unmount %s: %s", mnt,
				strerror(errno));
	if (pidfd >= 0)
		wait_gone(pidfd);
	return EXIT_GOOD;
}

int cmd_unmount(int argc, char **argv)
{
	struct mount_options o;
	char mnt[PATH_MAX], at[PATH_MAX];
	int r;

	if (argc != 2)
		return cmd_fail(EXIT_USAGE, "usage: ovstorfs unmount MNT | "
					    "NAME");
	if (realpath(argv[1], mnt) && view_find(mnt, at) == 0 && streq(at, mnt))
		return unmount(mnt);
	options_init(&o);
	r = options_from_config(&o, config_path(), argv[1]);
	if (r == 0)
		r = unmount(o.mountpoint);
	else
		r = cmd_fail(EXIT_MOUNT_FAILED,
			     "unmount %s: no storage domain is mounted there",
			     argv[1]);
	options_fini(&o);
	return r;
}
