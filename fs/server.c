/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The server process: a libfuse session on the keeper's descriptor, over an
 * open domain, with threads for requests, verbs, closes and deadlines.
 *
 * It must not need what it serves: memory is locked, reclaim does not wait
 * for our own writes, and the OOM killer looks elsewhere first. */
#include "ovstorfs/fuse.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/events.h"
#include "ovstorfs/io.h"
#include "ovstorfs/keeper.h"
#include "ovstorfs/node.h"
#include "ovstorfs/openfile.h"
#include "ovstorfs/log.h"
#include "ovstorfs/ops.h"
#include "ovstorfs/worker.h"

#define VERB_THREADS 16
#define CLOSE_THREADS 2
#define FUSE_THREADS 16
#define STACK (256 * 1024)
#define EXIT_STUCK 3

static int map_shared(struct server *s)
{
	s->shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED, SERVER_FD_SHARED, 0);
	if (s->shared == MAP_FAILED)
		return err_new(-errno, "shared memory: %s", strerror(errno));
	if (s->shared->version != SHARED_VERSION)
		return err_new(-EPROTO,
			       "the keeper speaks version %u of the "
			       "shared table",
			       s->shared->version);
	return 0;
}

static int arm_faults(struct server *s)
{
	int i, r = 0;

	fault_share(&s->shared->faults, s->shared->keeper_pid);
	for (i = 0; i < s->options->n_faults && r == 0; i++)
		r = fault_arm(s->options->faults[i]);
	return r;
}

static void set_oom_score(void)
{
	auto_close int fd =
		open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);

	if (fd < 0 || write_full(fd, "-900", 4) < 0)
		log_debug(LOG_FUSE, "oom_score_adj cannot be set");
}

/* Small stacks first: what is locked should be little. */
static void harden(void)
{
	struct rlimit files;
	pthread_attr_t attr;

	if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
		files.rlim_cur = files.rlim_max;
		setrlimit(RLIMIT_NOFILE, &files);
	}
	set_oom_score();
	if (prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0) < 0)
		log_debug(LOG_FUSE, "PR_SET_IO_FLUSHER: %s", strerror(errno));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK);
	pthread_setattr_default_np(&attr);
	pthread_attr_destroy(&attr);
	if (mlockall(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT) < 0)
		log_info("memory is not locked: %s", strerror(errno));
#else
	(void)attr;
#endif
}

static int open_domain(struct server *s)
{
	const struct mount_options *o = s->options;
	struct domain_options d = {
		.source = o->source,
		.read_only = o->read_only,
		.alone = o->locks == LEASE_LOCKS_LOCAL,
		.lease_sock = SERVER_FD_LEASE,
		.claim_fd = SERVER_FD_CLAIM,
		.gc_period = o->gc_period,
		.trash_retention = o->trash_retention,
		.changed = notify_change,
		.event = events_add,
		.arg = s,
	};

	return domain_open(&d, &s->domain);
}

static int open_session(struct server *s)
{
	auto_free char *path = xprintf("/dev/fd/%d", SERVER_FD_FUSE);
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	int r;

	fuse_opt_add_arg(&args, "ovstorfs");
	s->session =
		fuse_session_new(&args, &server_ops, sizeof(server_ops), s);
	fuse_opt_free_args(&args);
	if (!s->session)
		return err_new(-EIO, "libfuse: no session");
	r = fuse_session_mount(s->session, path);
	return r ? err_new(-EIO, "libfuse does not take the descriptor") : 0;
}

static int start(struct server *s)
{
	int r;

	r = map_shared(s) ?: arm_faults(s);
	if (r < 0)
		return r;
	r = watch_open(s)				    ?:
		    pool_open(s, VERB_THREADS, &s->verbs)   ?:
		    pool_open(s, CLOSE_THREADS, &s->closes) ?:
		    events_open(s)			    ?:
		    open_session(s)			    ?:
							      notify_open(s);
	return r < 0 ? r : open_domain(s);
}

/* Returns how many leases are left behind. */
static unsigned int stop(struct server *s)
{
	unsigned int left;

	if (s->verbs)
		pool_close(s->verbs);
	if (s->closes)
		pool_close(s->closes);
	/* What they began is unfinished, so no lease may go; with the process
	 * they end, and the next mount finds their markers. */
	if (s->counters.stuck) {
		log_error("%s: %lu operations never came to an end",
			  s->options->mountpoint, s->counters.stuck);
		_exit(EXIT_STUCK);
	}
	if (s->watch)
		watch_close(s);
	left = domain_close(s->domain);
	if (s->notify)
		notify_close(s);
	if (s->events)
		events_close(s);
	if (s->session)
		fuse_session_destroy(s->session);
	override_fini(s);
	access_fini(s);
	return left;
}

static int loop(struct server *s)
{
	struct fuse_loop_config *c = fuse_loop_cfg_create();
	int r;

	fuse_loop_cfg_set_max_threads(c, FUSE_THREADS);
	fuse_loop_cfg_set_idle_threads(c, FUSE_THREADS);
	fuse_loop_cfg_set_clone_fd(c, 0);
	r = fuse_session_loop_mt(s->session, c);
	fuse_loop_cfg_destroy(c);
	return r;
}

static void libfuse_says(enum fuse_log_level level, const char *fmt, va_list ap)
{
	auto_strbuf struct strbuf b = { 0 };

	strbuf_vprintf(&b, fmt, ap);
	while (b.len && b.text[b.len - 1] == '\n')
		b.text[--b.len] = '\0';
	if (level <= FUSE_LOG_WARNING)
		log_warn("libfuse: %s", b.text);
	else
		log_debug(LOG_FUSE, "libfuse: %s", b.text);
}

int server_main(const struct mount_options *o)
{
	struct server s = { .options = o, .started = time(NULL) };
	unsigned int left;
	int r;

	signal(SIGPIPE, SIG_IGN);
	fuse_set_log_func(libfuse_says);
	pthread_mutex_init(&s.overrides_lock, NULL);
	pthread_mutex_init(&s.access_lock, NULL);
	harden();
	r = start(&s);
	keeper_write_result(SERVER_FD_READY, r);
	close(SERVER_FD_READY);
	if (r == 0) {
		if (loop(&s) < 0)
			log_error("%s: the session ended with an error",
				  o->mountpoint);
	}
	left = stop(&s);
	if (left)
		log_warn("%s: %u leases are left to the next mount",
			 o->mountpoint, left);
	return r < 0 || left;
}

void server_features(FILE *out)
{
	struct utsname u = { 0 };

	uname(&u);
	fprintf(out, "libfuse %s\n", fuse_pkgversion());
#ifdef HAVE_PASSTHROUGH
	fprintf(out, "passthrough: compiled in; kernel %s %s\n", u.release,
		kernel_is_at_least(6, 9) ? "has it" : "lacks it (6.9)");
#else
	fprintf(out,
		"passthrough: not compiled in (libfuse 3.17); "
		"kernel %s\n",
		u.release);
#endif
	fprintf(out, "leases: local sanlock\nbackends: file\n");
}
