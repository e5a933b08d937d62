/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The log: one line per event. */
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/log.h"

/* <syslog.h> has names of its own that begin like ours. */
static const struct {
	const char *name;
	unsigned int bit;
} classes[] = {
	{ "fuse", LOG_FUSE }, { "lease", LOG_LEASE }, { "lock", LOG_LOCK },
	{ "txn", LOG_TXN },   { "gc", LOG_GC },	      { "job", LOG_JOB },
	{ "all", ~0u },
};

static atomic_bool use_syslog;
static atomic_uint debug_classes;

void log_to_syslog(bool on)
{
	if (on)
		openlog("ovstorfs", LOG_PID, LOG_DAEMON);
	use_syslog = on;
}

static unsigned int class_bit(const char *name)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(classes); i++)
		if (!strcmp(classes[i].name, name))
			return classes[i].bit;
	return 0;
}

int log_set_debug(const char *names)
{
	auto_free char *copy = strdup(names);
	unsigned int mask = 0;
	char *save = NULL;
	char *word;

	for (word = strtok_r(copy, ",", &save); word;
	     word = strtok_r(NULL, ",", &save)) {
		unsigned int bit = class_bit(word);

		if (!bit)
			return err_new(-EINVAL, "no log class is called %s",
				       word);
		mask |= bit;
	}
	debug_classes = mask;
	return 0;
}

static void say(int priority, const char *fmt, va_list ap)
{
	char text[1024];

	vsnprintf(text, sizeof(text), fmt, ap);
	if (use_syslog)
		syslog(priority, "%s", text);
	else
		fprintf(stderr, "ovstorfs: %s\n", text);
}

#define SAY(priority, fmt)                                                     \
	do {                                                                   \
		va_list ap_;                                                   \
		va_start(ap_, fmt);                                            \
		say(priority, fmt, ap_);                                       \
		va_end(ap_);                                                   \
	} while (0)

void log_error(const char *fmt, ...)
{
	SAY(LOG_ERR, fmt);
}

void log_warn(const char *fmt, ...)
{
	SAY(LOG_WARNING, fmt);
}

void log_info(const char *fmt, ...)
{
	SAY(LOG_INFO, fmt);
}

void log_debug(enum log_class c, const char *fmt, ...)
{
	if (debug_classes & c)
		SAY(LOG_DEBUG, fmt);
}
