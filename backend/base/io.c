/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls on files: whole transfers, and paths that stay inside. */
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/str.h"

int open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	struct open_how how = {
		.flags = (uint64_t)flags | O_CLOEXEC,
		.mode = flags & O_CREAT ? mode : 0,
		.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS,
	};
	int tries = 0;
	long r;

	/* EAGAIN: a rename elsewhere raced with the walk. */
	do {
		r = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
	} while (r < 0 && (errno == EINTR || errno == EAGAIN) && tries++ < 64);
	if (r < 0)
		return err_new(-errno, "open %s: %s", path, strerror(errno));
	return (int)r;
}

int open_file_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
	auto_close int fd = -1;
	struct stat st;

	/* Non-blocking, so that a FIFO does not hold us up; then look. */
	fd = open_beneath(dirfd, path, flags | O_NONBLOCK | O_NOCTTY, mode);
	if (fd == -ELOOP || fd == -ENXIO || fd == -ENODEV || fd == -EISDIR)
		return err_new(-EUCLEAN, "%s is not a regular file", path);
	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_new(-errno, "stat %s: %s", path, strerror(errno));
	if (!S_ISREG(st.st_mode))
		return err_new(-EUCLEAN, "%s is not a regular file", path);
	if (fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) < 0)
		return err_new(-errno, "open %s: %s", path, strerror(errno));
	return steal_fd(&fd);
}

int open_dir_beneath(int dirfd, const char *path)
{
	int fd = open_beneath(dirfd, path, O_RDONLY | O_DIRECTORY, 0);

	if (fd == -ELOOP || fd == -ENOTDIR)
		return err_new(-EUCLEAN, "%s is not a directory", path);
	return fd;
}

int pread_full(int fd, void *buf, size_t len, uint64_t offset)
{
	char *p = buf;

	while (len) {
		ssize_t n = pread(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_new(-errno, "read: %s", strerror(errno));
		if (n == 0)
			return err_new(-EIO, "read: the file ends early");
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int pwrite_full(int fd, const void *buf, size_t len, uint64_t offset)
{
	const char *p = buf;

	while (len) {
		ssize_t n = pwrite(fd, p, len, (off_t)offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_new(-errno, "write: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
		offset += (uint64_t)n;
	}
	return 0;
}

int write_full(int fd, const void *buf, size_t len)
{
	const char *p = buf;

	while (len) {
		ssize_t n = write(fd, p, len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_new(-errno, "write: %s", strerror(errno));
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

int read_file_at(int dirfd, const char *path, size_t max, char **ret_text,
		 size_t *ret_len)
{
	auto_close int fd = open_file_beneath(dirfd, path, O_RDONLY, 0);
	auto_free char *text = NULL;
	struct stat st;
	int r;

	if (fd < 0)
		return fd;
	if (fstat(fd, &st) < 0)
		return err_new(-errno, "stat %s: %s", path, strerror(errno));
	if ((uint64_t)st.st_size > max)
		return err_new(-EFBIG, "%s: %lld bytes are too many", path,
			       (long long)st.st_size);
	text = xcalloc(1, (size_t)st.st_size + 1);
	r = pread_full(fd, text, (size_t)st.st_size, 0);
	if (r < 0)
		return err_add(r, "%s", path);
	*ret_text = steal(text);
	*ret_len = (size_t)st.st_size;
	return 0;
}

int fsync_fd(int fd, const char *what)
{
	if (fsync(fd) < 0)
		return err_new(-errno, "fsync %s: %s", what, strerror(errno));
	return 0;
}

int fsync_dir_beneath(int dirfd, const char *path)
{
	auto_close int fd = open_dir_beneath(dirfd, path);

	if (fd < 0)
		return fd;
	return fsync_fd(fd, path);
}

uint64_t now_us(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t now_ms(void)
{
	return now_us() / 1000;
}

void *alloc_aligned(size_t size)
{
	void *p = NULL;

	if (posix_memalign(&p, 4096, size))
		abort();
	memset(p, 0, size);
	return p;
}
