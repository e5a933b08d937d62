/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Who can still write a file that we have closed.
 *
 * A local file system answers by a read lease: it is refused while an open
 * file or a mapping could write. NFS has no such leases, or refuses them for
 * other reasons; there the mappings of all processes are looked through. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"

#include "file.h"

#define NFS_MAGIC 0x6969

/* A link in /proc/PID/map_files or fd that leads to st and is open for
 * writing. */
static bool link_writes(int dir, const char *name, const struct stat *st)
{
	struct stat to, self;

	return fstatat(dir, name, &to, 0) == 0 && to.st_dev == st->st_dev &&
	       to.st_ino == st->st_ino &&
	       fstatat(dir, name, &self, AT_SYMLINK_NOFOLLOW) == 0 &&
	       self.st_mode & S_IWUSR;
}

static bool process_writes(const char *pid, const char *what,
			   const struct stat *st)
{
	char path[64];
	auto_closedir DIR *d = NULL;
	struct dirent *e;

	snprintf(path, sizeof(path), "/proc/%.20s/%s", pid, what);
	d = opendir(path);
	while (d && (e = readdir(d)))
		if (e->d_name[0] != '.' && link_writes(dirfd(d), e->d_name, st))
			return true;
	return false;
}

static int search_processes(const struct stat *st, bool *ret_written)
{
	auto_closedir DIR *d = opendir("/proc");
	struct dirent *e;

	if (!d)
		return err_new(-errno, "/proc: %s", strerror(errno));
	*ret_written = false;
	while (!*ret_written && (e = readdir(d)))
		if (e->d_name[0] >= '0' && e->d_name[0] <= '9')
			*ret_written =
				process_writes(e->d_name, "map_files", st) ||
				process_writes(e->d_name, "fd", st);
	return 0;
}

int writers_probe(int fd, bool *ret_written)
{
	struct statfs fs;
	struct stat st;

	if (fstatfs(fd, &fs) < 0 || fstat(fd, &st) < 0)
		return err_new(-errno, "stat: %s", strerror(errno));
	if (fs.f_type == NFS_MAGIC)
		return search_processes(&st, ret_written);
	if (fcntl(fd, F_SETLEASE, F_RDLCK) == 0) {
		fcntl(fd, F_SETLEASE, F_UNLCK);
		*ret_written = false;
		return 0;
	}
	if (errno == EAGAIN) {
		*ret_written = true;
		return 0;
	}
	return search_processes(&st, ret_written);
}
