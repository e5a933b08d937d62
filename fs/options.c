/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Mount options: one table of those that take a value, one of flags. */
#include <grp.h>
#include <pwd.h>
#include <stdlib.h>
#include <sys/mount.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/config.h"
#include "ovstorfs/err.h"
#include "ovstorfs/log.h"
#include "ovstorfs/options.h"

void options_init(struct mount_options *o)
{
	memset(o, 0, sizeof(*o));
	o->locks = LEASE_LOCKS_SANLOCK;
	o->passthrough = true;
	o->gc_period = 60;
	o->trash_retention = 600;
	o->verb_timeout = 10;
	o->mode = 0660;
	o->flags = MS_NODEV | MS_NOSUID;
}

void options_fini(struct mount_options *o)
{
	while (o->n_faults > 0)
		free(o->faults[--o->n_faults]);
	strbuf_fini(&o->text);
}

/* ---- options with a value ---- */

static int bad(const char *key, const char *value)
{
	return err_new(-EINVAL, "option %s: %s is no value for it", key, value);
}

static int set_locks(struct mount_options *o, const char *v)
{
	if (streq(v, "local"))
		o->locks = LEASE_LOCKS_LOCAL;
	else if (streq(v, "sanlock"))
		o->locks = LEASE_LOCKS_SANLOCK;
	else
		return bad("locks", v);
	return 0;
}

static int set_host_id(struct mount_options *o, const char *v)
{
	uint64_t id = 0;

	if (!streq(v, "auto") &&
	    (parse_u64(v, &id) < 0 || id == 0 || id > LEASE_MAX_HOSTS))
		return bad("host_id", v);
	o->host_id = (unsigned int)id;
	return 0;
}

static int set_seconds(uint64_t *at, const char *key, const char *v,
		       uint64_t least)
{
	uint64_t s;

	if (parse_u64(v, &s) < 0 || s < least || s > 10 * 365 * 86400ull)
		return bad(key, v);
	*at = s;
	return 0;
}

static int set_gc_period(struct mount_options *o, const char *v)
{
	return set_seconds(&o->gc_period, "gc_period", v, 0);
}

static int set_trash_retention(struct mount_options *o, const char *v)
{
	return set_seconds(&o->trash_retention, "trash_retention", v, 0);
}

static int set_verb_timeout(struct mount_options *o, const char *v)
{
	return set_seconds(&o->verb_timeout, "verb_timeout", v, 1);
}

static int set_uid(struct mount_options *o, const char *v)
{
	struct passwd *p = getpwnam(v);
	uint64_t id;

	if (!p && (parse_u64(v, &id) < 0 || id >= UINT32_MAX))
		return bad("uid", v);
	o->uid = p ? p->pw_uid : (uid_t)id;
	return 0;
}

static int set_gid(struct mount_options *o, const char *v)
{
	struct group *g = getgrnam(v);
	uint64_t id;

	if (!g && (parse_u64(v, &id) < 0 || id >= UINT32_MAX))
		return bad("gid", v);
	o->gid = g ? g->gr_gid : (gid_t)id;
	return 0;
}

static int set_mode(struct mount_options *o, const char *v)
{
	char *end;
	unsigned long m = strtoul(v, &end, 8);

	if (!*v || *end || m > 0666 || m & 0111)
		return bad("mode", v);
	o->mode = (mode_t)m;
	return 0;
}

static int set_fault(struct mount_options *o, const char *v)
{
	int r = fault_check(v);

	if (r < 0)
		return r;
	if (o->n_faults == FAULT_MAX)
		return err_new(-EINVAL, "more than %d faults", FAULT_MAX);
	o->faults[o->n_faults++] = xstrdup(v);
	return 0;
}

static int set_passthrough(struct mount_options *o, const char *v)
{
	if (!streq(v, "on") && !streq(v, "off"))
		return bad("passthrough", v);
	o->passthrough = streq(v, "on");
	return 0;
}

static int set_debug(struct mount_options *o, const char *v)
{
	auto_free char *list = xstrdup(v);
	char *p;

	(void)o;
	/* Commas part options, so the classes are parted by colons. */
	for (p = list; *p; p++)
		if (*p == ':')
			*p = ',';
	return log_set_debug(list);
}

