/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The keeper: opens /dev/fuse, mounts, holds the leases, and starts the
 * server, which does everything else. It sees no request, parses nothing from
 * the storage, and ends when its server ends. */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/domain.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/keeper.h"
#include "ovstorfs/log.h"
#include "ovstorfs/server.h"

#define BUSY_WAIT_MS 5000 /* for a mount of this domain that is going */

struct keeper {
	const struct mount_options *options;
	struct lease_space space;
	struct lease_holder *holder;
	pthread_t holder_thread;
	int fuse;
	int door[2]; /* the server's end, the holder's end */
	int shared_fd;
	struct shared *shared;
	int signals;
	int ready; /* to whoever waits for the mount */
	pid_t server;
	bool mounted;
	bool was_ready;
};

/* ---- results over a pipe ---- */

void keeper_write_result(int fd, int code)
{
	auto_free char *text =
		xprintf("%d %s", code, code < 0 ? err_text(code) : "");

	if (write_full(fd, text, strlen(text)) < 0)
		log_error("%s", err_text(-EPIPE));
}

int keeper_read_result(int fd)
{
	char buf[1024];
	size_t n = 0;
	ssize_t got;
	char *rest;
	long code;

	while (n < sizeof(buf) - 1 &&
	       (got = read(fd, buf + n, sizeof(buf) - 1 - n)) != 0) {
		if (got < 0 && errno != EINTR)
			break;
		n += got > 0 ? (size_t)got : 0;
	}
	buf[n] = '\0';
	if (!n)
		return err_new(-EIO, "the mount ended before it was ready; "
				     "see its log");
	code = strtol(buf, &rest, 10);
	return code < 0 ? err_new((int)code, "%s", *rest ? rest + 1 : "") : 0;
}

/* ---- mounting ---- */

static int mount_fuse(struct keeper *k)
{
	const struct mount_options *o = k->options;
	auto_free char *data = NULL;

	k->fuse = open("/dev/fuse", O_RDWR | O_CLOEXEC);
	if (k->fuse < 0)
		return err_new(-errno, "/dev/fuse: %s", strerror(errno));
	data = xprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other,"
		       "default_permissions",
		       k->fuse);
	if (mount(o->source, o->mountpoint, OVSTORFS_FSTYPE, o->flags, data) <
	    0)
		return err_new(-errno, "mount on %s: %s", o->mountpoint,
			       strerror(errno));
	k->mounted = true;
	return 0;
}

/* A kernel that ends requests by a clock of its own would fail writes that
 * wait for space, and take the mount with it. */
static int check_request_timeout(void)
{
	static const char *const limits[] = { "max_request_timeout",
					      "default_request_timeout" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(limits); i++) {
		auto_free char *path =
			xprintf("/proc/sys/fs/fuse/%s", limits[i]);
		auto_close int fd = open(path, O_RDONLY | O_CLOEXEC);
		char text[32] = "";

		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0 &&
		    atoi(text))
			return err_new(-EPERM,
				       "%s is set: requests may not "
				       "be ended by a clock",
				       path);
	}
	return 0;
}

static int make_shared(struct keeper *k)
{
	k->shared_fd = memfd_create("ovstorfs", MFD_CLOEXEC);
	if (k->shared_fd < 0 ||
	    ftruncate(k->shared_fd, sizeof(struct shared)) < 0)
		return err_new(-errno, "shared memory: %s", strerror(errno));
	k->shared = mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE,
			 MAP_SHARED, k->shared_fd, 0);
	if (k->shared == MAP_FAILED)
		return err_new(-errno, "shared memory: %s", strerror(errno));
	k->shared->version = SHARED_VERSION;
	k->shared->keeper_pid = getpid();
	return 0;
}

static int make_signals(struct keeper *k)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGCHLD);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	signal(SIGPIPE, SIG_IGN);
	k->signals = signalfd(-1, &set, SFD_CLOEXEC);
	if (k->signals < 0)
		return err_new(-errno, "signalfd: %s", strerror(errno));
	return 0;
}

static int claim_domain(struct keeper *k)
{
	struct lease_holder_options o = {
		.locks = k->options->locks,
		.space = &k->space,
		.host_id = k->options->host_id,
		.no_watchdog = k->options->no_watchdog,
		.read_only = k->options->read_only,
		.busy_wait_ms = BUSY_WAIT_MS,
	};

	return lease_holder_start(&o, &k->holder);
}

/* ---- the server ---- */

