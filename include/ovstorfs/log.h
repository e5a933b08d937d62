/* SPDX-License-Identifier: GPL-2.0-or-later */
/* One line per event, to standard error, or to syslog once in the background.
 *
 * An error is logged once, where it stops. Below that only debug, by class,
 * switched at run time. Threads: any. */
#ifndef OVSTORFS_LOG_H
#define OVSTORFS_LOG_H

#include <stdbool.h>

enum log_class {
	LOG_FUSE = 1 << 0,
	LOG_LEASE = 1 << 1,
	LOG_LOCK = 1 << 2,
	LOG_TXN = 1 << 3,
	LOG_GC = 1 << 4,
	LOG_JOB = 1 << 5,
};

/* Where lines go from now on: false: standard error; true: syslog. */
void log_to_syslog(bool on);

/* Which classes log_debug() prints: comma-separated names or "all".
 * Errors: -EINVAL an unknown name; nothing changed. */
int log_set_debug(const char *classes);

void log_error(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_warn(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_info(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void log_debug(enum log_class c, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#endif
