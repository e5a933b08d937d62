/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The change ring, over a domain in a directory of the test's own. */
#include <pthread.h>

#include "ovstorfs/changes.h"
#include "ovstorfs/fault.h"
#include "unit.h"

#define ITEM 64

static struct storage *storage;
static struct changes *ring;
static const struct txn_id self = { .host = 7, .generation = 3 };

static int setup(void **state)
{
	int r = make_dir(state);

	if (r == 0)
		r = storage_format(*state, false);
	if (r == 0)
		r = storage_open(*state, false, &storage);
	if (r == 0)
		r = changes_format(storage);
	return r == 0 ? changes_open(storage, &ring) : r;
}

static int teardown(void **state)
{
	changes_close(ring);
	storage_close(storage);
	return remove_dir(state);
}

/* As another mount would find it. */
static void reopen(void)
{
	changes_close(ring);
	assert_int_equal(changes_open(storage, &ring), 0);
}

static bool begin_turn(void)
{
	bool all = false;

	assert_int_equal(changes_begin_turn(ring, &self, &all), 0);
	return all;
}

static uint64_t join(void)
{
	uint64_t number = 0;

	assert_int_equal(changes_join(ring, &number), 0);
	return number;
}

static void leave(uint64_t number)
{
	struct change_entry e = { .image = { { 1 } }, .volume = { { 2 } } };

	assert_int_equal(changes_leave(ring, number, &e), 0);
}

static void assert_heads(uint64_t intent, uint64_t done)
{
	struct change_head i = { 0 }, d = { 0 };

	assert_int_equal(changes_read_heads(storage, &i, &d), 0);
	assert_int_equal(i.number, intent);
	assert_int_equal(d.number, done);
}

static void flip(enum storage_area area, uint64_t at, int bit)
{
	auto_free uint8_t *block = alloc_aligned(STORAGE_BLOCK);
	uint64_t offset = at / STORAGE_BLOCK * STORAGE_BLOCK;

	assert_int_equal(storage_area_read(storage, area, offset, block,
					   STORAGE_BLOCK),
			 0);
	block[at % STORAGE_BLOCK] ^= (uint8_t)(1 << bit);
	assert_int_equal(storage_area_write(storage, area, offset, block,
					    STORAGE_BLOCK),
			 0);
}

/* ---- 64 bytes ---- */

