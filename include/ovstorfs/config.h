/* SPDX-License-Identifier: GPL-2.0-or-later */
/* /etc/ovstorfs.conf: [default] and one section per mount. ovstorfs.conf(5) */
#ifndef OVSTORFS_CONFIG_H
#define OVSTORFS_CONFIG_H

#include <stdbool.h>

struct config;

/* A missing file is an empty configuration. Errors: -EINVAL cannot be parsed.
 * Owner: caller closes with config_close(). */
int config_open(const char *path, struct config **ret_config);
void config_close(struct config *c);

bool config_has_section(const struct config *c, const char *section);

/* The value in the section, else in [default], else NULL. Borrowed. */
const char *config_get(const struct config *c, const char *section,
		       const char *key);

/* The name of the section whose mountpoint or source is path, or NULL. */
const char *config_section_of(const struct config *c, const char *path);

#endif
