/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The kernel's requests: find the node, call, answer. What only looks is
 * answered here, from memory; the rest is in verbs.c and bytes.c. */
#include "ovstorfs/ops.h"

#include <stdlib.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/events.h"
#include "ovstorfs/log.h"

#define BATCH 64 /* entries of a listing at a time */

/* How long the kernel may believe us, in seconds: a name, see notify.c; and
 * attributes, where all changes pass by this mount and the kernel is told of
 * those that happen behind its back, or where other hosts make some. */
#define ENTRY_TIMEOUT 1.0
#define ATTR_TIMEOUT_ALONE 86400.0
#define ATTR_TIMEOUT_SHARED 1.0

static struct server *server_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

double attr_timeout_of(const struct server *s, const struct node *n)
{
	/* A mapping changes an open file without a word to anyone, and the
	 * state files have other contents each time. */
	if (n->kind == NODE_VOLUME && n->volume.open)
		return 0;
	if (n->kind == NODE_FIXED && n->ops->type == S_IFREG)
		return 0;
	return s->attr_timeout;
}

void entry_fill(struct server *s, const struct node *n,
		struct fuse_entry_param *e)
{
	memset(e, 0, sizeof(*e));
	e->ino = n->ino;
	e->generation = node_generation(n);
	e->entry_timeout = ENTRY_TIMEOUT;
	e->attr_timeout = attr_timeout_of(s, n);
	node_stat(s, n, &e->attr);
}

/* ---- what we want of the kernel ---- */

static void want(struct fuse_conn_info *conn, uint64_t flag)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	fuse_set_feature_flag(conn, flag);
#else
	if (conn->capable & flag)
		conn->want |= (unsigned int)flag;
#endif
}

static void unwant(struct fuse_conn_info *conn, uint64_t flag)
{
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	fuse_unset_feature_flag(conn, flag);
#else
	conn->want &= ~(unsigned int)flag;
#endif
}

static void want_passthrough(struct server *s, struct fuse_conn_info *conn)
{
#ifdef HAVE_PASSTHROUGH
	s->passthrough = s->options->passthrough &&
			 fuse_set_feature_flag(conn, FUSE_CAP_PASSTHROUGH);
	/* The backing file may not itself lie on a stacked file system. */
	if (s->passthrough)
		conn->max_backing_stack_depth = 1;
#else
	(void)s, (void)conn;
#endif
}

static void op_init(void *data, struct fuse_conn_info *conn)
{
	struct server *s = data;

	s->attr_timeout = s->options->locks == LEASE_LOCKS_LOCAL ?
				  ATTR_TIMEOUT_ALONE :
				  ATTR_TIMEOUT_SHARED;
	/* Without it each write costs a question for a capability. */
	want(conn, FUSE_CAP_HANDLE_KILLPRIV_V2);
	want(conn, FUSE_CAP_READDIRPLUS);
	want(conn, FUSE_CAP_READDIRPLUS_AUTO);
	want(conn, FUSE_CAP_PARALLEL_DIROPS);
	want(conn, FUSE_CAP_ASYNC_DIO);
	want(conn, FUSE_CAP_SPLICE_WRITE);
	want(conn, FUSE_CAP_SPLICE_MOVE);
	/* Sizes must be true, and locks stay in the kernel. */
	unwant(conn, FUSE_CAP_WRITEBACK_CACHE);
	unwant(conn, FUSE_CAP_POSIX_LOCKS);
	unwant(conn, FUSE_CAP_FLOCK_LOCKS);
	unwant(conn, FUSE_CAP_ATOMIC_O_TRUNC);
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
	want(conn, FUSE_CAP_DIRECT_IO_ALLOW_MMAP);
#endif
	want_passthrough(s, conn);
	/* A pipe for each request pays for large writes, and only then. */
	if (s->passthrough)
		unwant(conn, FUSE_CAP_SPLICE_READ);
	else
		want(conn, FUSE_CAP_SPLICE_READ);
}

