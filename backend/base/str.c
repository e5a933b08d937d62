/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text: building it, and reading numbers, sizes and times from it. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/str.h"

static void no_memory(void)
{
	fputs("ovstorfs: out of memory\n", stderr);
	abort();
}

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n, size);

	if (!p)
		no_memory();
	return p;
}

char *xstrdup(const char *s)
{
	return xstrndup(s, strlen(s));
}

char *xstrndup(const char *s, size_t len)
{
	char *p = xcalloc(1, len + 1);

	memcpy(p, s, len);
	return p;
}

char *xprintf(const char *fmt, ...)
{
	struct strbuf b = { 0 };
	va_list ap;

	va_start(ap, fmt);
	strbuf_vprintf(&b, fmt, ap);
	va_end(ap);
	return b.text;
}

static void make_room(struct strbuf *b, size_t more)
{
	size_t room = b->room ? b->room : 64;

	while (room < b->len + more + 1)
		room *= 2;
	if (room == b->room)
		return;
	b->text = realloc(b->text, room);
	if (!b->text)
		no_memory();
	b->room = room;
}

void strbuf_add(struct strbuf *b, const void *data, size_t len)
{
	make_room(b, len);
	if (len)
		memcpy(b->text + b->len, data, len);
	b->len += len;
	b->text[b->len] = '\0';
}

void strbuf_puts(struct strbuf *b, const char *s)
{
	strbuf_add(b, s, strlen(s));
}

void strbuf_vprintf(struct strbuf *b, const char *fmt, va_list ap)
{
	va_list again;
	int n;

	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, again);
	va_end(again);
	if (n < 0)
		no_memory();
	make_room(b, (size_t)n);
	vsnprintf(b->text + b->len, (size_t)n + 1, fmt, ap);
	b->len += (size_t)n;
}

void strbuf_printf(struct strbuf *b, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	strbuf_vprintf(b, fmt, ap);
	va_end(ap);
}

void strbuf_fini(struct strbuf *b)
{
	free(b->text);
	memset(b, 0, sizeof(*b));
}

bool str_starts(const char *s, const char *prefix)
{
	return strncmp(s, prefix, strlen(prefix)) == 0;
}

int parse_u64(const char *s, uint64_t *ret_value)
{
	uint64_t v = 0;

	if (!*s)
		return err_new(-EINVAL, "a number is missing");
	for (; *s; s++) {
		if (*s < '0' || *s > '9')
			return err_new(-EINVAL, "not a decimal number");
		if (__builtin_mul_overflow(v, 10, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*s - '0'), &v))
			return err_new(-ERANGE, "the number is too large");
	}
	*ret_value = v;
	return 0;
}

int parse_size(const char *s, uint64_t *ret_bytes)
{
	static const char units[] = "KMGTP";
	auto_free char *digits = xstrdup(s);
	size_t n = strlen(digits);
	unsigned int shift = 0;
	const char *unit;
	uint64_t v;
	int r;

	unit = n ? strchr(units, toupper(digits[n - 1])) : NULL;
	if (unit && *unit) {
		shift = 10 * (unsigned int)(unit - units + 1);
		digits[n - 1] = '\0';
	}
	r = parse_u64(digits, &v);
	if (r < 0)
		return r;
	if (v > (uint64_t)INT64_MAX >> shift)
		return err_new(-ERANGE, "the size %s is over 2^63 - 1", s);
	*ret_bytes = v << shift;
	return 0;
}

const char *format_size(uint64_t bytes, char *out)
{
	static const char units[] = "BKMGTPE";
	double v = (double)bytes;
	int u = 0;

	while (v >= 1024 && u < 6) {
		v /= 1024;
		u++;
	}
	if (u == 0)
		snprintf(out, 16, "%u", (unsigned int)bytes);
	else
		snprintf(out, 16, v < 10 ? "%.1f%c" : "%.0f%c", v, units[u]);
	return out;
}

const char *format_time(time_t t, char *out)
{
	struct tm tm;

	if (!gmtime_r(&t, &tm) || !strftime(out, 24, "%Y-%m-%dT%H:%M:%SZ", &tm))
		strcpy(out, "1970-01-01T00:00:00Z");
	return out;
}

int parse_time(const char *s, time_t *ret_time)
{
	struct tm tm = { 0 };
	const char *end = strptime(s, "%Y-%m-%dT%H:%M:%SZ", &tm);

	if (!end || *end)
		return err_new(-EINVAL, "not a time of RFC 3339 in UTC");
	*ret_time = timegm(&tm);
	return 0;
}

/* How many bytes follow the first one, or -1 where it starts nothing. */
static int utf8_follow(unsigned char c)
{
	if (c < 0x80)
		return 0;
	if (c >= 0xc2 && c <= 0xdf)
		return 1;
	if ((c & 0xf0) == 0xe0)
		return 2;
	if (c >= 0xf0 && c <= 0xf4)
		return 3;
	return -1;
}

/* Overlong forms, surrogates, and what lies over U+10FFFF. */
static bool utf8_second_ok(unsigned char first, unsigned char second)
{
	switch (first) {
	case 0xe0:
		return second >= 0xa0;
	case 0xed:
		return second <= 0x9f;
	case 0xf0:
		return second >= 0x90;
	case 0xf4:
		return second <= 0x8f;
	default:
		return true;
	}
}

bool text_is_plain(const char *s, size_t len)
{
	const unsigned char *p = (const unsigned char *)s;
	size_t i = 0;

	while (i < len) {
		int follow = utf8_follow(p[i]);
		int k;

		if (follow < 0 || p[i] < 0x20 || p[i] == 0x7f ||
		    i + (size_t)follow >= len)
			return false;
		for (k = 1; k <= follow; k++)
			if ((p[i + k] & 0xc0) != 0x80)
				return false;
		if (follow && !utf8_second_ok(p[i], p[i + 1]))
			return false;
		i += (size_t)follow + 1;
	}
	return true;
}
