/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The order of fsyncs and renames of a file domain. A kill of the server loses
 * nothing that the kernel has, so only this notices an fsync that went. The
 * linker leads fsync() and renameat() here (--wrap). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "ovstorfs/storage.h"
#include "ovstorfs/str.h"

static struct strbuf seen;

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_renameat(int olddir, const char *from, int newdir, const char *to);
int __wrap_renameat(int olddir, const char *from, int newdir, const char *to);

/* What follows the UUID in the last component: ".meta.set", or "/" for the
 * directory of the image itself. */
static void note(const char *what, const char *path)
{
	const char *leaf = strrchr(path, '/');

	leaf = leaf ? leaf + 1 : path;
	strbuf_printf(&seen, "%s %s\n", what,
		      strlen(leaf) > 36	 ? leaf + 36 :
		      strlen(leaf) == 36 ? "/" :
					   leaf);
}

int __wrap_fsync(int fd)
{
	char link[64], path[4096];
	ssize_t n;

	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	note("fsync", path);
	return __real_fsync(fd);
}

int __wrap_renameat(int olddir, const char *from, int newdir, const char *to)
{
	note("rename", to);
	return __real_renameat(olddir, from, newdir, to);
}

static void expect(const char *order)
{
	assert_string_equal(seen.text ? seen.text : "", order);
	strbuf_fini(&seen);
}

struct place {
	char dir[64];
	struct storage *s;
	struct ref image, volume;
};

static int set_up(void **state)
{
	struct place *p = calloc(1, sizeof(*p));

	strcpy(p->dir, "/tmp/ovstorfs-order-XXXXXX");
	assert_non_null(mkdtemp(p->dir));
	assert_int_equal(storage_format(p->dir, false), 0);
	assert_int_equal(storage_open(p->dir, false, &p->s), 0);
	uuid_new(&p->image.image);
	p->image.dir = RECORD_NEW;
	p->volume.image = p->image.image;
	uuid_new(&p->volume.volume);
	strbuf_fini(&seen);
	*state = p;
	return 0;
}

static int tear_down(void **state)
{
	struct place *p = *state;
	char command[128];

	storage_close(p->s);
	snprintf(command, sizeof(command), "rm -rf %s", p->dir);
	assert_int_equal(system(command), 0);
	strbuf_fini(&seen);
	free(p);
	return 0;
}

static void test_steps_are_durable_in_order(void **state)
{
	struct place *p = *state;
	struct storage *s = p->s;

	/* A new image: its name, its record, its directory; then the commit. */
	assert_int_equal(storage_record_write(s, &p->image, RECORD_NEW, "x", 1),
			 0);
	expect("fsync images\nfsync image\nfsync .new\n");
	assert_int_equal(
		storage_record_move(s, &p->image, RECORD_NEW, RECORD_LIVE), 0);
	expect("rename /\nfsync images\n");

	/* A marker is durable, then its name; then it may answer for more. */
	assert_int_equal(
		storage_record_write(s, &p->volume, RECORD_NEW, "x", 1), 0);
	expect("fsync .meta.new\nfsync /\n");
	assert_int_equal(storage_data_create(s, &p->volume), 0);
	assert_int_equal(storage_sync_image(s, &p->volume), 0);
	expect("fsync /\n");
	assert_int_equal(
		storage_record_move(s, &p->volume, RECORD_NEW, RECORD_LIVE), 0);
	expect("rename .meta\nfsync /\n");

	/* A size is durable when the call returns, and so is a deletion. */
	assert_int_equal(storage_data_resize(s, &p->volume, 4096), 0);
	expect("fsync /\n"); /* the volume's own file has its bare UUID */
	assert_int_equal(storage_data_drop(s, &p->volume), 0);
	expect("fsync /\n");
	assert_int_equal(storage_record_drop(s, &p->volume, RECORD_LIVE), 0);
	expect("fsync /\n");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_steps_are_durable_in_order,
						set_up, tear_down),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
