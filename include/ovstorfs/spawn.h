/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Run another program to its end, with a deadline, and read what it says.
 *
 * The child gets an empty environment but for PATH and LC_ALL=C, no
 * descriptors but 0 to 2 and those named, dies with the thread that started
 * it, and is killed at the deadline. */
#ifndef OVSTORFS_SPAWN_H
#define OVSTORFS_SPAWN_H

#include <stddef.h>

struct spawn {
	const char *const *argv; /* argv[0] is looked up in PATH */
	const int *keep_fds;	 /* stay open in the child, same numbers */
	size_t n_keep_fds;
	int timeout_ms; /* 0: none */
};

/* Run it. *ret_out (may be NULL) gets standard output, at most 1 MiB, NUL
 * after it. Errors: -ETIMEDOUT killed at the deadline; -ENOENT no such
 * program; -EIO it failed, err_text() ends with its last line of standard
 * error. Owner: caller frees *ret_out. Threads: any. */
int spawn_run(const struct spawn *s, char **ret_out);

#endif