/* After fork: the descriptors at their places, everything else closed. */
static void become_server(struct keeper *k, int ready)
{
	const struct mount_options *o = k->options;
	int from[] = { k->fuse, k->door[0], k->shared_fd,
		       lease_holder_claim_fd(k->holder), ready };
	const char *argv[] = { "ovstorfs",
			       "--server",
			       o->source,
			       o->mountpoint,
			       o->text.len ? o->text.text : "",
			       NULL };
	sigset_t none;
	size_t i;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	/* First out of the way, then to where they belong. */
	for (i = 0; i < ARRAY_SIZE(from); i++)
		if (from[i] >= 0)
			from[i] = fcntl(from[i], F_DUPFD, 64);
	for (i = 0; i < ARRAY_SIZE(from); i++) {
		close(SERVER_FD_FUSE + (int)i);
		if (from[i] >= 0)
			dup2(from[i], SERVER_FD_FUSE + (int)i);
	}
	syscall(SYS_close_range, SERVER_FD_END, ~0u, 0);
	execv("/proc/self/exe", (char *const *)argv);
	_exit(127);
}

static void *serve_leases(void *arg)
{
	struct keeper *k = arg;

	(void)lease_holder_serve(k->holder, k->door[1]);
	return NULL;
}

static int start_server(struct keeper *k, int *ret_ready)
{
	int ready[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, k->door) < 0)
		return err_new(-errno, "socketpair: %s", strerror(errno));
	if (pipe2(ready, O_CLOEXEC) < 0)
		return err_new(-errno, "pipe: %s", strerror(errno));
	if (pthread_create(&k->holder_thread, NULL, serve_leases, k))
		return err_new(-EAGAIN, "no thread for the leases");
	k->server = fork();
	if (k->server == 0)
		become_server(k, ready[1]);
	close(k->door[0]);
	close(ready[1]);
	if (k->server < 0) {
		close(ready[0]);
		return err_new(-EAGAIN, "fork: no server");
	}
	*ret_ready = ready[0];
	return 0;
}

/* ---- the life of a mount ---- */

static int set_up(struct keeper *k, int *ret_ready)
{
	int r;

	r = domain_lease_space(k->options->source, k->options->read_only,
			       &k->space);
	if (r < 0)
		return r;
	r = check_request_timeout() ?:
		    make_signals(k) ?:
		    make_shared(k)  ?:
				      claim_domain(k);
	if (r < 0)
		return r;
	r = mount_fuse(k);
	return r < 0 ? r : start_server(k, ret_ready);
}

static void on_terminate(struct keeper *k)
{
	if (umount2(k->options->mountpoint, 0) == 0)
		return;
	log_warn("%s: asked to end, but: %s", k->options->mountpoint,
		 strerror(errno));
}

/* Until the server has ended; its exit status. */
static int watch_server(struct keeper *k)
{
	struct signalfd_siginfo si;
	int status = 0;

	for (;;) {
		if (waitpid(k->server, &status, WNOHANG) == k->server)
			return status;
		if (read(k->signals, &si, sizeof(si)) != sizeof(si))
			continue;
		if (si.ssi_signo == SIGTERM || si.ssi_signo == SIGINT)
			on_terminate(k);
	}
}

/* A server that died, or says so, has left volumes that processes may still
 * write by passthrough or a mapping. Their leases outlive us, for the next
 * mount of this host; the others go with our end. */
static bool is_clean(const struct keeper *k, int status)
{
	return !k->was_ready || status == 0;
}

static void tear_down(struct keeper *k, int status)
{
	if (k->server > 0 && WIFSIGNALED(status))
		log_error("%s: server %d was killed by signal %d",
			  k->options->mountpoint, k->server, WTERMSIG(status));
	/* Without a server the mount only answers errors. */
	if (k->mounted && (k->server <= 0 || status != 0))
		umount2(k->options->mountpoint, MNT_DETACH);
	if (k->holder_thread)
		pthread_join(k->holder_thread, NULL);
	if (!is_clean(k, status))
		_exit(EXIT_FAILURE); /* releases nothing */
	if (k->holder)
		lease_holder_stop(k->holder);
}

static int run(struct keeper *k)
{
	int ready = -1, status = 0;
	int r = set_up(k, &ready);

	if (r == 0) {
		r = keeper_read_result(ready);
		close(ready);
		k->was_ready = r == 0;
		if (r == 0)
			sd_notify(0, "READY=1");
	}
	if (k->ready >= 0) {
		keeper_write_result(k->ready, r);
		close(k->ready);
	}
	if (r == 0)
		log_info("%s: mounted on %s", k->options->source,
			 k->options->mountpoint);
	if (k->server > 0)
		status = watch_server(k);
	tear_down(k, status);
	return r < 0 || status ? 1 : 0;
}

int keeper_main(const struct mount_options *o, int ready_fd)
{
	struct keeper k = {
		.options = o, .fuse = -1, .shared_fd = -1, .ready = ready_fd
	};

	return run(&k);
}
