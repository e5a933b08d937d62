/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Once a second: free space, leases that linger, is the storage alive. What
 * looking needs from the storage is fetched here, so that looking waits for
 * nothing. */
#ifndef OVSTORFS_PULSE_H
#define OVSTORFS_PULSE_H

#include "ovstorfs/model.h"

int pulse_open(struct domain *d);
void pulse_close(struct domain *d);

/* The storage has not answered for some seconds. */
bool pulse_is_stuck(struct domain *d);

void pulse_space(struct domain *d, uint64_t *ret_total, uint64_t *ret_free,
		 const char **ret_level);

#endif
