/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fault points: places where a test makes us die, hang or fail.
 *
 * They are in release builds too, so that what is tested is what ships. A
 * point acts once, at its N-th passing in the life of the mount; the counts
 * lie in memory that outlives the process. Threads: any. */
#ifndef OVSTORFS_FAULT_H
#define OVSTORFS_FAULT_H

#include <stdint.h>
#include <stdio.h>

#define FAULT_MAX 8 /* faults armed at once */

struct fault_counts {
	uint32_t passed[FAULT_MAX];
};

/* Passes the point called name: 0, or the error that a fault asked for, or no
 * return. A macro, since it puts the name where fault_list() finds it, so
 * that no point can be forgotten by the tests. */
#define fault_point(name)                                                      \
	({                                                                     \
		static const char *const fault_name_                           \
			__attribute__((section("fault_points"), used)) = name; \
		fault_pass(fault_name_);                                       \
	})

int fault_pass(const char *name);

/* Arm NAME[:N[:kill|both|hang|EXXX]]. Errors: -EINVAL; -ENOENT no such point;
 * -E2BIG more than FAULT_MAX. */
int fault_arm(const char *spec);

/* Check the form of a spec and that its point exists, arming nothing. */
int fault_check(const char *spec);

/* Count in memory of the caller's; with kill=both, keeper dies too. */
void fault_share(struct fault_counts *counts, int keeper_pid);

/* All names, sorted, one a line. */
void fault_list(FILE *out);

#endif
