/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the unit tests share. */
#ifndef UNIT_H
#define UNIT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/spawn.h"
#include "ovstorfs/str.h"
#include "ovstorfs/uuid.h"

/* A directory of the test's own, in *state. */
static inline int make_dir(void **state)
{
	const char *base = getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp";
	char *path = xprintf("%s/ovstorfs-unit.XXXXXX", base);

	*state = mkdtemp(path);
	return *state ? 0 : -1;
}

static inline int remove_dir(void **state)
{
	const char *const argv[] = { "rm", "-rf", *state, NULL };
	struct spawn s = { .argv = argv };
	int r = spawn_run(&s, NULL);

	free(*state);
	return r;
}

static inline struct uuid uuid_of(const char *text)
{
	struct uuid u = { { 0 } };

	assert_int_equal(uuid_parse(text, &u), 0);
	return u;
}

#endif
