/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Requests that may wait: each is made a verb here, run on a worker, and
 * answered there, if its caller still waits. */
#include "ovstorfs/ops.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/xattr.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/events.h"
#include "ovstorfs/log.h"
#include "ovstorfs/openfile.h"
#include "ovstorfs/worker.h"

static struct server *server_of(fuse_req_t req)
{
	return fuse_req_userdata(req);
}

static void answer_err(struct verb *v, int code)
{
	if (code < 0)
		v->server->counters.refused++;
	if (verb_answers(v))
		fuse_reply_err(v->req, -code);
}

/* chown grants bytes only: what changes the tree needs root or the mount's
 * owner. */
static int check_caller(const struct verb *v)
{
	if (v->by.uid == 0 || v->by.uid == v->server->options->uid)
		return 0;
	return err_new(-EPERM, "only root and the mount's owner (uid %u) may",
		       v->server->options->uid);
}

void refuse(struct server *s, const char *what, const struct ref *ref,
	    const char *name, int code)
{
	auto_free char *text = xprintf("%s%s%s: %s (%s)", what, name ? " " : "",
				       name ? name : "", err_text(code),
				       err_name(code));

	log_warn("%s: %s", ref ? ref_name(ref) : s->options->mountpoint, text);
	attr_note_error(s->domain, ref, text);
}

/* Refuse on account of a node: the text stays with the object that the verb
 * names, else with the one that it is in, else with the domain. */
static void refuse_at(struct verb *v, const struct node *n, int code)
{
	auto_free char *why = xstrdup(err_text(code));
	const struct ref *ref = NULL;
	struct node named;
	struct ref buf;

	if (n->ops->lookup && v->name &&
	    n->ops->lookup(v->server, n, v->name, &named) == 0)
		n = &named;
	if (n->kind == NODE_VOLUMES) {
		buf = n->image.ref;
		ref = &buf;
	} else if (node_object(n, &buf, &ref) < 0) {
		ref = NULL;
	}
	/* Looking has had errors of its own meanwhile. */
	err_new(code, "%s", why);
	refuse(v->server, v->what, ref, v->name, code);
}

/* The directory of a verb. */
static int find_dir(struct verb *v, struct node *ret_dir)
{
	int r = node_find(v->server, v->ino, ret_dir);

	return r < 0 ? -ESTALE : check_caller(v);
}

static int not_here(const struct verb *v)
{
	return err_new(-EPERM, "%s does nothing in this directory", v->what);
}

static void answer_entry(struct verb *v, const struct node *dir)
{
	struct fuse_entry_param e = { 0 };
	struct node n;
	int r = dir->ops->lookup(v->server, dir, v->name, &n);

	if (r < 0) {
		answer_err(v, r);
		return;
	}
	entry_fill(v->server, &n, &e);
	if (verb_answers(v))
		fuse_reply_entry(v->req, &e);
}

static struct verb *new_in(fuse_req_t req, const char *what,
			   void (*run)(struct verb *v), fuse_ino_t parent,
			   const char *name)
{
	struct verb *v = verb_new(server_of(req), req, what, run);

	v->ino = parent;
	v->name = xstrdup(name);
	return v;
}

static void start(struct verb *v)
{
	verb_start(v, v->server->verbs);
}

/* ---- make and remove ---- */

typedef int dir_verb(struct server *s, const struct caller *by,
		     const struct node *dir, const char *name);

/* Run an operation on a name in a directory. */
static int run_in(struct verb *v, struct node *dir, dir_verb *op)
{
	int r = op ? op(v->server, &v->by, dir, v->name) : not_here(v);

	if (r < 0)
		refuse_at(v, dir, r);
	return r;
}

static void run_make(struct verb *v, bool is_dir)
{
	struct node dir;
	int r = find_dir(v, &dir);

	if (r == 0)
		r = run_in(v, &dir,
			   is_dir ? dir.ops->make_dir : dir.ops->make_file);
	if (r < 0)
		answer_err(v, r);
	else
		answer_entry(v, &dir);
}

static void run_mkdir(struct verb *v)
{
	run_make(v, true);
}

