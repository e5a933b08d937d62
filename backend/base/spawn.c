/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Other programs: started clean, read to their end, killed at a deadline. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/spawn.h"
#include "ovstorfs/str.h"

#define OUT_MAX (1024 * 1024)

/* Between fork and exec: only calls that are safe there. */
static void child(const struct spawn *s, char *const env[], int out, int err)
{
	sigset_t none;
	size_t i;
	int null;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	null = open("/dev/null", O_RDONLY);
	if (null < 0 || dup2(null, 0) < 0 || dup2(out, 1) < 0 ||
	    dup2(err, 2) < 0)
		_exit(126);
	if (syscall(SYS_close_range, 3, ~0u, 4 /* CLOSE_RANGE_CLOEXEC */))
		_exit(126);
	for (i = 0; i < s->n_keep_fds; i++)
		if (fcntl(s->keep_fds[i], F_SETFD, 0) < 0)
			_exit(126);
	execvpe(s->argv[0], (char *const *)s->argv, env);
	_exit(errno == ENOENT ? 127 : 126);
}

/* Read what there is; false at the end of the pipe. */
static bool drain(int fd, struct strbuf *b)
{
	char buf[4096];
	ssize_t n = read(fd, buf, sizeof(buf));

	if (n <= 0)
		return n < 0 && errno == EINTR;
	if (b->len < OUT_MAX)
		strbuf_add(b, buf, (size_t)n);
	return true;
}

static int time_left(uint64_t deadline)
{
	uint64_t now = now_ms();

	if (!deadline)
		return -1;
	return now >= deadline ? 0 : (int)(deadline - now);
}

/* Collect both pipes until they close. False: the deadline came first. */
static bool collect(int out, int err, uint64_t deadline, struct strbuf *o,
		    struct strbuf *e)
{
	struct pollfd p[2] = { { out, POLLIN, 0 }, { err, POLLIN, 0 } };

	while (p[0].fd >= 0 || p[1].fd >= 0) {
		int n = poll(p, 2, time_left(deadline));

		if (n == 0)
			return false;
		if (n > 0 && p[0].revents && !drain(out, o))
			p[0].fd = -1;
		if (n > 0 && p[1].revents && !drain(err, e))
			p[1].fd = -1;
	}
	return true;
}

static const char *last_line(struct strbuf *b)
{
	char *nl;

	while (b->len && b->text[b->len - 1] == '\n')
		b->text[--b->len] = '\0';
	nl = b->len ? strrchr(b->text, '\n') : NULL;
	return nl ? nl + 1 : b->len ? b->text : "it said nothing";
}

static int outcome(const char *name, int status, struct strbuf *err)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return 0;
	if (WIFEXITED(status) && WEXITSTATUS(status) == 127)
		return err_new(-ENOENT, "%s: no such program", name);
	if (WIFSIGNALED(status))
		return err_new(-EIO, "%s: killed by signal %d", name,
			       WTERMSIG(status));
	return err_new(-EIO, "%s: exit code %d: %s", name, WEXITSTATUS(status),
		       last_line(err));
}

int spawn_run(const struct spawn *s, char **ret_out)
{
	auto_free char *path =
		xprintf("PATH=%s", getenv("PATH") ?: "/usr/sbin:/usr/bin");
	char *const env[] = { path, "LC_ALL=C", NULL };
	auto_strbuf struct strbuf o = { 0 }, e = { 0 };
	auto_close int out_r = -1, out_w = -1, err_r = -1, err_w = -1;
	uint64_t deadline = s->timeout_ms ? now_ms() + (uint64_t)s->timeout_ms :
					    0;
	int out[2], err[2], status = 0;
	bool in_time;
	pid_t pid;

	if (pipe2(out, O_CLOEXEC) < 0)
		return err_new(-errno, "pipe: %s", strerror(errno));
	out_r = out[0], out_w = out[1];
	if (pipe2(err, O_CLOEXEC) < 0)
		return err_new(-errno, "pipe: %s", strerror(errno));
	err_r = err[0], err_w = err[1];
	pid = fork();
	if (pid < 0)
		return err_new(-errno, "fork: %s", strerror(errno));
	if (pid == 0)
		child(s, env, out_w, err_w);
	close(steal_fd(&out_w));
	close(steal_fd(&err_w));
	in_time = collect(out_r, err_r, deadline, &o, &e);
	if (!in_time)
		kill(pid, SIGKILL);
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (!in_time)
		return err_new(-ETIMEDOUT, "%s: no end after %d ms", s->argv[0],
			       s->timeout_ms);
	if (outcome(s->argv[0], status, &e) < 0)
		return outcome(s->argv[0], status, &e);
	if (ret_out)
		*ret_out = o.text ? steal(o.text) : xstrdup("");
	return 0;
}
