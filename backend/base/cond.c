/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conditions on the clock that only goes forward. */
#include <time.h>

#include "ovstorfs/cond.h"

void cond_init(pthread_cond_t *c)
{
	pthread_condattr_t attr;

	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(c, &attr);
	pthread_condattr_destroy(&attr);
}

bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, uint64_t until)
{
	struct timespec t = { .tv_sec = (time_t)(until / 1000),
			      .tv_nsec = (long)(until % 1000) * 1000000 };

	if (until == UINT64_MAX)
		return pthread_cond_wait(c, m) == 0;
	return pthread_cond_timedwait(c, m, &t) == 0;
}
