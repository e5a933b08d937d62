/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Leases between hosts, with real daemons where sanlock is installed: two of
 * them, without a watchdog, are two hosts. Its library knows one daemon per
 * process, so each host is a child that is told what to do. Skipped without
 * sanlock or root; takes about half a minute. */
#include "lease_mount.h"

struct daemon {
	char run[300];
	pid_t pid;
};

enum what {
	START,
	WAIT,
	TAKE,
	RELEASE,
	HOLDERS,
	LEFTOVER,
	COUNT,
	NEW_DOOR,
	BENCH,
	CLAIM,
	SPAWN,
	CONTEND,
	STOP
};

struct order {
	enum what what;
	enum lease_mode mode;
	bool persistent, watchdog;
	int ms;
	unsigned int host_id;
	struct lease_ref ref;
};

struct outcome {
	int r;
	struct lease_member member;
	char text[256];
	uint64_t took_ms;
	double mean, p50, p99;
};

struct host {
	pid_t pid;
	int sock;
};

static int by_value(const void *a, const void *b)
{
	double d = *(const double *)a - *(const double *)b;

	return d < 0 ? -1 : d > 0;
}

static void bench(struct mount *m, const struct order *o, struct outcome *out)
{
	enum { N = 200 };
	double ms[N], sum = 0;
	int i;

	for (i = 0; i < N && out->r == 0; i++) {
		uint64_t begin = now_us();

		out->r = lease_take(m->door, &o->ref, o->mode, o->persistent,
				    now_ms() + 5000);
		if (out->r == 0)
			out->r = lease_release(m->door, o->ref.name);
		ms[i] = (double)(now_us() - begin) / 1000;
		sum += ms[i];
	}
	qsort(ms, N, sizeof(ms[0]), by_value);
	out->mean = sum / N;
	out->p50 = ms[N / 2];
	out->p99 = ms[N * 99 / 100];
}

/* A child that may write, and outlives the keeper. */
static int spawn_writer(struct mount *m)
{
	int fd = lease_holder_claim_fd(m->holder);
	pid_t pid = fork();

	if (pid == 0) {
		fcntl(fd, F_SETFD, 0);
		execlp("sleep", "sleep", "60", NULL);
		_exit(127);
	}
	return pid;
}

#define ARENAS 3

/* Shared by all hosts: who is in there, how often, and how often not alone. */
static struct arena {
	atomic_int inside, entered, crowded;
} * arenas;

struct fighter {
	pthread_t thread;
	struct mount *m;
	unsigned int first;
	uint64_t until;
	int r;
};

static void *fight_thread(void *arg)
{
	struct fighter *f = arg;
	unsigned int i;

	for (i = f->first; now_ms() < f->until && f->r == 0; i++) {
		struct arena *a = &arenas[i % ARENAS];
		struct lease_ref ref;
		int r;

		volume_ref(i % ARENAS, &ref);
		r = lease_take(f->m->door, &ref, LEASE_EXCLUSIVE, true,
			       now_ms() + 500);
		if (r == -EBUSY || r == -ETIMEDOUT)
			continue;
		if (r == 0 && atomic_fetch_add(&a->inside, 1) != 0)
			atomic_fetch_add(&a->crowded, 1);
		if (r == 0) {
			atomic_fetch_add(&a->entered, 1);
			usleep(500);
			atomic_fetch_sub(&a->inside, 1);
			r = lease_release(f->m->door, ref.name);
		}
		f->r = r;
	}
	return NULL;
}

static void fight(struct mount *m, const struct order *o, struct outcome *out)
{
	struct fighter f[6];
	unsigned int i;

	for (i = 0; i < ARRAY_SIZE(f); i++) {
		f[i] = (struct fighter){ .m = m,
					 .first = i,
					 .until = now_ms() + (uint64_t)o->ms };
		pthread_create(&f[i].thread, NULL, fight_thread, &f[i]);
	}
	for (i = 0; i < ARRAY_SIZE(f); i++) {
		pthread_join(f[i].thread, NULL);
		if (f[i].r < 0)
			out->r = f[i].r;
	}
}

