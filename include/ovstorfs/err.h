/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errors: an int that is -Exxx, and one line of text for this thread.
 *
 * err_new() keeps the first cause; err_add() says where, on the way up. Both
 * return the code, so that `return err_new(-ENOSPC, ...)` reads well. The
 * line reads outermost first: "resize I/V: grow data: No space left". */
#ifndef OVSTORFS_ERR_H
#define OVSTORFS_ERR_H

#include <errno.h>

/* Start a new line for this thread. code is negative. */
int err_new(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* Put a prefix before this thread's line; code is handed through. A code that
 * came without a line (or with another code's) gets its name first. */
int err_add(int code, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* This thread's line for code; never NULL, borrowed until the next call. */
const char *err_text(int code);

/* Forget this thread's line, at the start of a request. */
void err_clear(void);

/* "ENOSPC" for -ENOSPC; never NULL. */
const char *err_name(int code);

/* The code of a name ("ENOSPC" gives -ENOSPC), or 0. */
int err_by_name(const char *name);

#endif
