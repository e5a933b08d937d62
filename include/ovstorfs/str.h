/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Text: building it, and reading numbers and sizes from it. */
#ifndef OVSTORFS_STR_H
#define OVSTORFS_STR_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

/* Text that grows. Starts as { 0 }; text is NUL-terminated once anything was
 * added. No memory: the process ends, here as everywhere. */
struct strbuf {
	char *text;
	size_t len;
	size_t room;
};

void strbuf_add(struct strbuf *b, const void *data, size_t len);
void strbuf_puts(struct strbuf *b, const char *s);
void strbuf_printf(struct strbuf *b, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
void strbuf_vprintf(struct strbuf *b, const char *fmt, va_list ap);
void strbuf_fini(struct strbuf *b);
#define auto_strbuf __attribute__((cleanup(strbuf_fini)))

/* Allocate, or end the process. */
void *xcalloc(size_t n, size_t size);
char *xstrdup(const char *s);
char *xstrndup(const char *s, size_t len);
char *xprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

static inline bool streq(const char *a, const char *b)
{
	return strcmp(a, b) == 0;
}

bool str_starts(const char *s, const char *prefix);

/* Decimal digits and nothing else. Errors: -EINVAL; -ERANGE over 64 bits. */
int parse_u64(const char *s, uint64_t *ret_value);

/* A size for people: digits and K M G T P (1024 each), or plain bytes.
 * Errors: -EINVAL; -ERANGE over 2^63-1. */
int parse_size(const char *s, uint64_t *ret_bytes);

/* "1.5G", "512", ... into out, at least 16 bytes; returns out. */
const char *format_size(uint64_t bytes, char *out);

/* RFC 3339 in UTC, "2026-01-31T12:00:00Z" (24 bytes are enough). */
const char *format_time(time_t t, char *out);
int parse_time(const char *s, time_t *ret_time);

/* True for valid UTF-8 without control characters (no newline, no NUL). */
bool text_is_plain(const char *s, size_t len);

#endif
