/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ground floor: text, numbers, UUIDs, sums, maps, files, programs. */
#include <fcntl.h>
#include <sys/stat.h>

#include "ovstorfs/fault.h"
#include "ovstorfs/map.h"
#include "unit.h"

/* ---- text and numbers ---- */

static void test_sizes_are_read_strictly(void **state)
{
	static const struct {
		const char *text;
		int result;
		uint64_t bytes;
	} cases[] = {
		{ "0", 0, 0 },
		{ "1", 0, 1 },
		{ "4k", 0, 4096 },
		{ "20G", 0, 20ull << 30 },
		{ "9223372036854775807", 0, INT64_MAX },
		{ "8191P", 0, 8191ull << 50 },
		{ "9223372036854775808", -ERANGE, 0 },
		{ "8192P", -ERANGE, 0 },
		{ "18446744073709551616", -ERANGE, 0 },
		{ "", -EINVAL, 0 },
		{ "G", -EINVAL, 0 },
		{ "-1", -EINVAL, 0 },
		{ "+1", -EINVAL, 0 },
		{ " 1", -EINVAL, 0 },
		{ "1 ", -EINVAL, 0 },
		{ "1.5G", -EINVAL, 0 },
		{ "0x10", -EINVAL, 0 },
		{ "1GG", -EINVAL, 0 },
		{ "1GiB", -EINVAL, 0 },
		{ "1e3", -EINVAL, 0 },
	};
	uint64_t bytes;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		bytes = 77;
		assert_int_equal(parse_size(cases[i].text, &bytes),
				 cases[i].result);
		assert_int_equal(bytes, cases[i].result ? 77 : cases[i].bytes);
	}
}

static void test_sizes_for_people(void **state)
{
	char out[16];

	(void)state;
	assert_string_equal(format_size(0, out), "0");
	assert_string_equal(format_size(1536, out), "1.5K");
	assert_string_equal(format_size(20ull << 30, out), "20G");
	assert_true(strlen(format_size(UINT64_MAX, out)) < sizeof(out));
}

static void test_times_round_trip(void **state)
{
	static const time_t times[] = { 0, 1, 951782400, 2147483648,
					253402300799 };
	char out[24];
	time_t t = 0;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(times); i++) {
		assert_int_equal(parse_time(format_time(times[i], out), &t), 0);
		assert_int_equal(t, times[i]);
	}
	assert_int_equal(parse_time("2026-01-31T12:00:00", &t), -EINVAL);
	assert_int_equal(parse_time("2026-01-31T12:00:00Zz", &t), -EINVAL);
	assert_int_equal(parse_time("yesterday", &t), -EINVAL);
	assert_int_equal(parse_time("", &t), -EINVAL);
}

static bool is_plain(const char *s)
{
	return text_is_plain(s, strlen(s));
}

static void test_plain_text_is_utf8_without_control(void **state)
{
	(void)state;
	assert_true(is_plain(""));
	assert_true(is_plain("a disk, \xc3\xbc\xe2\x82\xac\xf0\x9f\x92\xbe"));
	assert_true(is_plain("\xf4\x8f\xbf\xbf"));
	assert_false(text_is_plain("a\0b", 3));
	assert_false(is_plain("a\nb"));
	assert_false(is_plain("\x1b[2J"));
	assert_false(is_plain("\x7f"));
	assert_false(is_plain("\xff"));
	assert_false(is_plain("\x80"));
	assert_false(is_plain("\xc0\xaf")); /* overlong */
	assert_false(is_plain("\xe0\x80\xaf"));
	assert_false(is_plain("\xf0\x80\x80\xaf"));
	assert_false(is_plain("\xed\xa0\x80")); /* a surrogate */
	assert_false(is_plain("\xf4\x90\x80\x80"));
	assert_false(is_plain("\xc3")); /* cut off */
	assert_false(is_plain("\xe2\x82"));
	assert_false(is_plain("\xe2\x28\xa1"));
}

static void test_strings_grow(void **state)
{
	auto_strbuf struct strbuf b = { 0 };
	int i;

	(void)state;
	for (i = 0; i < 1000; i++)
		strbuf_printf(&b, "%d,", i);
	assert_int_equal(b.len, strlen(b.text));
	assert_true(str_starts(b.text, "0,1,2,"));
	strbuf_add(&b, "x\0y", 3);
	assert_int_equal(b.text[b.len - 1], 'y');
	assert_int_equal(b.text[b.len], 0);
}

/* ---- UUIDs ---- */

#define GOOD "0123abcd-4567-89ab-cdef-0123456789ab"

