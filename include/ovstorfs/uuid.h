/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UUIDs: 36 lower-case characters outside, 16 bytes inside. */
#ifndef OVSTORFS_UUID_H
#define OVSTORFS_UUID_H

#include <stdbool.h>
#include <stdint.h>

#define UUID_TEXT 37 /* with the NUL */

struct uuid {
	uint8_t b[16];
};

/* Exactly the lower-case form and nothing after it, and not all zeros (the
 * nil UUID means "none" here). Errors: -EINVAL. */
int uuid_parse(const char *s, struct uuid *ret_uuid);

/* Writes UUID_TEXT bytes; returns out. */
const char *uuid_format(const struct uuid *u, char *out);

void uuid_new(struct uuid *ret_uuid);
int uuid_cmp(const struct uuid *a, const struct uuid *b);
bool uuid_is_nil(const struct uuid *u);
static inline bool uuid_eq(const struct uuid *a, const struct uuid *b)
{
	return uuid_cmp(a, b) == 0;
}

/* 64 well-mixed bits of it, the same on every machine. */
uint64_t uuid_hash(const struct uuid *u);

#endif
