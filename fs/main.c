/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one program: a table of commands, the links that name one, and the role
 * that the keeper starts. */
#include <libgen.h>
#include <stdio.h>
#include <string.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/cmd.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/log.h"
#include "ovstorfs/server.h"

static const struct command {
	const char *name;
	int (*run)(int argc, char **argv);
	const char *arguments;
	const char *help;
} commands[] = {
	{ "format", cmd_format,
	  "[--name NAME] [--io-timeout S] [--force] SOURCE",
	  "make a storage domain" },
	{ "mount", cmd_mount, "[-f] [-c FILE] [-o OPTIONS] SOURCE MNT | NAME",
	  "mount a domain" },
	{ "unmount", cmd_unmount, "MNT | NAME",
	  "unmount, and wait until all is released" },
	{ "ls", cmd_ls, "[--json] PATH", "list images and volumes" },
	{ "info", cmd_info, "[--json] PATH", "all that is known of an object" },
	{ "create", cmd_create, "[OPTIONS] MNT | IMAGE",
	  "create an image, or a volume in one" },
	{ "check", cmd_check, "[--repair] [--json] SOURCE | MNT",
	  "find what is wrong with a domain" },
	{ "gc", cmd_gc, "MNT", "collect what crashes left, now" },
	{ "explain", cmd_explain, "PATH",
	  "why the last operation on it was refused" },
	{ "dump", cmd_dump, "[--json] SOURCE", "records as they are stored" },
};

/* Other names of the program, and the command each stands for. */
static const struct {
	const char *name;
	const char *command;
} links[] = {
	{ "mount.ovstorfs", "mount" },
	{ "mount.fuse.ovstorfs", "mount" },
	{ "mkfs.ovstorfs", "format" },
	{ "fsck.ovstorfs", "check" },
};

static void usage(FILE *out)
{
	size_t i;

	fprintf(out, "usage: ovstorfs COMMAND [ARGUMENTS]\n\n");
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		fprintf(out, "  %-9s%-46s %s\n", commands[i].name,
			commands[i].arguments, commands[i].help);
	fprintf(out,
		"\n  --version       what this build and kernel can do\n"
		"  --fault-points  names for the mount option fault=\n"
		"\nCOMMAND --help tells its arguments; see ovstorfs(8).\n");
}

static int run(const struct command *c, int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "--help")) {
		printf("usage: ovstorfs %s %s\n\n%s; see ovstorfs(8)\n",
		       c->name, c->arguments, c->help);
		return EXIT_GOOD;
	}
	return c->run(argc, argv);
}

static const struct command *find(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static const char *command_of_link(const char *argv0)
{
	const char *slash = strrchr(argv0, '/');
	const char *name = slash ? slash + 1 : argv0;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(links); i++)
		if (!strcmp(links[i].name, name))
			return links[i].command;
	return NULL;
}

/* --server SOURCE MNT OPTIONS: only the keeper calls it so. */
static int be_server(int argc, char **argv)
{
	struct mount_options o;
	int r;

	if (argc != 5)
		return EXIT_USAGE;
	options_init(&o);
	snprintf(o.source, sizeof(o.source), "%s", argv[2]);
	snprintf(o.mountpoint, sizeof(o.mountpoint), "%s", argv[3]);
	log_to_syslog(getenv("OVSTORFS_SYSLOG") != NULL);
	r = options_parse(&o, argv[4]);
	if (r < 0)
		return cmd_fail(EXIT_USAGE, "%s", err_text(r));
	r = server_main(&o);
	options_fini(&o);
	return r;
}

static int be_told(const char *flag)
{
	if (!strcmp(flag, "--help") || !strcmp(flag, "-h")) {
		usage(stdout);
	} else if (!strcmp(flag, "--version") || !strcmp(flag, "-V")) {
		printf("ovstorfs %s\n", OVSTORFS_VERSION);
		server_features(stdout);
	} else if (!strcmp(flag, "--fault-points")) {
		fault_list(stdout);
	} else {
		return cmd_fail(EXIT_USAGE,
				"unknown command %s; see "
				"ovstorfs --help",
				flag);
	}
	return EXIT_GOOD;
}

int main(int argc, char **argv)
{
	const char *linked = command_of_link(argv[0]);
	const struct command *c;

	if (linked)
		return run(find(linked), argc, argv);
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--server"))
		return be_server(argc, argv);
	c = find(argv[1]);
	return c ? run(c, argc - 1, argv + 1) : be_told(argv[1]);
}