static void host_do(struct mount *m, const struct order *o, struct outcome *out)
{
	struct lease_holder_options options = {
		.locks = LEASE_LOCKS_SANLOCK,
		.space = &space,
		.host_id = o->host_id,
		.no_watchdog = !o->watchdog,
		.busy_wait_ms = o->ms,
		.killpath = "/bin/true",
	};

	switch (o->what) {
	case START:
		out->r = mount_start(m, &options);
		return;
	case WAIT:
		out->member = mount_wait(m, (enum lease_state)o->mode, o->ms);
		return;
	case TAKE:
		out->r = lease_take(m->door, &o->ref, o->mode, o->persistent,
				    o->ms ? now_ms() + (uint64_t)o->ms : 0);
		return;
	case RELEASE:
		out->r = lease_release(m->door, o->ref.name);
		return;
	case HOLDERS:
		out->r = lease_holders(m->door, &o->ref, out->text,
				       sizeof(out->text));
		return;
	case LEFTOVER:
		out->r = lease_leftover(m->door, o->host_id, out->text);
		return;
	case COUNT:
		out->r = (int)lease_count(m->door);
		return;
	case NEW_DOOR:
		mount_close_door(m);
		mount_open_door(m);
		return;
	case BENCH:
		bench(m, o, out);
		return;
	case CLAIM:
		out->r = fcntl(lease_holder_claim_fd(m->holder), F_GETFD);
		return;
	case SPAWN:
		out->r = spawn_writer(m);
		return;
	case CONTEND:
		fight(m, o, out);
		return;
	case STOP:
		mount_stop(m);
		return;
	}
}