static void run_mknod(struct verb *v)
{
	run_make(v, false);
}

void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
	(void)mode;
	start(new_in(req, "mkdir", run_mkdir, parent, name));
}

void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	      dev_t rdev)
{
	(void)rdev;
	if (!S_ISREG(mode))
		fuse_reply_err(req, EPERM);
	else
		start(new_in(req, "create", run_mknod, parent, name));
}

static void forget_overrides(struct verb *v, const struct node *dir)
{
	struct node n;

	if (dir->ops->lookup(v->server, dir, v->name, &n) == 0)
		v->ino2 = n.ino;
}

static void run_remove(struct verb *v, bool is_dir)
{
	struct node dir;
	int r = find_dir(v, &dir);

	if (r == 0) {
		forget_overrides(v, &dir);
		r = run_in(v, &dir,
			   is_dir ? dir.ops->remove_dir : dir.ops->remove_file);
	}
	if (r == 0 && v->ino2)
		override_drop(v->server, v->ino2);
	answer_err(v, r);
}

static void run_unlink(struct verb *v)
{
	run_remove(v, false);
}

static void run_rmdir(struct verb *v)
{
	run_remove(v, true);
}

void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	start(new_in(req, "rm", run_unlink, parent, name));
}

void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
	start(new_in(req, "rmdir", run_rmdir, parent, name));
}

static void run_rename(struct verb *v)
{
	struct node from, to;
	int r = find_dir(v, &from);

	if (r == 0 && node_find(v->server, v->ino2, &to) < 0)
		r = -ESTALE;
	if (r < 0) {
		answer_err(v, r);
		return;
	}
	if (!from.ops->move_out)
		r = not_here(v);
	else if (!streq(v->name, v->name2))
		r = err_new(-EPERM, "an object keeps its UUID");
	else
		r = from.ops->move_out(v->server, &v->by, &to, v->name);
	if (r < 0)
		refuse_at(v, &from, r);
	answer_err(v, r);
}

void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name,
	       fuse_ino_t newparent, const char *newname, unsigned int flags)
{
	struct verb *v;

	if (flags & ~(unsigned int)RENAME_NOREPLACE) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	v = new_in(req, "mv", run_rename, parent, name);
	v->ino2 = newparent;
	v->name2 = xstrdup(newname);
	start(v);
}

/* ---- open, create, release ---- */

static bool wants_write(int flags)
{
	return (flags & O_ACCMODE) != O_RDONLY || flags & O_TRUNC;
}

static void answer_open(struct verb *v, const struct node *n,
			struct fuse_file_info *fi, bool created)
{
	struct fuse_entry_param e = { 0 };
	int r;

	if (!verb_answers(v)) {
		openfile_drop(fi->fh);
		return;
	}
	entry_fill(v->server, n, &e);
	r = created ? fuse_reply_create(v->req, &e, fi) :
		      fuse_reply_open(v->req, fi);
	/* The caller was interrupted: there will be no release. */
	if (r == -ENOENT)
		openfile_drop(fi->fh);
}

static void run_open(struct verb *v)
{
	struct fuse_file_info fi = { .flags = v->flags };
	struct node n;
	int r = node_find(v->server, v->ino, &n);

	if (r < 0) {
		answer_err(v, -ESTALE);
		return;
	}
	r = openfile_volume(v->server, &v->by, &n, wants_write(v->flags), &fi);
	if (r < 0) {
		refuse_at(v, &n, r);
		answer_err(v, r);
		return;
	}
	answer_open(v, &n, &fi, false);
}

static void open_text(fuse_req_t req, const struct node *n,
		      struct fuse_file_info *fi)
{
	struct server *s = server_of(req);
	struct openfile *f;

	if (wants_write(fi->flags) && !n->ops->put) {
		fuse_reply_err(req, EPERM);
		return;
	}
	f = openfile_new(s, n->ino == NODE_EVENTS ? OPEN_EVENTS : OPEN_TEXT,
			 n->ino);
	if (n->ops->text)
		n->ops->text(s, n, &f->text);
	if (f->kind == OPEN_EVENTS)
		f->next_event = events_next(s);
	fi->direct_io = 1;
	fi->nonseekable = f->kind == OPEN_EVENTS;
	fi->fh = openfile_publish(f);
	if (fuse_reply_open(req, fi) == -ENOENT)
		openfile_put(f);
}

