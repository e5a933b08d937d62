/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What a volume costs without us: makes and deletes volumes in a directory
 * with the file operations and syncs that a mount needs for it, in the same
 * order and by one thread, or (`mount`) on a mount, as any program would.
 *
 *	bare files DOMAIN IMAGE COUNT
 *	bare mount VOLUMES COUNT
 *
 * Prints microseconds per volume: create, delete, collect. Listings, checks
 * and what is read again are not among the operations: they are ours to save.
 * The numbers of syncs are those of volume_create.c, volume_remove.c and
 * gc.c; change them together. */
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 4096
#define LEASE_BYTES (1024 * 1024)
#define RECORD_BYTES 301

static int ring = -1, dir = -1;
static char *block;

struct times {
	double create, delete, collect;
};

static double now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void must(bool good, const char *what)
{
	if (!good)
		err(1, "%s", what);
}

static void *aligned(size_t size)
{
	void *p = NULL;

	if (posix_memalign(&p, BLOCK, size))
		errx(1, "no memory");
	memset(p, 0, size);
	return p;
}

/* A time-based UUID's worth of a name: unique is enough. */
static void new_name(char name[40])
{
	static unsigned int count;

	snprintf(name, 40, "%08x-0000-4000-8000-%012llx", ++count,
		 (unsigned long long)now_us() & 0xffffffffffffull);
}

/* ---- bare ---- */

static void sync_dir(void)
{
	must(fsync(dir) == 0, "fsync directory");
}

static void ring_write(off_t offset)
{
	must(pwrite(ring, block, BLOCK, offset) == BLOCK, "write ring");
}

static void path_of(const char *name, const char *suffix, char path[80])
{
	snprintf(path, 80, "%s%s", name, suffix);
}

static void marker_write(const char *name, const char *suffix)
{
	static const char text[RECORD_BYTES];
	char path[80];
	int fd;

	path_of(name, suffix, path);
	fd = openat(dir, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
	must(fd >= 0, path);
	must(write(fd, text, sizeof(text)) == sizeof(text), path);
	must(fsync(fd) == 0, path);
	close(fd);
	sync_dir();
}

static void move(const char *name, const char *from, const char *to)
{
	char a[80], b[80];

	path_of(name, from, a);
	path_of(name, to, b);
	must(renameat(dir, a, dir, b) == 0, a);
	sync_dir();
}

static void drop(const char *name, const char *suffix)
{
	char path[80];

	path_of(name, suffix, path);
	must(unlinkat(dir, path, 0) == 0, path);
	sync_dir();
}

/* As libsanlock does it: the whole area in one write. */
static void lease_write(const char *name)
{
	static char *area;
	char path[80];
	int fd;

	if (!area) {
		area = aligned(LEASE_BYTES);
		memset(area, 1, 2 * BLOCK);
	}
	path_of(name, ".lease", path);
	fd = openat(dir, path, O_RDWR | O_CREAT, 0660);
	must(fd >= 0 && ftruncate(fd, LEASE_BYTES) == 0, path);
	must(fsync(fd) == 0, path);
	close(fd);
	fd = openat(dir, path, O_RDWR | O_DIRECT | O_SYNC);
	must(fd >= 0, path);
	must(write(fd, area, LEASE_BYTES) == LEASE_BYTES, path);
	close(fd);
}

/* Closing a volume that was open for writing makes it durable. */
static void data_create(const char *name)
{
	int fd = openat(dir, name, O_RDWR | O_CREAT | O_EXCL, 0600);

	must(fd >= 0, name);
	close(fd);
}

static void data_close(const char *name)
{
	int fd = openat(dir, name, O_RDWR);

	must(fd >= 0 && fsync(fd) == 0, name);
	close(fd);
}

static void ring_done(void)
{
	ring_write(2 * BLOCK); /* entries */
	ring_write(BLOCK);     /* done */
}

static void create_bare(const char *name)
{
	ring_write(0); /* intent */
	marker_write(name, ".meta.new");
	lease_write(name);
	data_create(name);
	sync_dir();
	move(name, ".meta.new", ".meta");
	ring_done();
	data_close(name);
}

static void delete_bare(const char *name)
{
	ring_write(0);
	marker_write(name, ".meta.removing");
	move(name, ".meta.removing", ".meta.removed");
	ring_done();
}

static void collect_bare(const char *name)
{
	move(name, ".meta.removed", ".meta.dying");
	drop(name, ".meta");
	drop(name, "");
	drop(name, ".lease");
	drop(name, ".meta.dying");
}

static void run_bare(struct times *t)
{
	double at[4];
	char name[40];

	new_name(name);
	at[0] = now_us();
	create_bare(name);
	at[1] = now_us();
	delete_bare(name);
	at[2] = now_us();
	collect_bare(name);
	at[3] = now_us();
	t->create += at[1] - at[0];
	t->delete += at[2] - at[1];
	t->collect += at[3] - at[2];
}

static void open_bare(char **argv)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/ovstorfs/changes", argv[0]);
	ring = open(path, O_RDWR | O_DIRECT | O_DSYNC);
	if (ring < 0) /* a file system without direct I/O */
		ring = open(path, O_RDWR | O_DSYNC);
	must(ring >= 0, path);
	dir = open(argv[1], O_RDONLY | O_DIRECTORY);
	must(dir >= 0, argv[1]);
	block = aligned(BLOCK);
}

/* ---- on a mount ---- */

static void run_mounted(struct times *t)
{
	char name[40];
	double at[3];
	int fd;

	new_name(name);
	at[0] = now_us();
	fd = openat(dir, name, O_WRONLY | O_CREAT | O_EXCL, 0660);
	must(fd >= 0, name);
	must(close(fd) == 0, name);
	at[1] = now_us();
	must(unlinkat(dir, name, 0) == 0, name);
	at[2] = now_us();
	t->create += at[1] - at[0];
	t->delete += at[2] - at[1];
}

int main(int argc, char **argv)
{
	bool bare = argc == 5 && strcmp(argv[1], "files") == 0;
	struct times t = { 0 };
	int i, count;

	if (!bare && (argc != 4 || strcmp(argv[1], "mount") != 0))
		errx(2, "usage: bare files DOMAIN IMAGE COUNT | "
			"bare mount VOLUMES COUNT");
	count = atoi(argv[argc - 1]);
	if (bare)
		open_bare(argv + 2);
	else
		dir = open(argv[2], O_RDONLY | O_DIRECTORY);
	must(dir >= 0, "directory");
	for (i = 0; i < count; i++)
		bare ? run_bare(&t) : run_mounted(&t);
	printf("%f %f %f\n", t.create / count, t.delete / count,
	       t.collect / count);
	return 0;
}