static void host_main(const char *run, int sock)
{
	struct mount m;
	struct order o;

	/* cmocka's handlers would go on with the tests in this process. */
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	signal(SIGFPE, SIG_DFL);
	signal(SIGILL, SIG_DFL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	setenv("SANLOCK_RUN_DIR", run, 1);
	while (recv(sock, &o, sizeof(o), 0) == sizeof(o)) {
		struct outcome out = { 0 };
		uint64_t begin = now_ms();

		err_clear();
		host_do(&m, &o, &out);
		out.took_ms = now_ms() - begin;
		if (out.r < 0)
			text_copy(out.text, sizeof(out.text), err_text(out.r));
		send(sock, &out, sizeof(out), MSG_NOSIGNAL);
	}
	_exit(0);
}

static void host_fork(struct host *h, const struct daemon *d)
{
	int pair[2];

	assert_int_equal(
		socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
	h->pid = fork();
	if (h->pid == 0) {
		close(pair[0]);
		host_main(d->run, pair[1]);
	}
	close(pair[1]);
	h->sock = pair[0];
}

static void host_kill(struct host *h)
{
	if (h->pid <= 0)
		return;
	kill(h->pid, SIGKILL);
	waitpid(h->pid, NULL, 0);
	close(h->sock);
	h->pid = 0;
}

static void host_end(struct host *h)
{
	close(h->sock);
	waitpid(h->pid, NULL, 0);
	h->pid = 0;
}

static void tell(struct host *h, const struct order *o)
{
	assert_int_equal(send(h->sock, o, sizeof(*o), 0), sizeof(*o));
}

static struct outcome hear(struct host *h)
{
	struct pollfd p = { .fd = h->sock, .events = POLLIN };
	struct outcome out;

	assert_int_equal(poll(&p, 1, 90000), 1);
	assert_int_equal(recv(h->sock, &out, sizeof(out), 0), sizeof(out));
	return out;
}

static struct outcome do_it(struct host *h, struct order o)
{
	tell(h, &o);
	return hear(h);
}

static struct outcome do_ref(struct host *h, enum what what,
			     const struct lease_ref *ref, enum lease_mode mode,
			     bool persistent, int ms)
{
	struct order o = { .what = what,
			   .mode = mode,
			   .persistent = persistent,
			   .ms = ms,
			   .ref = *ref };

	return do_it(h, o);
}

#define EX LEASE_EXCLUSIVE
#define SH LEASE_SHARED

static void daemon_start(struct daemon *d, const char *name)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int i, fd, r = -1;

	snprintf(d->run, sizeof(d->run), "%s/run-%s", dir, name);
	mkdir(d->run, 0700);
	d->pid = fork();
	if (d->pid == 0) {
		fd = open("/dev/null", O_RDWR);
		dup2(fd, 0);
		dup2(fd, 1);
		dup2(fd, 2);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		setenv("SANLOCK_RUN_DIR", d->run, 1);
		setenv("SANLOCK_PRIVILEGED", "0", 1);
		execlp("sanlock", "sanlock", "daemon", "-D", "-w", "0", "-h",
		       "0", "-l", "0", "-U", "root", "-G", "root", "-e", name,
		       "-L", "-1", "-S", "-1", NULL);
		_exit(127);
	}
	snprintf(to.sun_path, sizeof(to.sun_path), "%.80s/sanlock.sock",
		 d->run);
	for (i = 0; i < 500 && r < 0; i++) {
		fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		r = connect(fd, (struct sockaddr *)&to, sizeof(to));
		close(fd);
		if (r < 0)
			usleep(10000);
	}
	assert_int_equal(r, 0);
}

static void daemon_kill(struct daemon *d)
{
	if (d->pid <= 0)
		return;
	kill(d->pid, SIGKILL);
	waitpid(d->pid, NULL, 0);
	d->pid = 0;
}

static bool have_sanlock(void)
{
	return geteuid() == 0 && (access("/usr/sbin/sanlock", X_OK) == 0 ||
				  access("/usr/bin/sanlock", X_OK) == 0);
}

static struct daemon daemon_a, daemon_b;
static struct host a, b;

static struct outcome host_start(struct host *h, int wait_ms)
{
	return do_it(h, (struct order){ .what = START, .ms = wait_ms });
}

static struct outcome host_join(struct host *h)
{
	return do_it(h, (struct order){ .what = WAIT,
					.mode = (enum lease_mode)LEASE_JOINING,
					.ms = 30000 });
}

static int setup_hosts(void **state)
{
	struct lease_ref ref;
	unsigned int i;

	setup_space(state);
	for (i = 0; i < 6; i++) { /* 6 and 7 stay blank */
		volume_ref(i, &ref);
		assert_int_equal(lease_area_init(&space, &ref), 0);
	}
	arenas = mmap(NULL, sizeof(*arenas) * ARENAS, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(arenas != MAP_FAILED);
	if (!have_sanlock())
		return 0;
	daemon_start(&daemon_a, "host-a");
	daemon_start(&daemon_b, "host-b");
	host_fork(&a, &daemon_a);
	host_fork(&b, &daemon_b);
	return 0;
}

static int teardown_hosts(void **state)
{
	if (have_sanlock()) {
		host_kill(&a);
		host_kill(&b);
		daemon_kill(&daemon_a);
		daemon_kill(&daemon_b);
	}
	return teardown_space(state);
}

#define NEEDS_SANLOCK()                                                        \
	do {                                                                   \
		(void)state;                                                   \
		if (!have_sanlock())                                           \
			skip(); /* no sanlock, or not root */                  \
	} while (0)

static void test_start_says_what_is_missing(void **state)
{
	struct daemon none = { .run = "/nonexistent" };
	struct host h;

	NEEDS_SANLOCK();
	host_fork(&h, &none);
	assert_int_equal(host_start(&h, 0).r, -ECONNREFUSED);
	host_end(&h);
	assert_int_equal(
		do_it(&a, (struct order){ .what = START, .watchdog = true }).r,
		-EPERM);
}

static void test_two_hosts_join(void **state)
{
	struct lease_ref ref;
	struct outcome out, out2;

	NEEDS_SANLOCK();
	assert_int_equal(host_start(&a, 0).r, 0);
	volume_ref(0, &ref);
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 0).r, -EAGAIN);
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 100).r, -EAGAIN);
	assert_int_equal(host_start(&b, 0).r, 0);
	out = host_join(&a);
	out2 = host_join(&b);
	print_message("joined in %llu ms\n", (unsigned long long)out.took_ms);
	assert_int_equal(out.member.state, LEASE_JOINED);
	assert_int_equal(out2.member.state, LEASE_JOINED);
	assert_int_equal(out.member.host_id, 1);
	assert_int_equal(out2.member.host_id, 2);
	assert_true(out.member.generation >= 1);
	assert_true(do_it(&a, (struct order){ .what = CLAIM }).r & FD_CLOEXEC);
}