void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct server *s = server_of(req);
	struct verb *v;
	struct node n;

	if (node_find(s, ino, &n) < 0) {
		fuse_reply_err(req, ESTALE);
	} else if (n.kind == NODE_VOLUME) {
		v = verb_new(s, req, "open", run_open);
		v->ino = ino;
		v->flags = fi->flags;
		start(v);
	} else {
		open_text(req, &n, fi);
	}
}

/* Make the file, or take the one that another host was first with, where the
 * caller takes either. */
static int make_or_find(struct verb *v, const struct node *dir,
			struct node *ret_node)
{
	int r = dir->ops->make_file ?
			dir->ops->make_file(v->server, &v->by, dir, v->name) :
			not_here(v);

	if (r == -EEXIST && !(v->flags & O_EXCL) &&
	    dir->ops->lookup(v->server, dir, v->name, ret_node) == 0)
		return 0;
	return r < 0 ? r : dir->ops->lookup(v->server, dir, v->name, ret_node);
}

static void run_create(struct verb *v)
{
	struct fuse_file_info fi = { .flags = v->flags };
	struct node dir, n;
	int r = find_dir(v, &dir);

	if (r < 0) {
		answer_err(v, r);
		return;
	}
	r = make_or_find(v, &dir, &n);
	if (r == 0)
		r = openfile_volume(v->server, &v->by, &n,
				    wants_write(v->flags), &fi);
	if (r < 0) {
		refuse_at(v, &dir, r);
		answer_err(v, r);
		return;
	}
	answer_open(v, &n, &fi, true);
}

void op_create(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode,
	       struct fuse_file_info *fi)
{
	struct verb *v = new_in(req, "create", run_create, parent, name);

	(void)mode;
	v->flags = fi->flags;
	start(v);
}

static void run_release(struct verb *v)
{
	openfile_put(v->file); /* the request's count, then the open's */
	openfile_put(v->file);
	answer_err(v, 0);
}

void op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct server *s = server_of(req);
	struct openfile *f = openfile_get(fi->fh);
	struct verb *v;

	(void)ino;
	if (f->kind != OPEN_VOLUME) {
		openfile_put(f);
		openfile_drop(fi->fh);
		fuse_reply_err(req, 0);
		return;
	}
	v = verb_new(s, req, "close", run_release);
	v->by.deadline = UINT64_MAX;
	v->file = f;
	verb_start(v, s->closes);
}

/* ---- attributes ---- */

static void answer_attr(struct verb *v)
{
	struct stat st;
	struct node n;
	int r = node_find(v->server, v->ino, &n);

	if (r < 0) {
		answer_err(v, -ESTALE);
		return;
	}
	node_stat(v->server, &n, &st);
	if (verb_answers(v))
		fuse_reply_attr(v->req, &st, attr_timeout_of(v->server, &n));
}

static void set_overrides(struct server *s, fuse_ino_t ino,
			  const struct stat *attr, int to_set)
{
	struct timespec mtime = { 0 };
	struct node n;
	const int kept = FUSE_SET_ATTR_MODE | FUSE_SET_ATTR_UID |
			 FUSE_SET_ATTR_GID | FUSE_SET_ATTR_ATIME |
			 FUSE_SET_ATTR_MTIME;

	if (!(to_set & kept))
		return;
	if (node_find(s, ino, &n) == 0 && n.kind == NODE_VOLUME)
		mtime = n.volume.bytes.mtime;
	override_set(s, ino, attr, to_set, &mtime);
}

static void run_resize(struct verb *v)
{
	struct node n;
	int r = node_find(v->server, v->ino, &n);

	if (r < 0) {
		answer_err(v, -ESTALE);
		return;
	}
	if (n.ops->resize)
		r = n.ops->resize(v->server, &v->by, &n, v->size);
	else /* the state files: > file truncates first */
		r = n.ops->put ? 0 : err_new(-EPERM, "it has no size to set");
	if (r < 0) {
		refuse_at(v, &n, r);
		answer_err(v, r);
		return;
	}
	set_overrides(v->server, v->ino, &v->attr, v->to_set);
	answer_attr(v);
}

