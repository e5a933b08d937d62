/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A hash table: open addressing, linear probing, at most half full. */
#include <stdlib.h>

#include "ovstorfs/map.h"
#include "ovstorfs/str.h"

struct map_slot {
	uint64_t key;
	void *value; /* NULL: never used; GONE: a tombstone */
};

static char gone;
#define GONE ((void *)&gone)

void map_fini(struct map *m)
{
	free(m->slots);
	memset(m, 0, sizeof(*m));
}

static size_t home(const struct map *m, uint64_t key)
{
	return (size_t)(key * 0x9e3779b97f4a7c15ull >> 20) & (m->room - 1);
}

static void put(struct map *m, uint64_t key, void *value)
{
	size_t i = home(m, key);

	while (m->slots[i].value)
		i = (i + 1) & (m->room - 1);
	m->slots[i].key = key;
	m->slots[i].value = value;
	m->used++;
	m->count++;
}

static void rehash(struct map *m)
{
	struct map_slot *old = m->slots;
	size_t n = m->room, i;

	m->room = m->count < 8 ? 32 : m->room;
	while (m->room < 4 * m->count)
		m->room *= 2;
	m->slots = xcalloc(m->room, sizeof(*m->slots));
	m->used = m->count = 0;
	for (i = 0; i < n; i++)
		if (old[i].value && old[i].value != GONE)
			put(m, old[i].key, old[i].value);
	free(old);
}

void map_add(struct map *m, uint64_t key, void *value)
{
	if (2 * (m->used + 1) > m->room)
		rehash(m);
	put(m, key, value);
}

void map_del(struct map *m, uint64_t key, void *value)
{
	size_t i;

	if (!m->room)
		return;
	for (i = home(m, key); m->slots[i].value; i = (i + 1) & (m->room - 1)) {
		if (m->slots[i].key != key || m->slots[i].value != value)
			continue;
		m->slots[i].value = GONE;
		m->count--;
		return;
	}
}

void *map_find(const struct map *m, uint64_t key, size_t *cursor)
{
	if (!m->room)
		return NULL;
	for (;;) {
		struct map_slot *s =
			&m->slots[(home(m, key) + *cursor) & (m->room - 1)];

		++*cursor;
		if (!s->value)
			return NULL;
		if (s->key == key && s->value != GONE)
			return s->value;
	}
}

void *map_each(const struct map *m, size_t *cursor)
{
	while (*cursor < m->room) {
		struct map_slot *s = &m->slots[(*cursor)++];

		if (s->value && s->value != GONE)
			return s->value;
	}
	return NULL;
}