static void test_uuid_has_one_name(void **state)
{
	static const char *const bad[] = {
		"",
		"0123ABCD-4567-89ab-cdef-0123456789ab",
		GOOD "0",
		GOOD " ",
		(" " GOOD),
		"0123abcd-4567-89ab-cdef-0123456789a",
		"0123abcd45-67-89ab-cdef-0123456789ab",
		"0123abcd-4567-89ab-cdef-0123456789ag",
		"{123abcd-4567-89ab-cdef-0123456789a}",
		"00000000-0000-0000-0000-000000000000",
		"0123abcd-4567-89ab-cdef/0123456789ab",
	};
	struct uuid u, v;
	char text[UUID_TEXT];
	size_t i;

	(void)state;
	assert_int_equal(uuid_parse(GOOD, &u), 0);
	assert_string_equal(uuid_format(&u, text), GOOD);
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		v = u;
		assert_int_equal(uuid_parse(bad[i], &v), -EINVAL);
		assert_true(uuid_eq(&u, &v));
	}
	uuid_new(&v);
	assert_false(uuid_eq(&u, &v));
	assert_int_equal(uuid_parse(uuid_format(&v, text), &u), 0);
	assert_true(uuid_eq(&u, &v));
	assert_true(uuid_hash(&u) == uuid_hash(&v));
}

/* ---- sums ---- */

static void test_crc32c_knows_the_vectors_of_rfc_3720(void **state)
{
	uint8_t data[32];
	int i;

	(void)state;
	assert_int_equal(crc32c(0, "", 0), 0);
	assert_int_equal(crc32c(0, "123456789", 9), 0xe3069283);
	memset(data, 0, sizeof(data));
	assert_int_equal(crc32c(0, data, sizeof(data)), 0x8a9136aa);
	memset(data, 0xff, sizeof(data));
	assert_int_equal(crc32c(0, data, sizeof(data)), 0x62a8ab43);
	for (i = 0; i < 32; i++)
		data[i] = (uint8_t)i;
	assert_int_equal(crc32c(0, data, sizeof(data)), 0x46dd794e);
	assert_int_equal(crc32c(crc32c(0, "1234", 4), "56789", 5), 0xe3069283);
}

/* ---- maps ---- */

static size_t count_of(const struct map *m, uint64_t key)
{
	size_t cursor = 0, n = 0;

	while (map_find(m, key, &cursor))
		n++;
	return n;
}

static void test_map_keeps_what_is_added(void **state)
{
	static int values[5000];
	struct map m = { 0 };
	size_t i, n = 0, cursor = 0;

	(void)state;
	assert_int_equal(count_of(&m, 1), 0);
	assert_null(map_each(&m, &cursor));
	/* Ten values a key; then half of all are taken out and put back. */
	for (i = 0; i < ARRAY_SIZE(values); i++)
		map_add(&m, i / 10, &values[i]);
	for (i = 0; i < ARRAY_SIZE(values); i += 2)
		map_del(&m, i / 10, &values[i]);
	map_del(&m, 1, &values[0]); /* not there: nothing happens */
	for (i = 0; i < ARRAY_SIZE(values) / 10; i++)
		assert_int_equal(count_of(&m, i), 5);
	for (i = 0; i < ARRAY_SIZE(values); i += 2)
		map_add(&m, i / 10, &values[i]);
	for (i = 0; i < ARRAY_SIZE(values) / 10; i++)
		assert_int_equal(count_of(&m, i), 10);
	cursor = 0;
	while (map_each(&m, &cursor))
		n++;
	assert_int_equal(n, ARRAY_SIZE(values));
	assert_int_equal(m.count, n);
	map_fini(&m);
}

static void test_map_does_not_grow_by_turnover(void **state)
{
	struct map m = { 0 };
	int value;
	uint64_t i;

	(void)state;
	for (i = 0; i < 100000; i++) {
		map_add(&m, i, &value);
		map_del(&m, i, &value);
	}
	assert_int_equal(m.count, 0);
	assert_true(m.room <= 64);
	map_fini(&m);
}

/* ---- errors ---- */

static void test_error_lines(void **state)
{
	(void)state;
	err_clear();
	assert_string_equal(err_text(-ENOSPC), strerror(ENOSPC));
	assert_int_equal(err_new(-EBUSY, "host %d has it", 3), -EBUSY);
	assert_int_equal(err_add(-EBUSY, "open"), -EBUSY);
	assert_string_equal(err_text(-EBUSY), "open: host 3 has it");
	assert_string_equal(err_text(-EIO), strerror(EIO));
	assert_string_equal(err_name(-ENOSPC), "ENOSPC");
	assert_int_equal(err_by_name("ENOSPC"), -ENOSPC);
	assert_int_equal(err_by_name("ENOSPACE"), 0);
	assert_int_equal(err_by_name(""), 0);
}

