/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Fault points: armed by the mount option, acted on once. */
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <unistd.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/fault.h"
#include "ovstorfs/log.h"
#include "ovstorfs/str.h"

/* The linker's names for the ends of the section that fault_point() fills. */
extern const char *const __start_fault_points[] __attribute__((weak));
extern const char *const __stop_fault_points[] __attribute__((weak));

enum action { KILL, BOTH, HANG, ERROR };

struct fault {
	char name[64];
	uint64_t at;
	enum action action;
	int error;
};

static struct fault faults[FAULT_MAX];
static int n_faults;
static struct fault_counts own_counts;
static struct fault_counts *counts = &own_counts;
static int keeper;

static bool known(const char *name)
{
	const char *const *p;

	for (p = __start_fault_points; p < __stop_fault_points; p++)
		if (streq(*p, name))
			return true;
	return false;
}

static int parse_action(const char *s, struct fault *f)
{
	if (streq(s, "kill")) {
		f->action = KILL;
	} else if (streq(s, "both")) {
		f->action = BOTH;
	} else if (streq(s, "hang")) {
		f->action = HANG;
	} else {
		f->action = ERROR;
		f->error = err_by_name(s);
		if (!f->error)
			return err_new(-EINVAL, "fault: no action is %s", s);
	}
	return 0;
}

static int parse(const char *spec, struct fault *f)
{
	auto_free char *copy = xstrdup(spec);
	char *save = NULL;
	char *name = strtok_r(copy, ":", &save);
	char *nth = strtok_r(NULL, ":", &save);
	char *action = strtok_r(NULL, ":", &save);

	if (!name || strlen(name) >= sizeof(f->name) ||
	    strtok_r(NULL, ":", &save))
		return err_new(-EINVAL, "fault=%s: not NAME[:N[:ACTION]]",
			       spec);
	if (!known(name))
		return err_new(-ENOENT, "no fault point is called %s", name);
	strcpy(f->name, name);
	f->at = 1;
	if (nth && (parse_u64(nth, &f->at) < 0 || f->at == 0))
		return err_new(-EINVAL, "fault=%s: %s is no count", spec, nth);
	return parse_action(action ? action : "kill", f);
}

int fault_check(const char *spec)
{
	struct fault f = { 0 };

	return parse(spec, &f);
}

int fault_arm(const char *spec)
{
	if (n_faults == FAULT_MAX)
		return err_new(-E2BIG, "more than %d faults", FAULT_MAX);
	memset(&faults[n_faults], 0, sizeof(faults[n_faults]));
	if (parse(spec, &faults[n_faults]) < 0)
		return parse(spec, &faults[n_faults]);
	n_faults++;
	return 0;
}

void fault_share(struct fault_counts *shared, int keeper_pid)
{
	counts = shared;
	keeper = keeper_pid;
}

static int act(const struct fault *f)
{
	log_warn("fault point %s acts", f->name);
	switch (f->action) {
	case BOTH:
		if (keeper)
			kill(keeper, SIGKILL);
		/* fall through */
	case KILL:
		kill(getpid(), SIGKILL);
		/* fall through */
	case HANG:
		for (;;)
			pause();
	case ERROR:
		break;
	}
	return err_new(f->error, "fault point %s", f->name);
}

int fault_pass(const char *name)
{
	int i;

	for (i = 0; i < n_faults; i++) {
		uint32_t n;

		if (!streq(faults[i].name, name))
			continue;
		n = __atomic_add_fetch(&counts->passed[i], 1, __ATOMIC_SEQ_CST);
		if (n == faults[i].at)
			return act(&faults[i]);
	}
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

void fault_list(FILE *out)
{
	size_t i, n = (size_t)(__stop_fault_points - __start_fault_points);
	auto_free const char **names = xcalloc(n + 1, sizeof(*names));

	for (i = 0; i < n; i++)
		names[i] = __start_fault_points[i];
	qsort(names, n, sizeof(*names), by_name);
	for (i = 0; i < n; i++)
		if (i == 0 || !streq(names[i], names[i - 1]))
			fprintf(out, "%s\n", names[i]);
}