/* ---- looking ---- */

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	struct server *s = server_of(req);
	struct fuse_entry_param e;
	struct node dir, n;
	int r = node_find(s, parent, &dir);

	if (r == 0)
		r = dir.ops->lookup ? dir.ops->lookup(s, &dir, name, &n) :
				      -ENOTDIR;
	if (r < 0) {
		fuse_reply_err(req, -r);
		return;
	}
	entry_fill(s, &n, &e);
	fuse_reply_entry(req, &e);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino,
		       struct fuse_file_info *fi)
{
	struct server *s = server_of(req);
	struct stat st;
	struct node n;

	(void)fi;
	if (node_find(s, ino, &n) < 0) {
		fuse_reply_err(req, ENOENT);
		return;
	}
	node_stat(s, &n, &st);
	fuse_reply_attr(req, &st, attr_timeout_of(s, &n));
}

static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	struct server *s = server_of(req);
	struct domain_info i;
	struct statvfs v = { .f_bsize = 4096,
			     .f_frsize = 4096,
			     .f_namemax = UUID_TEXT - 1 };

	(void)ino;
	domain_info(s->domain, &i);
	v.f_blocks = i.total / 4096;
	v.f_bfree = v.f_bavail = i.free / 4096;
	v.f_files = i.images + i.volumes;
	v.f_ffree = v.f_favail = UINT32_MAX;
	fuse_reply_statfs(req, &v);
}

/* A listing that is being filled. */
struct listing {
	fuse_req_t req;
	bool plus;
	bool dots; /* "." and "..": of these the kernel makes no nodes */
	char *buf;
	size_t room, used;
};

/* Add a line; false when it does not fit any more. */
static bool listing_add(struct listing *l, const struct node *n,
			const char *name, off_t next)
{
	struct server *s = server_of(l->req);
	struct fuse_entry_param e;
	struct stat st = { 0 };
	size_t need;

	if (l->plus) {
		entry_fill(s, n, &e);
		if (l->dots)
			e.ino = 0;
		need = fuse_add_direntry_plus(l->req, l->buf + l->used,
					      l->room - l->used, name, &e,
					      next);
	} else {
		st.st_ino = n->ino;
		st.st_mode = n->ops->type;
		need = fuse_add_direntry(l->req, l->buf + l->used,
					 l->room - l->used, name, &st, next);
	}
	if (need > l->room - l->used)
		return false;
	l->used += need;
	return true;
}

/* Cookies of ours follow those of the dots, moved up by two. */
static bool list_dots(struct listing *l, const struct node *dir, off_t *off)
{
	l->dots = true;
	if (*off == 0 && !listing_add(l, dir, ".", 1))
		return false;
	if (*off <= 1 && !listing_add(l, dir, "..", 2))
		return false;
	l->dots = false;
	if (*off < 2)
		*off = 2;
	return true;
}

static void list_rest(struct listing *l, const struct node *dir, off_t off)
{
	auto_free struct node_item *items = xcalloc(BATCH, sizeof(*items));
	uint64_t after = (uint64_t)off - 2;
	size_t i, n;

	do {
		n = dir->ops->list(server_of(l->req), dir, after, items, BATCH);
		for (i = 0; i < n; i++) {
			after = items[i].cookie;
			if (!listing_add(l, &items[i].node, items[i].name,
					 (off_t)after + 2))
				return;
		}
	} while (n == BATCH);
}

