/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hash table from 64-bit keys to pointers. Several values may share a key;
 * the caller tells them apart. Not thread safe. */
#ifndef OVSTORFS_MAP_H
#define OVSTORFS_MAP_H

#include <stddef.h>
#include <stdint.h>

struct map_slot;

struct map {
	struct map_slot *slots;
	size_t room;
	size_t used; /* with tombstones */
	size_t count;
};

void map_fini(struct map *m);
void map_add(struct map *m, uint64_t key, void *value);
void map_del(struct map *m, uint64_t key, void *value);

/* The values with this key one after the other: *cursor starts at 0; NULL
 * when there are no more. */
void *map_find(const struct map *m, uint64_t key, size_t *cursor);

/* Every value: *cursor starts at 0. No add or del in between. */
void *map_each(const struct map *m, size_t *cursor);

#endif
