/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The configuration file, read by iniparser. */
#include <iniparser/iniparser.h>
#include <stdio.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/config.h"
#include "ovstorfs/err.h"
#include "ovstorfs/str.h"

struct config {
	dictionary *dict; /* NULL: no file */
};

/* iniparser speaks to standard error by itself; the error is ours to tell. */
static int keep_quiet(const char *fmt, ...)
{
	(void)fmt;
	return 0;
}

int config_open(const char *path, struct config **ret_config)
{
	struct config *c = xcalloc(1, sizeof(*c));

	if (access(path, F_OK) == 0) {
		iniparser_set_error_callback(keep_quiet);
		c->dict = iniparser_load(path);
		if (!c->dict) {
			free(c);
			return err_new(-EINVAL, "%s: cannot be parsed", path);
		}
	}
	*ret_config = c;
	return 0;
}

void config_close(struct config *c)
{
	if (!c)
		return;
	if (c->dict)
		iniparser_freedict(c->dict);
	free(c);
}

bool config_has_section(const struct config *c, const char *section)
{
	return c->dict && iniparser_find_entry(c->dict, section);
}

static const char *lookup(const struct config *c, const char *section,
			  const char *key)
{
	auto_free char *name = xprintf("%s:%s", section, key);

	return iniparser_getstring(c->dict, name, NULL);
}

const char *config_get(const struct config *c, const char *section,
		       const char *key)
{
	const char *value = NULL;

	if (!c->dict)
		return NULL;
	if (section)
		value = lookup(c, section, key);
	return value ? value : lookup(c, "default", key);
}

const char *config_section_of(const struct config *c, const char *path)
{
	int i, n = c->dict ? iniparser_getnsec(c->dict) : 0;

	for (i = 0; i < n; i++) {
		const char *name = iniparser_getsecname(c->dict, i);
		const char *mnt = lookup(c, name, "mountpoint");
		const char *src = lookup(c, name, "source");

		if ((mnt && streq(mnt, path)) || (src && streq(src, path)))
			return name;
	}
	return NULL;
}
