/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qemu-img as a child: arguments in, an error code out. */
#include <string.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/qemuimg.h"
#include "ovstorfs/spawn.h"
#include "ovstorfs/str.h"

#define TIMEOUT_MS 30000

int qemuimg_create_layer(const struct qemuimg_layer *l)
{
	auto_free char *path = xprintf("/proc/self/fd/%d", l->fd);
	auto_free char *size = xprintf("%llu", (unsigned long long)l->size);
	const char *const argv[] = {
		"qemu-img", "create", "-q",	  "-f", "qcow2",
		"-u",	    "-b",     l->backing, "-F", l->backing_format,
		path,	    size,     NULL
	};
	const int fds[] = { l->fd, l->claim_fd };
	struct spawn s = { .argv = argv,
			   .keep_fds = fds,
			   .n_keep_fds = l->claim_fd < 0 ? 1 : 2,
			   .timeout_ms = TIMEOUT_MS };
	int r = spawn_run(&s, NULL);

	/* It has no exit code of its own for a full disk, only words. */
	if (r == -EIO && strstr(err_text(r), strerror(ENOSPC)))
		return err_add(-ENOSPC, "qemu-img");
	return r;
}

static int run(const char *const *argv)
{
	struct spawn s = { .argv = argv, .timeout_ms = TIMEOUT_MS };

	return spawn_run(&s, NULL);
}

int qemuimg_create(const char *path, uint64_t size)
{
	auto_free char *bytes = xprintf("%llu", (unsigned long long)size);
	const char *const argv[] = { "qemu-img", "create", "-q",  "-f",
				     "qcow2",	 path,	   bytes, NULL };

	return run(argv);
}

int qemuimg_resize(const char *path, uint64_t size)
{
	auto_free char *bytes = xprintf("%llu", (unsigned long long)size);
	const char *const argv[] = { "qemu-img", "resize", "-q",  "-f",
				     "qcow2",	 path,	   bytes, NULL };

	return run(argv);
}
