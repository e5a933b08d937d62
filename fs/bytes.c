/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests on open files, answered on the FUSE threads. With passthrough the
 * kernel reads and writes by itself and only the rest comes here. */
#include "ovstorfs/ops.h"

#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/events.h"

static struct server *server_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

/* Counted; NULL where the file is no volume. */
static struct openfile *volume_of(struct fuse_file_info *fi)
{
	struct openfile *f = fi ? openfile_get(fi->fh) : NULL;

	if (f && f->kind == OPEN_VOLUME)
		return f;
	openfile_put(f);
	return NULL;
}

static void read_text(fuse_req_t req, const struct openfile *f, size_t size,
		      off_t off)
{
	size_t at = (size_t)off < f->text.len ? (size_t)off : f->text.len;
	size_t n = f->text.len - at < size ? f->text.len - at : size;

	fuse_reply_buf(req, n ? f->text.text + at : NULL, n);
}

static void read_volume(fuse_req_t req, const struct openfile *f, size_t size,
			off_t off)
{
	struct fuse_bufvec b = FUSE_BUFVEC_INIT(size);

	b.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	b.buf[0].fd = f->volume->fd;
	b.buf[0].pos = off;
	server_of(req)->counters.bytes_read += size;
	fuse_reply_data(req, &b, FUSE_BUF_SPLICE_MOVE);
}

void op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
	     struct fuse_file_info *fi)
{
	auto_openfile struct openfile *f = openfile_get(fi->fh);

	(void)ino;
	switch (f->kind) {
	case OPEN_VOLUME:
		read_volume(req, f, size, off);
		break;
	case OPEN_EVENTS:
		events_read(server_of(req), req, f, size,
			    !(fi->flags & O_NONBLOCK));
		break;
	case OPEN_TEXT:
		read_text(req, f, size, off);
		break;
	}
}

static void write_control(fuse_req_t req, struct fuse_bufvec *in)
{
	size_t size = fuse_buf_size(in);
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(size);
	char data[64];
	ssize_t n;

	if (size > sizeof(data)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	out.buf[0].mem = data;
	n = fuse_buf_copy(&out, in, 0);
	if (n < 0)
		fuse_reply_err(req, (int)-n);
	else
		op_collect(req, data, (size_t)n);
}

void op_write_buf(fuse_req_t req, fuse_ino_t ino, struct fuse_bufvec *in,
		  off_t off, struct fuse_file_info *fi)
{
	struct fuse_bufvec out = FUSE_BUFVEC_INIT(fuse_buf_size(in));
	auto_openfile struct openfile *f = volume_of(fi);
	struct server *s = server_of(req);
	ssize_t n;
	int r;

	(void)ino;
	if (!f) {
		write_control(req, in);
		return;
	}
	r = volume_may_write(s->domain, f->volume);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	out.buf[0].flags = FUSE_BUF_IS_FD | FUSE_BUF_FD_SEEK;
	out.buf[0].fd = f->volume->fd;
	out.buf[0].pos = off;
	n = fuse_buf_copy(&out, in, FUSE_BUF_SPLICE_NONBLOCK);
	if (n < 0) {
		fuse_reply_err(req, (int)-n);
		return;
	}
	s->counters.bytes_written += (unsigned long)n;
	fuse_reply_write(req, (size_t)n);
}

void op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	auto_openfile struct openfile *f = volume_of(fi);

	(void)ino;
	if (f)
		volume_flushed(server_of(req)->domain, f->volume);
	fuse_reply_err(req, 0);
}

void op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync,
	      struct fuse_file_info *fi)
{
	auto_openfile struct openfile *f = volume_of(fi);
	int r = 0;

	(void)ino;
	if (f)
		r = datasync ? fdatasync(f->volume->fd) : fsync(f->volume->fd);
	fuse_reply_err(req, r < 0 ? errno : 0);
}

void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t offset,
		  off_t length, struct fuse_file_info *fi)
{
	const int known = FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE |
			  FALLOC_FL_ZERO_RANGE;
	auto_openfile struct openfile *f = volume_of(fi);
	int r;

	(void)ino;
	if (!f || mode & ~known) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	r = volume_may_write(server_of(req)->domain, f->volume);
	if (r == 0 && fallocate(f->volume->fd, mode, offset, length) < 0)
		r = -errno;
	fuse_reply_err(req, -r);
}

void op_lseek(fuse_req_t req, fuse_ino_t ino, off_t off, int whence,
	      struct fuse_file_info *fi)
{
	auto_openfile struct openfile *f = volume_of(fi);
	off_t at;

	(void)ino;
	if (!f || (whence != SEEK_DATA && whence != SEEK_HOLE)) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	/* Its own position is nobody's: all else names an offset. */
	at = lseek(f->volume->fd, off, whence);
	if (at < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_lseek(req, at);
}

void op_copy_file_range(fuse_req_t req, fuse_ino_t ino_in, off_t off_in,
			struct fuse_file_info *fi_in, fuse_ino_t ino_out,
			off_t off_out, struct fuse_file_info *fi_out,
			size_t len, int flags)
{
	auto_openfile struct openfile *in = volume_of(fi_in);
	auto_openfile struct openfile *out = volume_of(fi_out);
	ssize_t n;
	int r;

	(void)ino_in, (void)ino_out;
	if (!in || !out) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	r = volume_may_write(server_of(req)->domain, out->volume);
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	n = copy_file_range(in->volume->fd, &off_in, out->volume->fd, &off_out,
			    len, (unsigned int)flags);
	if (n < 0)
		fuse_reply_err(req, errno);
	else
		fuse_reply_write(req, (size_t)n);
}
