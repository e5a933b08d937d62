/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Errors: a line of text per thread beside the -Exxx that functions return. */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ovstorfs/err.h"

#define ERR_TEXT 512

static __thread int line_code;
static __thread char line[ERR_TEXT];

int err_new(int code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	line_code = code;
	return code;
}

int err_add(int code, const char *fmt, ...)
{
	char where[ERR_TEXT / 2], rest[ERR_TEXT / 2 - 2];
	va_list ap;

	snprintf(rest, sizeof(rest), "%.*s", ERR_TEXT / 2 - 3, err_text(code));
	va_start(ap, fmt);
	vsnprintf(where, sizeof(where), fmt, ap);
	va_end(ap);
	snprintf(line, sizeof(line), "%s: %s", where, rest);
	line_code = code;
	return code;
}

const char *err_text(int code)
{
	if (line_code != code || !line[0]) {
		snprintf(line, sizeof(line), "%s", strerror(-code));
		line_code = code;
	}
	return line;
}

void err_clear(void)
{
	line_code = 0;
	line[0] = '\0';
}

const char *err_name(int code)
{
	const char *name = code < 0 ? strerrorname_np(-code) : NULL;

	return name ? name : "EUNKNOWN";
}

int err_by_name(const char *name)
{
	int e;

	for (e = 1; e < 134; e++)
		if (strerrorname_np(e) && !strcmp(strerrorname_np(e), name))
			return -e;
	return 0;
}
