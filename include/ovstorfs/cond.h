/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Conditions that are waited for on the clock of now_ms(). */
#ifndef OVSTORFS_COND_H
#define OVSTORFS_COND_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

void cond_init(pthread_cond_t *c);

/* until: UINT64_MAX: for ever. False when it has passed. */
bool cond_wait_until(pthread_cond_t *c, pthread_mutex_t *m, uint64_t until);

#endif
