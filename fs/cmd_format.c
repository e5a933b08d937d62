/* SPDX-License-Identifier: GPL-2.0-or-later */
/* ovstorfs format, mkfs.ovstorfs */
#include <getopt.h>
#include <stdio.h>

#include "ovstorfs/cmd.h"
#include "ovstorfs/err.h"
#include "ovstorfs/str.h"

static const struct option options[] = {
	{ "name", required_argument, NULL, 'n' },
	{ "force", no_argument, NULL, 'f' },
	{ "io-timeout", required_argument, NULL, 't' },
	{ 0 },
};

int cmd_format(int argc, char **argv)
{
	const char *name = NULL;
	uint64_t io_timeout = 0;
	bool force = false;
	int c, r;

	while ((c = getopt_long(argc, argv, "n:ft:", options, NULL)) >= 0) {
		if (c == 'n')
			name = optarg;
		else if (c == 'f')
			force = true;
		else if (c != 't' || parse_u64(optarg, &io_timeout) < 0 ||
			 io_timeout < 1 || io_timeout > 60)
			return cmd_fail(EXIT_USAGE,
					"usage: ovstorfs format [--name NAME] "
					"[--io-timeout SECONDS, 1 to 60] "
					"[--force] SOURCE");
	}
	if (argc - optind != 1)
		return cmd_fail(EXIT_USAGE, "format needs one SOURCE");
	r = domain_format(argv[optind], name, io_timeout, force);
	if (r < 0)
		return cmd_fail(EXIT_FAILED, "format %s: %s", argv[optind],
				err_text(r));
	printf("%s is a storage domain now%s%s\n", argv[optind],
	       name ? ", called " : "", name ? name : "");
	return EXIT_GOOD;
}
