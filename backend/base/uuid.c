/* SPDX-License-Identifier: GPL-2.0-or-later */
/* UUIDs, read strictly: one UUID has one name. */
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "ovstorfs/err.h"
#include "ovstorfs/str.h"
#include "ovstorfs/uuid.h"

static int hex_value(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

static bool is_dash(size_t i)
{
	return i == 8 || i == 13 || i == 18 || i == 23;
}

int uuid_parse(const char *s, struct uuid *ret_uuid)
{
	struct uuid u = { { 0 } };
	size_t digits = 0;
	size_t i;

	for (i = 0; i < UUID_TEXT - 1; i++) {
		int v = hex_value(s[i]);

		if (is_dash(i) ? s[i] != '-' : v < 0)
			return err_new(-EINVAL, "not a lower-case UUID");
		if (is_dash(i))
			continue;
		u.b[digits / 2] |= (uint8_t)(digits % 2 ? v : v << 4);
		digits++;
	}
	if (s[i] || uuid_is_nil(&u))
		return err_new(-EINVAL, "not a lower-case UUID");
	*ret_uuid = u;
	return 0;
}

const char *uuid_format(const struct uuid *u, char *out)
{
	static const char hex[] = "0123456789abcdef";
	char *p = out;
	int i;

	for (i = 0; i < 16; i++) {
		if (i == 4 || i == 6 || i == 8 || i == 10)
			*p++ = '-';
		*p++ = hex[u->b[i] >> 4];
		*p++ = hex[u->b[i] & 15];
	}
	*p = '\0';
	return out;
}

void uuid_new(struct uuid *ret_uuid)
{
	size_t n = 0;

	while (n < sizeof(ret_uuid->b)) {
		ssize_t r =
			getrandom(ret_uuid->b + n, sizeof(ret_uuid->b) - n, 0);

		if (r > 0)
			n += (size_t)r;
	}
	ret_uuid->b[6] = (uint8_t)((ret_uuid->b[6] & 0x0f) | 0x40);
	ret_uuid->b[8] = (uint8_t)((ret_uuid->b[8] & 0x3f) | 0x80);
}

int uuid_cmp(const struct uuid *a, const struct uuid *b)
{
	return memcmp(a->b, b->b, sizeof(a->b));
}

bool uuid_is_nil(const struct uuid *u)
{
	static const struct uuid nil;

	return uuid_cmp(u, &nil) == 0;
}

/* Little-endian halves, so that every machine gets the same number. */
static uint64_t half(const uint8_t *b)
{
	uint64_t v = 0;
	int i;

	for (i = 7; i >= 0; i--)
		v = v << 8 | b[i];
	return v;
}

uint64_t uuid_hash(const struct uuid *u)
{
	uint64_t h = half(u->b) ^ half(u->b + 8) * 0x9e3779b97f4a7c15ull;

	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	h ^= h >> 32;
	h *= 0xd6e8feb86659fd93ull;
	return h ^ h >> 32;
}