/* ---- fault points ---- */

static int passes_a_point(void)
{
	return fault_point("test_base.point");
}

static void test_fault_specs_are_read_strictly(void **state)
{
	static const char *const bad[] = {
		"",
		":",
		"test_base.point:0",
		"test_base.point:-1",
		"test_base.point:x",
		"test_base.point:1:die",
		"test_base.point:1:EWHAT",
		"test_base.point:1:kill:more",
	};
	char longer[200];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(fault_check(bad[i]), -EINVAL);
	memset(longer, 'x', sizeof(longer) - 1);
	longer[sizeof(longer) - 1] = '\0';
	assert_int_equal(fault_check(longer), -EINVAL);
	assert_int_equal(fault_check("test_base.nowhere"), -ENOENT);
	assert_int_equal(fault_check("test_base.point"), 0);
	assert_int_equal(fault_check("test_base.point:3:both"), 0);
	assert_int_equal(fault_check("test_base.point:3:hang"), 0);
}

static void test_fault_acts_once(void **state)
{
	(void)state;
	assert_int_equal(passes_a_point(), 0);
	assert_int_equal(fault_arm("test_base.point:2:ENOSPC"), 0);
	assert_int_equal(passes_a_point(), 0);
	assert_int_equal(passes_a_point(), -ENOSPC);
	assert_non_null(strstr(err_text(-ENOSPC), "test_base.point"));
	assert_int_equal(passes_a_point(), 0);
}

/* ---- files ---- */

static int open_dir(void **state)
{
	int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

	assert_true(fd >= 0);
	return fd;
}

static void put_file(int dir, const char *name, const char *text)
{
	auto_close int fd =
		openat(dir, name, O_CREAT | O_WRONLY | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write_full(fd, text, strlen(text)), 0);
}

static void test_paths_stay_beneath(void **state)
{
	auto_close int dir = open_dir(state);
	int fd;

	assert_int_equal(mkdirat(dir, "sub", 0700), 0);
	put_file(dir, "sub/file", "text");
	assert_int_equal(symlinkat("sub", dir, "link"), 0);
	assert_int_equal(symlinkat("file", dir, "sub/link"), 0);
	fd = open_file_beneath(dir, "sub/file", O_RDONLY, 0);
	assert_true(fd >= 0);
	close(fd);
	assert_int_equal(open_file_beneath(dir, "sub/link", O_RDONLY, 0),
			 -EUCLEAN);
	assert_true(open_file_beneath(dir, "link/file", O_RDONLY, 0) < 0);
	assert_true(open_file_beneath(dir, "../passwd", O_RDONLY, 0) < 0);
	assert_true(open_file_beneath(dir, "sub/../../x", O_RDONLY, 0) < 0);
	assert_int_equal(open_beneath(dir, "/etc/passwd", O_RDONLY, 0), -EXDEV);
	assert_int_equal(open_dir_beneath(dir, "link"), -EUCLEAN);
	assert_int_equal(open_dir_beneath(dir, "sub/file"), -EUCLEAN);
	assert_int_equal(open_file_beneath(dir, "none", O_RDONLY, 0), -ENOENT);
}

static void test_only_regular_files_are_opened(void **state)
{
	auto_close int dir = open_dir(state);
	uint64_t start = now_ms();

	assert_int_equal(mkfifoat(dir, "fifo", 0600), 0);
	assert_int_equal(mkdirat(dir, "dir", 0700), 0);
	assert_int_equal(open_file_beneath(dir, "fifo", O_RDONLY, 0), -EUCLEAN);
	assert_int_equal(open_file_beneath(dir, "fifo", O_WRONLY, 0), -EUCLEAN);
	assert_int_equal(open_file_beneath(dir, "fifo", O_RDWR, 0), -EUCLEAN);
	assert_int_equal(open_file_beneath(dir, "dir", O_RDONLY, 0), -EUCLEAN);
	assert_int_equal(open_file_beneath(dir, "dir", O_RDWR, 0), -EUCLEAN);
	assert_true(now_ms() - start < 1000);
}

