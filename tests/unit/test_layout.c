/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of a file domain: each object has one, and no other means it. */
#include "unit.h"

#include "../../backend/storage/file/file.h"

#define V "0123abcd-4567-89ab-cdef-0123456789ab"
#define I "11111111-2222-3333-4444-555555555555"

static const char *last_of(const char *path)
{
	return strrchr(path, '/') + 1;
}

static void test_image_directories_round_trip(void **state)
{
	static const enum record dirs[] = { RECORD_LIVE, RECORD_NEW,
					    RECORD_REMOVED, RECORD_DYING };
	struct ref ref = { .image = uuid_of(I) }, back;
	char path[NAME_ROOM];
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(dirs); i++) {
		layout_image_dir(&ref, dirs[i], path);
		assert_true(str_starts(path, "images/" I));
		assert_int_equal(layout_parse_image(last_of(path), &back), 0);
		assert_true(uuid_eq(&back.image, &ref.image));
		assert_false(ref_is_volume(&back));
		assert_int_equal(back.dir, dirs[i]);
	}
}

static void round_trip(const struct ref *ref, enum file_part part,
		       enum record state)
{
	struct uuid volume;
	char path[NAME_ROOM];
	enum file_part got_part;
	enum record got_state;

	layout_path(ref, part, state, path);
	assert_int_equal(layout_parse_volume(last_of(path), &volume, &got_part,
					     &got_state),
			 0);
	assert_true(uuid_eq(&volume, &ref->volume));
	assert_int_equal(got_part, part);
	assert_int_equal(got_state, state);
}

static void test_volume_names_round_trip(void **state)
{
	struct ref ref = { .image = uuid_of(I), .volume = uuid_of(V) };
	int s;

	(void)state;
	for (s = 0; s < RECORD_STATES; s++)
		round_trip(&ref, PART_RECORD, (enum record)s);
	round_trip(&ref, PART_DATA, RECORD_LIVE);
	round_trip(&ref, PART_LEASE, RECORD_LIVE);
}

static void test_image_records_round_trip(void **state)
{
	static const enum record states[] = { RECORD_LIVE, RECORD_SET,
					      RECORD_UNDO, RECORD_REMOVING };
	struct ref ref = { .image = uuid_of(I) };
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(states); i++)
		round_trip(&ref, PART_RECORD, states[i]);
}

/* What is in an image follows it through its states. */
static void test_paths_follow_the_image(void **state)
{
	struct ref ref = { .image = uuid_of(I), .volume = uuid_of(V) };
	char path[NAME_ROOM];

	(void)state;
	layout_path(&ref, PART_DATA, RECORD_LIVE, path);
	assert_string_equal(path, "images/" I "/" V);
	ref.dir = RECORD_REMOVED;
	layout_path(&ref, PART_RECORD, RECORD_REMOVING, path);
	assert_string_equal(path, "images/" I ".removed/" V ".meta.removing");
	layout_path(&ref, PART_LEASE, RECORD_LIVE, path);
	assert_string_equal(path, "images/" I ".removed/" V ".lease");
}

static void test_hostile_names_mean_nothing(void **state)
{
	static const char *const bad[] = {
		"",
		".",
		"..",
		"x",
		"images",
		"image.",
		"image.new",
		"image.settle",
		"Image",
		V ".",
		V ".met",
		V ".meta.",
		V ".meta.live",
		V ".meta.newer",
		V ".meta.new.new",
		V ".lease.new",
		V ".META",
		V " ",
		V "\n",
		V "/",
		V "0",
		(" " V),
		"0123ABCD-4567-89ab-cdef-0123456789ab",
		"0123abcd-4567-89ab-cdef-0123456789a",
		"0123abcd-4567-89ab-cdef-0123456789ag.meta",
		"00000000-0000-0000-0000-000000000000",
		"00000000-0000-0000-0000-000000000000.meta",
		"\xff\xfe",
	};
	struct ref ref = { 0 };
	struct uuid u;
	enum file_part part;
	enum record s;
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		assert_int_equal(layout_parse_volume(bad[i], &u, &part, &s),
				 -EINVAL);
		assert_int_equal(layout_parse_image(bad[i], &ref), -EINVAL);
	}
	assert_true(uuid_is_nil(&ref.image));
	assert_int_equal(layout_parse_image(V ".meta", &ref), -EINVAL);
	assert_int_equal(layout_parse_image(V ".set", &ref), -EINVAL);
	assert_int_equal(layout_parse_image("image", &ref), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_image_directories_round_trip),
		cmocka_unit_test(test_volume_names_round_trip),
		cmocka_unit_test(test_image_records_round_trip),
		cmocka_unit_test(test_paths_follow_the_image),
		cmocka_unit_test(test_hostile_names_mean_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