static const struct {
	const char *key;
	int (*set)(struct mount_options *o, const char *value);
} values[] = {
	{ "locks", set_locks },
	{ "host_id", set_host_id },
	{ "gc_period", set_gc_period },
	{ "trash_retention", set_trash_retention },
	{ "verb_timeout", set_verb_timeout },
	{ "uid", set_uid },
	{ "gid", set_gid },
	{ "mode", set_mode },
	{ "fault", set_fault },
	{ "passthrough", set_passthrough },
	{ "debug", set_debug },
};

/* ---- flags ---- */

static const struct {
	const char *name;
	unsigned long set, clear;
} flags[] = {
	{ "defaults", 0, 0 },
	{ "rw", 0, MS_RDONLY },
	{ "ro", MS_RDONLY, 0 },
	{ "dev", 0, MS_NODEV },
	{ "nodev", MS_NODEV, 0 },
	{ "suid", 0, MS_NOSUID },
	{ "nosuid", MS_NOSUID, 0 },
	{ "exec", 0, MS_NOEXEC },
	{ "noexec", MS_NOEXEC, 0 },
	{ "atime", 0, MS_NOATIME },
	{ "noatime", MS_NOATIME, 0 },
	{ "relatime", MS_RELATIME, 0 },
	{ "auto", 0, 0 },
	{ "noauto", 0, 0 },
	{ "nofail", 0, 0 },
	{ "_netdev", 0, 0 },
};

static bool parse_flag(struct mount_options *o, const char *word)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		if (!streq(flags[i].name, word))
			continue;
		o->flags = (o->flags | flags[i].set) & ~flags[i].clear;
		o->read_only = o->flags & MS_RDONLY;
		return true;
	}
	return str_starts(word, "x-");
}

static int parse_word(struct mount_options *o, char *word)
{
	char *eq = strchr(word, '=');
	size_t i;

	if (parse_flag(o, word))
		return 0;
	if (streq(word, "no_watchdog")) {
		o->no_watchdog = true;
		return 0;
	}
	for (i = 0; eq && i < ARRAY_SIZE(values); i++)
		if (strlen(values[i].key) == (size_t)(eq - word) &&
		    str_starts(word, values[i].key))
			return values[i].set(o, eq + 1);
	return err_new(-EINVAL, "unknown option %s", word);
}

int options_parse(struct mount_options *o, const char *list)
{
	auto_free char *copy = xstrdup(list);
	char *save = NULL;
	char *word;
	int r;

	for (word = strtok_r(copy, ",", &save); word;
	     word = strtok_r(NULL, ",", &save)) {
		while (*word == ' ' || *word == '\t')
			word++;
		strbuf_printf(&o->text, "%s%s", o->text.len ? "," : "", word);
		r = parse_word(o, word);
		if (r < 0)
			return r;
	}
	return 0;
}

/* ---- the configuration file ---- */

static int take_path(const struct config *c, const char *section,
		     const char *key, char *out)
{
	const char *v = config_get(c, section, key);

	if (!v)
		return err_new(-EINVAL, "[%s] has no %s", section, key);
	if (strlen(v) >= PATH_MAX)
		return err_new(-ENAMETOOLONG, "[%s]: %s is too long", section,
			       key);
	strcpy(out, v);
	return 0;
}

static int take_section(struct mount_options *o, const struct config *c,
			const char *name)
{
	const char *section =
		config_has_section(c, name) ? name : config_section_of(c, name);
	const char *text;
	int r;

	if (!section || streq(section, "default"))
		return err_new(-ENOENT,
			       "no section of the configuration is "
			       "called %s or mounts there",
			       name);
	r = take_path(c, section, "source", o->source) ?:
		    take_path(c, section, "mountpoint", o->mountpoint);
	text = config_get(c, section, "options");
	return r == 0 && text ? options_parse(o, text) : r;
}

int options_from_config(struct mount_options *o, const char *path,
			const char *name)
{
	struct config *c = NULL;
	const char *text;
	int r = config_open(path, &c);

	if (r < 0)
		return r;
	text = config_get(c, NULL, "options");
	r = text ? options_parse(o, text) : 0;
	if (r == 0 && name)
		r = take_section(o, c, name);
	config_close(c);
	return r < 0 ? err_add(r, "%s", path) : 0;
}