static void test_one_host_has_it(void **state)
{
	struct lease_ref ref;
	struct outcome out;

	NEEDS_SANLOCK();
	volume_ref(0, &ref);
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 0).r, 0);
	out = do_ref(&b, TAKE, &ref, EX, true, 0);
	assert_int_equal(out.r, -EBUSY);
	assert_non_null(strstr(out.text, "host 1 has it"));
	assert_int_equal(do_ref(&b, TAKE, &ref, SH, true, 0).r, -EBUSY);
	out = do_ref(&b, HOLDERS, &ref, EX, true, 0);
	assert_int_equal(out.r, 0);
	assert_string_equal(out.text, "1");
	out = do_ref(&b, TAKE, &ref, EX, true, 300);
	assert_int_equal(out.r, -EBUSY);
	assert_in_range(out.took_ms, 100, 1500);
	assert_int_equal(do_ref(&a, RELEASE, &ref, EX, true, 0).r, 0);
	assert_int_equal(do_ref(&b, TAKE, &ref, EX, true, 5000).r, 0);
	assert_int_equal(do_ref(&b, RELEASE, &ref, EX, true, 0).r, 0);
}

static void test_waiting_host_gets_it(void **state)
{
	struct order o = { .what = TAKE, .mode = EX, .ms = 20000 };
	struct lease_ref ref;

	NEEDS_SANLOCK();
	lease_ref_domain(&space, &ref);
	o.ref = ref;
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, false, 5000).r, 0);
	tell(&b, &o);
	usleep(300000);
	assert_int_equal(do_ref(&a, RELEASE, &ref, EX, false, 0).r, 0);
	assert_int_equal(hear(&b).r, 0);
	assert_int_equal(do_ref(&b, RELEASE, &ref, EX, false, 0).r, 0);
}

static void test_shared_is_shared(void **state)
{
	struct lease_ref ref;
	struct outcome out;

	NEEDS_SANLOCK();
	volume_ref(1, &ref);
	assert_int_equal(do_ref(&a, TAKE, &ref, SH, true, 5000).r, 0);
	assert_int_equal(do_ref(&b, TAKE, &ref, SH, true, 5000).r, 0);
	out = do_ref(&a, HOLDERS, &ref, SH, true, 0);
	assert_string_equal(out.text, "1 2 shared");
	assert_int_equal(do_ref(&b, RELEASE, &ref, SH, true, 0).r, 0);
	out = do_ref(&b, TAKE, &ref, EX, true, 0);
	assert_int_equal(out.r, -EBUSY);
	assert_int_equal(do_ref(&a, RELEASE, &ref, SH, true, 0).r, 0);
	assert_int_equal(do_ref(&b, TAKE, &ref, EX, true, 5000).r, 0);
	assert_int_equal(do_ref(&b, RELEASE, &ref, EX, true, 0).r, 0);
}

static void test_bad_areas_are_refused(void **state)
{
	struct lease_ref ref;

	NEEDS_SANLOCK();
	volume_ref(6, &ref); /* blank */
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 0).r, -EUCLEAN);
	volume_ref(5, &ref);
	strcpy(ref.name, "volume-x");
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 0).r, -EUCLEAN);
	volume_ref(5, &ref);
	scribble(ref.path, ref.offset + 50);
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 0).r, -EUCLEAN);
	strcpy(ref.path, "/nonexistent");
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 0).r, -EUCLEAN);
	assert_int_equal(do_it(&a, (struct order){ .what = COUNT }).r, 0);
}

