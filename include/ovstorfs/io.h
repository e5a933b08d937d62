/* SPDX-License-Identifier: GPL-2.0-or-later */
/* System calls on files: whole reads and writes, and paths that cannot leave
 * their directory.
 *
 * The *_beneath functions resolve path below dirfd and refuse symbolic links
 * and ".." (openat2 with RESOLVE_BENEATH|RESOLVE_NO_SYMLINKS). Those that
 * open a file for its bytes refuse anything but a regular file (-EUCLEAN), so
 * that a FIFO planted on the storage cannot hang us. All return -Exxx with
 * err_new() done. */
#ifndef OVSTORFS_IO_H
#define OVSTORFS_IO_H

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

int open_beneath(int dirfd, const char *path, int flags, mode_t mode);
int open_file_beneath(int dirfd, const char *path, int flags, mode_t mode);
int open_dir_beneath(int dirfd, const char *path);

/* Exactly len bytes. Errors: -EIO also when the file ends before. */
int pread_full(int fd, void *buf, size_t len, uint64_t offset);
int pwrite_full(int fd, const void *buf, size_t len, uint64_t offset);
int write_full(int fd, const void *buf, size_t len);

/* A whole file of at most max bytes, with a NUL after it.
 * Errors: -EFBIG longer than max. Owner: caller frees *ret_text. */
int read_file_at(int dirfd, const char *path, size_t max, char **ret_text,
		 size_t *ret_len);

int fsync_fd(int fd, const char *what);

/* Make the names in a directory durable. */
int fsync_dir_beneath(int dirfd, const char *path);

/* Milliseconds that only go forward. */
uint64_t now_ms(void);
uint64_t now_us(void);

/* Memory for direct I/O: zeroed, aligned to 4096. Caller frees. */
void *alloc_aligned(size_t size);

uint32_t crc32c(uint32_t crc, const void *data, size_t len);

#endif
