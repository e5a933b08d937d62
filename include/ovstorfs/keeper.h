/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: holds the mount and the leases, and has a server do the rest. */
#ifndef OVSTORFS_KEEPER_H
#define OVSTORFS_KEEPER_H

#include "ovstorfs/options.h"

/* Be the keeper of a mount to its end. Once it answers, or cannot, the result
 * is written to ready_fd (taken): "0\n", or a code and a text. Returns an exit
 * code. */
int keeper_main(const struct mount_options *o, int ready_fd);

/* Read such a result: 0 or the code, with err_new() done. */
int keeper_read_result(int fd);

/* Write one. */
void keeper_write_result(int fd, int code);

#endif