static void test_how_long_it_takes(void **state)
{
	struct lease_ref ref;
	struct outcome out;

	NEEDS_SANLOCK();
	volume_ref(2, &ref);
	out = do_ref(&a, BENCH, &ref, EX, true, 0);
	assert_int_equal(out.r, 0);
	print_message("take+release: mean %.1f p50 %.1f p99 %.1f ms\n",
		      out.mean, out.p50, out.p99);
	out = do_ref(&a, BENCH, &ref, SH, true, 0);
	assert_int_equal(out.r, 0);
	print_message("shared: mean %.1f p50 %.1f p99 %.1f ms\n", out.mean,
		      out.p50, out.p99);
}

static void test_second_mount_of_a_host_is_refused(void **state)
{
	struct lease_holder_options o = local_options();
	struct lease_holder *local;
	struct outcome out;
	struct host h;

	NEEDS_SANLOCK();
	host_fork(&h, &daemon_a);
	out = host_start(&h, 0);
	assert_int_equal(out.r, -EBUSY);
	assert_in_range(out.took_ms, 0, 1000);
	host_end(&h);
	/* Nor may anybody think that it has the domain for itself. */
	assert_int_equal(lease_holder_start(&o, &local), -EBUSY);
}

static void test_next_server_finds_leases(void **state)
{
	struct lease_ref ref;
	struct outcome out;

	NEEDS_SANLOCK();
	volume_ref(3, &ref);
	assert_int_equal(do_ref(&a, TAKE, &ref, SH, true, 0).r, 0);
	do_it(&a, (struct order){ .what = NEW_DOOR });
	assert_int_equal(host_join(&a).member.state, LEASE_JOINED);
	out = do_it(&a, (struct order){ .what = LEFTOVER });
	assert_int_equal(out.r, 0);
	assert_string_equal(out.text, ref.name);
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 2000).r, 0);
	assert_int_equal(do_ref(&b, TAKE, &ref, SH, true, 0).r, -EBUSY);
	assert_int_equal(do_ref(&a, RELEASE, &ref, EX, true, 0).r, 0);
}

static void test_keeper_that_dies(void **state)
{
	struct lease_ref domain, vol, shared;
	uint64_t generation;
	struct outcome out;

	NEEDS_SANLOCK();
	lease_ref_domain(&space, &domain);
	volume_ref(3, &vol);
	volume_ref(4, &shared);
	generation = host_join(&b).member.generation;
	assert_int_equal(do_ref(&b, TAKE, &domain, EX, false, 5000).r, 0);
	assert_int_equal(do_ref(&b, TAKE, &vol, EX, true, 5000).r, 0);
	assert_int_equal(do_ref(&b, TAKE, &shared, SH, true, 5000).r, 0);
	host_kill(&b);

	/* The domain lease was its claim's, the volumes are the host's. */
	out = do_ref(&a, TAKE, &domain, EX, false, 5000);
	assert_int_equal(out.r, 0);
	print_message("domain lease of a dead keeper: %llu ms\n",
		      (unsigned long long)out.took_ms);
	assert_int_equal(do_ref(&a, RELEASE, &domain, EX, false, 0).r, 0);
	assert_int_equal(do_ref(&a, TAKE, &vol, EX, true, 0).r, -EBUSY);

	host_fork(&b, &daemon_b);
	assert_int_equal(host_start(&b, 2000).r, 0);
	out = host_join(&b);
	assert_int_equal(out.member.state, LEASE_JOINED);
	assert_int_equal(out.member.host_id, 2);
	assert_true(out.member.generation > generation);
	assert_in_range(out.took_ms, 0, 1500); /* it never left */
	assert_int_equal(do_ref(&b, TAKE, &vol, EX, true, 2000).r, 0);
	assert_int_equal(do_ref(&b, TAKE, &shared, EX, true, 2000).r, 0);
	assert_int_equal(do_ref(&a, TAKE, &shared, SH, true, 0).r, -EBUSY);
	assert_int_equal(do_ref(&b, RELEASE, &vol, EX, true, 0).r, 0);
	assert_int_equal(do_ref(&b, RELEASE, &shared, EX, true, 0).r, 0);
	assert_int_equal(do_ref(&a, TAKE, &vol, EX, true, 2000).r, 0);
	assert_int_equal(do_ref(&a, RELEASE, &vol, EX, true, 0).r, 0);
}