static void test_files_are_read_whole_or_not(void **state)
{
	auto_close int dir = open_dir(state);
	auto_free char *text = NULL;
	size_t len = 0;
	char buf[8];
	int fd;

	put_file(dir, "five", "12345");
	assert_int_equal(read_file_at(dir, "five", 5, &text, &len), 0);
	assert_int_equal(len, 5);
	assert_string_equal(text, "12345");
	assert_int_equal(read_file_at(dir, "five", 4, &text, &len), -EFBIG);
	put_file(dir, "none", "");
	free(steal(text));
	assert_int_equal(read_file_at(dir, "none", 4, &text, &len), 0);
	assert_int_equal(len, 0);
	fd = open_file_beneath(dir, "five", O_RDONLY, 0);
	assert_int_equal(pread_full(fd, buf, 5, 0), 0);
	assert_int_equal(pread_full(fd, buf, 6, 0), -EIO);
	close(fd);
	assert_int_equal(pread_full(-1, buf, 1, 0), -EBADF);
}

/* ---- programs ---- */

static int run(const char *const *argv, int timeout_ms, char **ret_out)
{
	struct spawn s = { .argv = argv, .timeout_ms = timeout_ms };

	return spawn_run(&s, ret_out);
}

static void test_program_answers(void **state)
{
	const char *const echo[] = { "echo", "a b", NULL };
	const char *const fail[] = { "sh", "-c",
				     "echo one >&2; "
				     "echo two >&2; exit 3",
				     NULL };
	const char *const none[] = { "ovstorfs-no-such-program", NULL };
	const char *const env[] = { "env", NULL };
	auto_free char *out = NULL;

	(void)state;
	assert_int_equal(run(echo, 10000, &out), 0);
	assert_string_equal(out, "a b\n");
	assert_int_equal(run(fail, 10000, NULL), -EIO);
	assert_non_null(strstr(err_text(-EIO), "exit code 3: two"));
	assert_int_equal(run(none, 10000, NULL), -ENOENT);
	free(steal(out));
	setenv("SECRET", "x", 1);
	assert_int_equal(run(env, 10000, &out), 0);
	assert_null(strstr(out, "SECRET"));
	assert_non_null(strstr(out, "LC_ALL=C"));
}

static void test_program_is_killed_at_its_deadline(void **state)
{
	const char *const argv[] = { "sleep", "60", NULL };
	uint64_t start = now_ms();

	(void)state;
	assert_int_equal(run(argv, 200, NULL), -ETIMEDOUT);
	assert_true(now_ms() - start < 10000);
}

static void test_program_gets_no_descriptors_but_those_named(void **state)
{
	const char *const argv[] = { "ls", "/proc/self/fd", NULL };
	auto_close int keep = open("/dev/null", O_RDONLY | O_CLOEXEC);
	auto_close int other = open("/dev/null", O_RDONLY);
	auto_free char *out = NULL;
	char kept[16], not_kept[16];
	struct spawn s = { .argv = argv,
			   .keep_fds = &keep,
			   .n_keep_fds = 1,
			   .timeout_ms = 10000 };

	(void)state;
	keep = fcntl(keep, F_DUPFD_CLOEXEC, 700);
	other = fcntl(other, F_DUPFD, 800);
	assert_int_equal(spawn_run(&s, &out), 0);
	snprintf(kept, sizeof(kept), "%d\n", keep);
	snprintf(not_kept, sizeof(not_kept), "%d\n", other);
	assert_non_null(strstr(out, kept));
	assert_null(strstr(out, not_kept));
}

#define WITH_DIR(test)                                                         \
	cmocka_unit_test_setup_teardown(test, make_dir, remove_dir)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sizes_are_read_strictly),
		cmocka_unit_test(test_sizes_for_people),
		cmocka_unit_test(test_times_round_trip),
		cmocka_unit_test(test_plain_text_is_utf8_without_control),
		cmocka_unit_test(test_strings_grow),
		cmocka_unit_test(test_uuid_has_one_name),
		cmocka_unit_test(test_crc32c_knows_the_vectors_of_rfc_3720),
		cmocka_unit_test(test_map_keeps_what_is_added),
		cmocka_unit_test(test_map_does_not_grow_by_turnover),
		cmocka_unit_test(test_error_lines),
		cmocka_unit_test(test_fault_specs_are_read_strictly),
		cmocka_unit_test(test_fault_acts_once),
		WITH_DIR(test_paths_stay_beneath),
		WITH_DIR(test_only_regular_files_are_opened),
		WITH_DIR(test_files_are_read_whole_or_not),
		cmocka_unit_test(test_program_answers),
		cmocka_unit_test(test_program_is_killed_at_its_deadline),
		cmocka_unit_test(
			test_program_gets_no_descriptors_but_those_named),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
