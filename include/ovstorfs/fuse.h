/* SPDX-License-Identifier: GPL-2.0-or-later */
/* libfuse's low-level API at the version that we speak, and what this one of
 * it has. */
#ifndef OVSTORFS_FUSE_H
#define OVSTORFS_FUSE_H

#define FUSE_USE_VERSION FUSE_MAKE_VERSION(3, 14)

#include <fuse_lowlevel.h>
#include <fuse_log.h>
#include <stdbool.h>

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
#define HAVE_PASSTHROUGH 1
#endif

bool kernel_is_at_least(int major, int minor);

#endif