static void test_child_that_outlives_its_keeper(void **state)
{
	struct lease_ref domain;
	struct outcome out;
	pid_t child;

	NEEDS_SANLOCK();
	lease_ref_domain(&space, &domain);
	assert_int_equal(do_ref(&b, TAKE, &domain, EX, false, 5000).r, 0);
	child = do_it(&b, (struct order){ .what = SPAWN }).r;
	assert_true(child > 0);
	usleep(200000); /* until it has its own program */
	host_kill(&b);
	assert_int_equal(do_ref(&a, TAKE, &domain, EX, false, 300).r, -EBUSY);
	host_fork(&b, &daemon_b);
	assert_int_equal(host_start(&b, 100).r, -EBUSY);
	kill(child, SIGKILL);
	assert_int_equal(do_ref(&a, TAKE, &domain, EX, false, 5000).r, 0);
	assert_int_equal(do_ref(&a, RELEASE, &domain, EX, false, 0).r, 0);
	out = host_start(&b, 3000);
	assert_int_equal(out.r, 0);
	assert_int_equal(host_join(&b).member.state, LEASE_JOINED);
}

static void test_nobody_meets_another(void **state)
{
	struct order o = { .what = CONTEND, .ms = 4000 };
	int i, entered = 0;

	NEEDS_SANLOCK();
	tell(&a, &o);
	tell(&b, &o);
	assert_int_equal(hear(&a).r, 0);
	assert_int_equal(hear(&b).r, 0);
	for (i = 0; i < ARENAS; i++) {
		assert_int_equal(atomic_load(&arenas[i].crowded), 0);
		entered += atomic_load(&arenas[i].entered);
	}
	print_message("two hosts, six threads each: %d grants in 4 s\n",
		      entered);
	assert_true(entered > 10);
	assert_int_equal(do_it(&a, (struct order){ .what = COUNT }).r, 0);
	assert_int_equal(do_it(&b, (struct order){ .what = COUNT }).r, 0);
}

static void test_daemon_that_hangs(void **state)
{
	struct lease_ref ref;
	struct outcome out;

	NEEDS_SANLOCK();
	volume_ref(0, &ref);
	kill(daemon_b.pid, SIGSTOP);
	out = do_ref(&b, TAKE, &ref, EX, true, 300);
	assert_int_equal(out.r, -ETIMEDOUT);
	assert_in_range(out.took_ms, 300, 1000);
	out = do_ref(&b, TAKE, &ref, EX, true, 100);
	assert_int_equal(out.r, -ETIMEDOUT);
	kill(daemon_b.pid, SIGCONT);
	/* It took the lease then, for nobody. */
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 5000).r, 0);
	assert_int_equal(do_ref(&a, RELEASE, &ref, EX, true, 0).r, 0);
	assert_int_equal(do_ref(&b, TAKE, &ref, EX, true, 5000).r, 0);
	assert_int_equal(do_ref(&b, RELEASE, &ref, EX, true, 0).r, 0);
}

