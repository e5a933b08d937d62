/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mount options: from ovstorfs.conf, the command line and fstab. */
#ifndef OVSTORFS_OPTIONS_H
#define OVSTORFS_OPTIONS_H

#include <limits.h>
#include <sys/types.h>

#include "ovstorfs/fault.h"
#include "ovstorfs/lease.h"
#include "ovstorfs/str.h"

#define CONFIG_PATH "/etc/ovstorfs.conf"

struct mount_options {
	char source[PATH_MAX];
	char mountpoint[PATH_MAX];
	enum lease_locks locks;
	unsigned int host_id; /* 0: auto */
	bool no_watchdog;
	bool read_only;
	bool passthrough;
	uint64_t gc_period;	  /* seconds */
	uint64_t trash_retention; /* seconds */
	uint64_t verb_timeout;	  /* seconds */
	uid_t uid;
	gid_t gid;
	mode_t mode;
	unsigned long flags; /* of mount(2) */
	char *faults[FAULT_MAX];
	int n_faults;
	struct strbuf text; /* as given, for the server to read again */
};

void options_init(struct mount_options *o);
void options_fini(struct mount_options *o);

/* Read a comma-separated list into o, later ones over earlier ones.
 * Errors: -EINVAL an unknown option or a bad value. */
int options_parse(struct mount_options *o, const char *list);

/* What the file path says: name is a section, or NULL for [default] alone.
 * Errors: -ENOENT no such section. */
int options_from_config(struct mount_options *o, const char *path,
			const char *name);

#endif