void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set,
		struct fuse_file_info *fi)
{
	struct server *s = server_of(req);
	struct stat st;
	struct verb *v;
	struct node n;

	(void)fi;
	if (to_set & FUSE_SET_ATTR_SIZE) {
		v = verb_new(s, req, "truncate", run_resize);
		v->ino = ino;
		v->size = (uint64_t)attr->st_size;
		v->attr = *attr;
		v->to_set = to_set;
		start(v);
		return;
	}
	set_overrides(s, ino, attr, to_set);
	if (node_find(s, ino, &n) < 0) {
		fuse_reply_err(req, ESTALE);
		return;
	}
	node_stat(s, &n, &st);
	fuse_reply_attr(req, &st, attr_timeout_of(s, &n));
}

/* XATTR_CREATE and XATTR_REPLACE. */
static int check_flags(const struct verb *v, const struct ref *ref)
{
	auto_strbuf struct strbuf b = { 0 };
	bool is_set = attr_get(v->server->domain, ref, v->name, &b) == 0;

	if (v->flags & XATTR_CREATE && is_set)
		return err_new(-EEXIST, "%s is set", v->name);
	if (v->flags & XATTR_REPLACE && !is_set)
		return err_new(-ENODATA, "%s is not set", v->name);
	return 0;
}

static void run_setxattr(struct verb *v)
{
	const struct ref *ref = NULL;
	struct ref buf;
	struct node n;
	int r = node_find(v->server, v->ino, &n);

	if (r < 0) {
		answer_err(v, -ESTALE);
		return;
	}
	r = node_object(&n, &buf, &ref) ?:
		    check_caller(v)	?:
		    check_flags(v, ref) ?:
		    attr_set(v->server->domain, &v->by, ref, v->name, v->data,
			     v->len);
	if (r < 0)
		refuse_at(v, &n, r);
	answer_err(v, r);
}

static const char *key_of(const char *name)
{
	return str_starts(name, OVSTORFS_XATTR) ?
		       name + strlen(OVSTORFS_XATTR) :
		       NULL;
}

static void start_setxattr(fuse_req_t req, const char *what, fuse_ino_t ino,
			   const char *name, const char *value, size_t size,
			   int flags)
{
	const char *key = key_of(name);
	struct verb *v;

	if (!key) {
		fuse_reply_err(req, EOPNOTSUPP);
		return;
	}
	v = new_in(req, what, run_setxattr, ino, key);
	v->data = xstrndup(value, size);
	v->len = size;
	v->flags = flags;
	start(v);
}

void op_setxattr(fuse_req_t req, fuse_ino_t ino, const char *name,
		 const char *value, size_t size, int flags)
{
	start_setxattr(req, "setfattr", ino, name, value, size, flags);
}

/* Only a description can be nothing; for others nothing is a bad value. */
void op_removexattr(fuse_req_t req, fuse_ino_t ino, const char *name)
{
	start_setxattr(req, "setfattr -x", ino, name, "", 0, XATTR_REPLACE);
}

/* ---- collect ---- */

static void run_collect(struct verb *v)
{
	struct node n;
	int r;

	node_fixed(NODE_COLLECT, &n);
	r = check_caller(v);
	if (r == 0)
		r = n.ops->put(v->server, v->data, v->len);
	if (r < 0) {
		refuse(v->server, v->what, NULL, NULL, r);
		answer_err(v, r);
	} else if (verb_answers(v)) {
		fuse_reply_write(v->req, v->len);
	}
}

void op_collect(fuse_req_t req, const char *data, size_t len)
{
	struct verb *v = verb_new(server_of(req), req, "collect", run_collect);

	v->by.deadline = UINT64_MAX; /* it lasts as long as there is work */
	v->data = xstrndup(data, len);
	v->len = len;
	start(v);
}
