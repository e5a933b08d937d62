/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A main() for fuzzers without libFuzzer: bends the seeds, the same way in
 * each run.
 *
 *	fuzz_NAME [SECONDS [FIRST-ROUND]]
 *	fuzz_NAME FILE...		these inputs, once each
 *
 * What made it abort is in the file ./fuzz-crash, and the round was printed. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "fuzz.h"

#define ROOM (70 * 1024)

static uint64_t state;

/* xorshift64* */
static uint32_t next(uint32_t below)
{
	state ^= state >> 12;
	state ^= state << 25;
	state ^= state >> 27;
	return (uint32_t)((state * 0x2545f4914f6cdd1dull) >> 32) % below;
}

static size_t flip_bit(uint8_t *d, size_t len)
{
	if (len)
		d[next((uint32_t)len)] ^= (uint8_t)(1u << next(8));
	return len;
}

static size_t set_byte(uint8_t *d, size_t len)
{
	static const uint8_t values[] = { 0,   1,   0x7f, 0x80, 0xff, '\n',
					  ' ', '=', '0',  '9',	'-',  '.' };

	if (len)
		d[next((uint32_t)len)] = values[next(sizeof(values))];
	return len;
}

static size_t cut(uint8_t *d, size_t len)
{
	(void)d;
	return len ? next((uint32_t)len) : 0;
}

static size_t remove_some(uint8_t *d, size_t len)
{
	size_t at = len ? next((uint32_t)len) : 0;
	size_t n = next(16) + 1;

	if (at + n > len)
		return len;
	memmove(d + at, d + at + n, len - at - n);
	return len - n;
}

static size_t repeat_some(uint8_t *d, size_t len)
{
	size_t at = len ? next((uint32_t)len) : 0;
	size_t n = len ? next((uint32_t)(len - at)) + 1 : 0;

	if (len + n > ROOM)
		return len;
	memmove(d + at + n, d + at, len - at);
	return len + n;
}

static size_t bend(uint8_t *d, size_t len)
{
	static size_t (*const ways[])(uint8_t *, size_t) = {
		flip_bit, flip_bit,    set_byte,    set_byte,
		set_byte, remove_some, repeat_some, cut,
	};
	unsigned int times = next(4);

	do
		len = ways[next(sizeof(ways) / sizeof(ways[0]))](d, len);
	while (times--);
	return len;
}

/* On memory of its very size, so that a read past the end is seen. */
static void run_one(const uint8_t *data, size_t len)
{
	uint8_t *exact = malloc(len ? len : 1);

	if (!exact)
		abort();
	memcpy(exact, data, len);
	LLVMFuzzerTestOneInput(exact, len);
	free(exact);
}

static const uint8_t *current;
static size_t current_len;
static uint64_t current_round;

static void save_crash(int sig)
{
	int fd = open("fuzz-crash", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	char line[64];
	int n = snprintf(line, sizeof(line), "signal %d in round %llu\n", sig,
			 (unsigned long long)current_round);

	if (write(fd, current, current_len) < 0 ||
	    write(STDERR_FILENO, line, (size_t)n) < 0)
		_exit(3);
	signal(sig, SIG_DFL);
	raise(sig);
}

static unsigned int count_seeds(uint8_t *buf)
{
	unsigned int n = 0;

	while (fuzz_seed(n, buf, ROOM)) {
		run_one(buf, fuzz_seed(n, buf, ROOM));
		n++;
	}
	return n;
}

static void run_for(double seconds, uint64_t round)
{
	uint8_t *buf = calloc(1, ROOM);
	unsigned int seeds = buf ? count_seeds(buf) : 0;
	uint64_t first = round;
	time_t end = time(NULL) + (time_t)seconds + 1;

	if (!seeds)
		abort();
	current = buf;
	signal(SIGABRT, save_crash);
	signal(SIGSEGV, save_crash);
	for (; time(NULL) < end; round++) {
		/* Each round stands by itself, so that one can be repeated. */
		state = (round + 1) * 0x9e3779b97f4a7c15ull;
		current_len = fuzz_seed(next(seeds), buf, ROOM);
		current_len = bend(buf, current_len);
		current_round = round;
		run_one(buf, current_len);
	}
	printf("%llu rounds\n", (unsigned long long)(round - first));
	free(buf);
}

static int run_file(const char *path)
{
	uint8_t *buf = malloc(ROOM);
	FILE *f = fopen(path, "r");
	size_t len;

	if (!f || !buf) {
		perror(path);
		free(buf);
		return 1;
	}
	len = fread(buf, 1, ROOM, f);
	fclose(f);
	run_one(buf, len);
	free(buf);
	return 0;
}

int main(int argc, char **argv)
{
	int i, r = 0;

	if (argc > 1 && access(argv[1], R_OK) == 0) {
		for (i = 1; i < argc; i++)
			r |= run_file(argv[i]);
		return r;
	}
	run_for(argc > 1 ? strtod(argv[1], NULL) : 5,
		argc > 2 ? strtoull(argv[2], NULL, 10) : 0);
	return 0;
}