static void list_dir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		     bool plus)
{
	auto_free char *buf = xcalloc(1, size);
	struct listing l = {
		.req = req, .plus = plus, .buf = buf, .room = size
	};
	struct node dir;

	if (node_find(server_of(req), ino, &dir) < 0) {
		/* Removed while it was open: it lists nothing. */
		fuse_reply_buf(req, NULL, 0);
		return;
	}
	if (!dir.ops->list) {
		fuse_reply_err(req, ENOTDIR);
		return;
	}
	if (list_dots(&l, &dir, &off))
		list_rest(&l, &dir, off);
	fuse_reply_buf(req, buf, l.used);
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off,
		       struct fuse_file_info *fi)
{
	(void)fi;
	list_dir(req, ino, size, off, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t ino, size_t size,
			   off_t off, struct fuse_file_info *fi)
{
	(void)fi;
	list_dir(req, ino, size, off, true);
}

/* ---- attributes ---- */

static void reply_text(fuse_req_t req, const struct strbuf *b, size_t size)
{
	if (size == 0)
		fuse_reply_xattr(req, b->len);
	else if (b->len > size)
		fuse_reply_err(req, ERANGE);
	else
		fuse_reply_buf(req, b->text, b->len);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
			size_t size)
{
	struct server *s = server_of(req);
	auto_strbuf struct strbuf b = { 0 };
	const struct ref *ref = NULL;
	struct ref buf;
	struct node n;
	int r;

	if (!str_starts(name, OVSTORFS_XATTR)) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	r = node_find(s, ino, &n);
	if (r == 0)
		r = node_object(&n, &buf, &ref);
	if (r == 0)
		r = attr_get(s->domain, ref, name + strlen(OVSTORFS_XATTR), &b);
	if (r < 0)
		fuse_reply_err(req, r == -EOPNOTSUPP ? ENODATA : -r);
	else
		reply_text(req, &b, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t ino, size_t size)
{
	struct server *s = server_of(req);
	auto_strbuf struct strbuf keys = { 0 }, names = { 0 };
	const struct ref *ref = NULL;
	struct ref buf;
	struct node n;
	size_t at;
	int r = node_find(s, ino, &n);

	if (r == 0 && node_object(&n, &buf, &ref) == 0)
		attr_list(s->domain, ref, &keys);
	for (at = 0; at < keys.len; at += strlen(keys.text + at) + 1) {
		strbuf_puts(&names, OVSTORFS_XATTR);
		strbuf_add(&names, keys.text + at, strlen(keys.text + at) + 1);
	}
	if (r < 0)
		fuse_reply_err(req, ENOENT);
	else
		reply_text(req, &names, size);
}

/* ---- the rest ---- */

static void op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi,
		    struct fuse_pollhandle *ph)
{
	auto_openfile struct openfile *f = openfile_get(fi->fh);

	(void)ino;
	if (f->kind == OPEN_EVENTS) {
		events_poll(server_of(req), req, f, ph);
		return;
	}
	if (ph)
		fuse_pollhandle_destroy(ph);
	fuse_reply_poll(req, 0x5 /* POLLIN | POLLOUT */);
}

static void op_symlink(fuse_req_t req, const char *link, fuse_ino_t parent,
		       const char *name)
{
	(void)link, (void)parent, (void)name;
	fuse_reply_err(req, EPERM);
}

static void op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t newparent,
		    const char *newname)
{
	(void)ino, (void)newparent, (void)newname;
	fuse_reply_err(req, EPERM);
}

static void op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t nlookup)
{
	/* Numbers are made from UUIDs: there is nothing to count. */
	(void)ino, (void)nlookup;
	fuse_reply_none(req);
}

const struct fuse_lowlevel_ops server_ops = {
	.init = op_init,
	.lookup = op_lookup,
	.forget = op_forget,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.mknod = op_mknod,
	.mkdir = op_mkdir,
	.unlink = op_unlink,
	.rmdir = op_rmdir,
	.symlink = op_symlink,
	.rename = op_rename,
	.link = op_link,
	.open = op_open,
	.create = op_create,
	.read = op_read,
	.write_buf = op_write_buf,
	.flush = op_flush,
	.release = op_release,
	.fsync = op_fsync,
	.readdir = op_readdir,
	.readdirplus = op_readdirplus,
	.statfs = op_statfs,
	.setxattr = op_setxattr,
	.getxattr = op_getxattr,
	.listxattr = op_listxattr,
	.removexattr = op_removexattr,
	.poll = op_poll,
	.fallocate = op_fallocate,
	.copy_file_range = op_copy_file_range,
	.lseek = op_lseek,
};