static void test_clean_stop_and_return(void **state)
{
	struct lease_ref ref;
	struct outcome out;

	NEEDS_SANLOCK();
	volume_ref(0, &ref);
	assert_int_equal(do_ref(&b, TAKE, &ref, EX, true, 5000).r, 0);
	out = do_it(&b, (struct order){ .what = STOP });
	print_message("stopped in %llu ms\n", (unsigned long long)out.took_ms);
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 2000).r, 0);
	assert_int_equal(do_ref(&a, RELEASE, &ref, EX, true, 0).r, 0);

	/* It is known by its name and gets its id again. */
	assert_int_equal(host_start(&b, 0).r, 0);
	/* Stopping while joining does not wait for the join. */
	out = do_it(&b, (struct order){ .what = STOP });
	print_message("stopped joining in %llu ms\n",
		      (unsigned long long)out.took_ms);
	assert_int_equal(host_start(&b, 0).r, 0);
	out = host_join(&b);
	assert_int_equal(out.member.state, LEASE_JOINED);
	assert_int_equal(out.member.host_id, 2);
}

static void test_daemon_that_dies(void **state)
{
	struct order wait = { .what = WAIT,
			      .ms = 20000,
			      .mode = (enum lease_mode)LEASE_JOINED };
	struct lease_ref ref;
	struct outcome out;
	uint64_t begin;

	NEEDS_SANLOCK();
	volume_ref(0, &ref);
	assert_int_equal(do_ref(&b, TAKE, &ref, EX, true, 5000).r, 0);
	tell(&b, &wait);
	begin = now_ms();
	daemon_kill(&daemon_b);
	out = hear(&b);
	assert_int_equal(out.member.state, LEASE_LOST);
	print_message("lost after %llu ms: %s\n",
		      (unsigned long long)(now_ms() - begin), out.member.error);
	assert_in_range(now_ms() - begin, 0, 500);
	assert_int_equal(do_ref(&b, TAKE, &ref, EX, true, 1000).r, -EIO);
	assert_int_equal(do_ref(&b, RELEASE, &ref, EX, true, 0).r, -EIO);
	assert_int_equal(do_it(&b, (struct order){ .what = COUNT }).r, 1);
	do_it(&b, (struct order){ .what = STOP });
	host_end(&b);
	daemon_start(&daemon_b, "host-b");
	host_fork(&b, &daemon_b);
}

static void test_storage_that_dies(void **state)
{
	struct order wait = { .what = WAIT,
			      .ms = 30000,
			      .mode = (enum lease_mode)LEASE_JOINED };
	struct lease_ref ref;
	struct outcome out;

	NEEDS_SANLOCK();
	volume_ref(2, &ref);
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 5000).r, 0);
	assert_int_equal(truncate(space.ids_path, 0), 0);
	out = do_it(&a, wait);
	assert_int_equal(out.member.state, LEASE_LOST);
	print_message("lost after %llu ms: %s\n",
		      (unsigned long long)out.took_ms, out.member.error);
	assert_int_equal(do_ref(&a, TAKE, &ref, EX, true, 100).r, -EIO);
	assert_int_equal(do_ref(&a, RELEASE, &ref, EX, true, 0).r, 0);
	do_it(&a, (struct order){ .what = STOP });
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_start_says_what_is_missing),
		cmocka_unit_test(test_two_hosts_join),
		cmocka_unit_test(test_one_host_has_it),
		cmocka_unit_test(test_waiting_host_gets_it),
		cmocka_unit_test(test_shared_is_shared),
		cmocka_unit_test(test_bad_areas_are_refused),
		cmocka_unit_test(test_how_long_it_takes),
		cmocka_unit_test(test_second_mount_of_a_host_is_refused),
		cmocka_unit_test(test_next_server_finds_leases),
		cmocka_unit_test(test_keeper_that_dies),
		cmocka_unit_test(test_child_that_outlives_its_keeper),
		cmocka_unit_test(test_nobody_meets_another),
		cmocka_unit_test(test_daemon_that_hangs),
		cmocka_unit_test(test_clean_stop_and_return),
		cmocka_unit_test(test_daemon_that_dies),
		cmocka_unit_test(test_storage_that_dies),
	};

	return cmocka_run_group_tests_name("lease hosts", tests, setup_hosts,
					   teardown_hosts);
}
