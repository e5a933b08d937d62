/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Scopes that clean up: what a variable owns goes when it goes.
 *
 * Declared first is released last, so locks are declared before what they
 * guard. steal() hands the value on and leaves nothing behind to clean. */
#ifndef OVSTORFS_AUTO_H
#define OVSTORFS_AUTO_H

#include <dirent.h>
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

static inline void auto_free_fn(void *p)
{
	free(*(void **)p);
}

static inline void auto_close_fn(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void auto_closedir_fn(DIR **d)
{
	if (*d)
		closedir(*d);
}

static inline void auto_unlock_fn(pthread_mutex_t **m)
{
	if (*m)
		pthread_mutex_unlock(*m);
}

static inline pthread_mutex_t *mutex_locked(pthread_mutex_t *m)
{
	pthread_mutex_lock(m);
	return m;
}

#define auto_free __attribute__((cleanup(auto_free_fn)))
#define auto_close __attribute__((cleanup(auto_close_fn)))
#define auto_closedir __attribute__((cleanup(auto_closedir_fn)))

/* Hold a mutex to the end of the scope: auto_unlock(guard, &m); */
#define auto_unlock(name, mutex)                                               \
	pthread_mutex_t *name                                                  \
		__attribute__((cleanup(auto_unlock_fn), unused)) =             \
			mutex_locked(mutex)

#define steal(p)                                                               \
	({                                                                     \
		__typeof__(p) stolen_ = (p);                                   \
		(p) = NULL;                                                    \
		stolen_;                                                       \
	})

static inline int steal_fd(int *fd)
{
	int r = *fd;

	*fd = -1;
	return r;
}

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define container_of(ptr, type, member)                                        \
	((type *)((char *)(ptr)-offsetof(type, member)))

#endif