static void test_head_round_trips(void **state)
{
	struct change_head h = { UINT64_MAX - 1, { 250, UINT64_MAX, 5 } };
	struct change_head back;
	uint8_t b[ITEM];
	int bit;

	(void)state;
	change_head_format(&h, b);
	assert_int_equal(change_head_parse(b, &back), 0);
	assert_true(back.number == h.number && back.txn.host == 250 &&
		    back.txn.generation == UINT64_MAX &&
		    back.txn.sequence == 5);
	for (bit = 0; bit < ITEM * 8; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(change_head_parse(b, &back), -EUCLEAN);
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	/* A later version, and its sum. */
	b[8] = CHANGES_VERSION + 1;
	b[60] = b[61] = b[62] = b[63] = 0;
	{
		uint32_t sum = crc32c(0, b, 60);

		for (bit = 0; bit < 4; bit++)
			b[60 + bit] = (uint8_t)(sum >> 8 * bit);
	}
	assert_int_equal(change_head_parse(b, &back), -EPROTONOSUPPORT);
}

static void test_entry_round_trips(void **state)
{
	struct change_entry e = { .number = UINT64_MAX, .host = UINT32_MAX };
	struct change_entry back;
	uint8_t b[ITEM];
	int bit;

	(void)state;
	uuid_new(&e.image);
	uuid_new(&e.volume);
	change_entry_format(&e, b);
	assert_int_equal(change_entry_parse(b, &back), 0);
	assert_true(back.number == e.number && back.host == e.host &&
		    uuid_eq(&back.image, &e.image) &&
		    uuid_eq(&back.volume, &e.volume));
	for (bit = 0; bit < ITEM * 8; bit++) {
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
		assert_int_equal(change_entry_parse(b, &back), -EUCLEAN);
		b[bit / 8] ^= (uint8_t)(1 << bit % 8);
	}
	memset(b, 0, sizeof(b));
	assert_int_equal(change_entry_parse(b, &back), -EUCLEAN);
}

/* ---- turns and changes ---- */

struct seen {
	uint64_t entries, damaged, highest, sum;
};

static void count(void *arg, uint64_t at, int error,
		  const struct change_entry *e)
{
	struct seen *s = arg;

	(void)at;
	s->damaged += error < 0;
	if (error < 0 || !e->number)
		return;
	s->entries++;
	s->sum += e->number;
	if (e->number > s->highest)
		s->highest = e->number;
}

static struct seen look(void)
{
	struct seen s = { 0 };

	assert_int_equal(changes_each(storage, count, &s), 0);
	return s;
}

static void test_intent_comes_before_and_done_after(void **state)
{
	uint64_t a, b;

	(void)state;
	assert_true(begin_turn());
	assert_heads(0, 0);
	a = join();
	assert_int_equal(a, 1);
	assert_heads(1, 0);
	b = join();
	assert_heads(2, 0);
	leave(b);
	assert_heads(2, 0); /* the other one is still at work */
	assert_int_equal(look().entries, 0);
	leave(a);
	assert_heads(2, 2);
	assert_int_equal(look().entries, 2);
	assert_int_equal(changes_number(ring), 2);
	assert_false(begin_turn());
}

static void test_what_came_to_nothing_has_an_entry_too(void **state)
{
	(void)state;
	begin_turn();
	assert_int_equal(changes_leave(ring, join(), NULL), 0);
	assert_heads(1, 1);
	assert_int_equal(look().highest, 1);
}

static void test_another_host_is_heard(void **state)
{
	struct changes *other = NULL;
	uint64_t number;
	bool all;

	(void)state;
	begin_turn();
	leave(join());
	assert_int_equal(changes_open(storage, &other), 0);
	assert_int_equal(changes_begin_turn(other, &self, &all), 0);
	assert_true(all);
	assert_int_equal(changes_join(other, &number), 0);
	assert_int_equal(number, 2);
	assert_int_equal(changes_leave(other, number, NULL), 0);
	changes_close(other);
	assert_true(begin_turn());
	assert_false(begin_turn());
	assert_int_equal(join(), 3);
	leave(3);
}

static void test_death_in_a_change_is_noticed(void **state)
{
	(void)state;
	begin_turn();
	leave(join());
	join();
	reopen(); /* and nobody left */
	assert_heads(2, 1);
	assert_false(changes_are_settled(storage));
	assert_true(begin_turn());
	assert_int_equal(changes_settle(ring), 0);
	assert_heads(2, 2);
	assert_true(changes_are_settled(storage));
	assert_false(begin_turn());
	assert_int_equal(join(), 3); /* 2 is never given out again */
	leave(3);
	assert_heads(3, 3);
}

static void test_settling_waits_for_open_changes(void **state)
{
	uint64_t a;

	(void)state;
	begin_turn();
	join();
	reopen();
	begin_turn();
	a = join();
	assert_int_equal(changes_settle(ring), 0);
	assert_heads(2, 0);
	leave(a);
	assert_heads(2, 2);
}

static void test_wraps_around(void **state)
{
	uint64_t i;

	(void)state;
	/* As if nearly all numbers of the first round had been used. */
	assert_int_equal(changes_reset(storage, CHANGES_ENTRIES - 70), 0);
	begin_turn();
	for (i = 0; i < 140; i++)
		leave(join());
	assert_heads(CHANGES_ENTRIES + 70, CHANGES_ENTRIES + 70);
	assert_int_equal(look().entries, 140);
	assert_int_equal(look().highest, CHANGES_ENTRIES + 70);
	assert_int_equal(look().damaged, 0);
}

static void test_many_open_at_once(void **state)
{
	uint64_t i;

	(void)state;
	begin_turn();
	for (i = 1; i <= 200; i++)
		assert_int_equal(join(), i);
	for (i = 200; i >= 1; i--)
		leave(i);
	assert_heads(200, 200);
	assert_int_equal(look().entries, 200);
	assert_int_equal(look().sum, 200 * 201 / 2);
}

/* ---- errors and damage ---- */

static void test_failed_intent_holds_nobody_up(void **state)
{
	uint64_t a, b = 0;

	(void)state;
	begin_turn();
	a = join();
	assert_int_equal(fault_arm("changes.intent:1:EIO"), 0);
	assert_int_equal(changes_join(ring, &b), -EIO);
	leave(a);
	assert_heads(1, 1);
	assert_int_equal(join(), 3);
	leave(3);
	assert_heads(3, 3);
}

static void test_failed_done_is_settled(void **state)
{
	uint64_t a;

	(void)state;
	begin_turn();
	a = join();
	assert_int_equal(fault_arm("changes.done:1:EIO"), 0);
	assert_int_equal(changes_leave(ring, a, NULL), -EIO);
	assert_heads(1, 0);
	assert_int_equal(changes_settle(ring), 0);
	assert_heads(1, 1);
}

static void test_damaged_heads_lose_no_number(void **state)
{
	int which, i;

	(void)state;
	begin_turn();
	for (i = 0; i < 5; i++)
		leave(join());
	/* Bit per head: one, the other, both. */
	for (which = 1; which <= 3; which++) {
		uint64_t expect = changes_number(ring) + 1;

		if (which & 1)
			flip(AREA_CHANGES, 20, 3);
		if (which & 2)
			flip(AREA_CHANGES, STORAGE_BLOCK + 9, 1);
		reopen();
		assert_false(changes_are_settled(storage));
		assert_true(begin_turn());
		assert_int_equal(changes_settle(ring), 0);
		assert_heads(expect - 1, expect - 1);
		assert_int_equal(join(), expect);
		leave(expect);
	}
}

static void test_reset_mends_and_keeps_what_is_sound(void **state)
{
	int i;

	(void)state;
	begin_turn();
	for (i = 0; i < 5; i++)
		leave(join());
	flip(AREA_CHANGES, 2 * STORAGE_BLOCK + 3 * ITEM + 1, 0);
	flip(AREA_CHANGES, 100 * STORAGE_BLOCK, 7);
	flip(AREA_CHANGES, 0, 7);
	assert_int_equal(look().damaged, 2);
	assert_int_equal(look().entries, 4);
	assert_int_equal(changes_reset(storage, 5), 0);
	assert_int_equal(look().damaged, 0);
	assert_int_equal(look().entries, 4);
	assert_heads(5, 5);
}

/* ---- threads ---- */

#define THREADS 12
#define ROUNDS 150

static uint8_t taken[THREADS * ROUNDS + 1];

static void *change(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg;
	struct change_entry e = { .image = { { (uint8_t)seed } } };
	uint64_t number = 0;
	int i;

	for (i = 0; i < ROUNDS; i++) {
		assert_int_equal(changes_join(ring, &number), 0);
		assert_in_range(number, 1, THREADS * ROUNDS);
		/* Unique, so no two threads touch one byte. */
		assert_int_equal(taken[number]++, 0);
		if (rand_r(&seed) % 4 == 0)
			usleep(100);
		assert_int_equal(
			changes_leave(ring, number, seed % 8 ? &e : NULL), 0);
	}
	return NULL;
}

static void test_threads_share_batches(void **state)
{
	pthread_t threads[THREADS];
	uint64_t n = THREADS * ROUNDS;
	uintptr_t i;

	(void)state;
	memset(taken, 0, sizeof(taken));
	begin_turn();
	for (i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, change,
						(void *)(i + 1)),
				 0);
	for (i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	assert_heads(n, n);
	assert_int_equal(look().entries, n);
	assert_int_equal(look().sum, n * (n + 1) / 2);
	assert_false(begin_turn());
}

#define WITH_RING(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		WITH_RING(test_failed_intent_holds_nobody_up),
		WITH_RING(test_failed_done_is_settled),
		cmocka_unit_test(test_head_round_trips),
		cmocka_unit_test(test_entry_round_trips),
		WITH_RING(test_intent_comes_before_and_done_after),
		WITH_RING(test_what_came_to_nothing_has_an_entry_too),
		WITH_RING(test_another_host_is_heard),
		WITH_RING(test_death_in_a_change_is_noticed),
		WITH_RING(test_settling_waits_for_open_changes),
		WITH_RING(test_wraps_around),
		WITH_RING(test_many_open_at_once),
		WITH_RING(test_damaged_heads_lose_no_number),
		WITH_RING(test_reset_mends_and_keeps_what_is_sound),
		WITH_RING(test_threads_share_batches),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
