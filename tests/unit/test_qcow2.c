/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is read from a qcow2 header, which a guest's owner may have written. */
#include "ovstorfs/model.h"
#include "unit.h"

static void put_be(uint8_t *p, uint64_t v, int bytes)
{
	while (bytes--) {
		p[bytes] = (uint8_t)v;
		v >>= 8;
	}
}

static void fill(uint8_t *h, uint32_t version, uint64_t size)
{
	memset(h, 0, QCOW2_HEADER);
	put_be(h, 0x514649fb, 4);
	put_be(h + 4, version, 4);
	put_be(h + 24, size, 8);
}

static void test_size_is_read(void **state)
{
	uint8_t h[QCOW2_HEADER];
	uint64_t size = 0;

	(void)state;
	fill(h, 3, 10ull << 30);
	assert_int_equal(qcow2_parse_size(h, sizeof(h), &size), 0);
	assert_true(size == 10ull << 30);
	fill(h, 2, INT64_MAX);
	assert_int_equal(qcow2_parse_size(h, sizeof(h), &size), 0);
	assert_true(size == INT64_MAX);
}

static void test_other_headers_are_refused(void **state)
{
	uint8_t h[QCOW2_HEADER];
	uint64_t size = 7;
	size_t len;

	(void)state;
	fill(h, 3, 4096);
	for (len = 0; len < sizeof(h); len++)
		assert_int_equal(qcow2_parse_size(h, len, &size), -EINVAL);
	h[0] ^= 1;
	assert_int_equal(qcow2_parse_size(h, sizeof(h), &size), -EINVAL);
	fill(h, 1, 4096);
	assert_int_equal(qcow2_parse_size(h, sizeof(h), &size), -EINVAL);
	fill(h, 4, 4096);
	assert_int_equal(qcow2_parse_size(h, sizeof(h), &size), -EINVAL);
	fill(h, 3, 1ull << 63);
	assert_int_equal(qcow2_parse_size(h, sizeof(h), &size), -EINVAL);
	assert_int_equal(size, 7);
}

static int backing(uint64_t offset, uint64_t len, struct qcow2_backing *ret)
{
	uint8_t h[QCOW2_HEADER];

	fill(h, 3, 4096);
	put_be(h + 8, offset, 8);
	put_be(h + 16, len, 4);
	return qcow2_parse_backing(h, sizeof(h), ret);
}

static void test_backing_file_stays_in_bounds(void **state)
{
	struct qcow2_backing b = { 1, 1 };

	(void)state;
	assert_int_equal(backing(0, 0, &b), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(backing(0, 99999, &b), 0);
	assert_int_equal(b.len, 0);
	assert_int_equal(backing(400, 36, &b), 0);
	assert_int_equal(b.offset, 400);
	assert_int_equal(b.len, 36);
	assert_int_equal(backing(400, QCOW2_BACKING_MAX, &b), 0);
	assert_int_equal(backing(400, QCOW2_BACKING_MAX + 1, &b), -EINVAL);
	assert_int_equal(backing(400, UINT32_MAX, &b), -EINVAL);
	assert_int_equal(backing(UINT64_MAX, 36, &b), -EINVAL);
	assert_int_equal(backing(INT64_MAX - 35, 36, &b), -EINVAL);
	assert_int_equal(backing(INT64_MAX - 36, 36, &b), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_size_is_read),
		cmocka_unit_test(test_other_headers_are_refused),
		cmocka_unit_test(test_backing_file_stays_in_bounds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
