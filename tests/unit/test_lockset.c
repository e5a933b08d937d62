/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one order of locks and leases, and this process's locks. */
#include <stdatomic.h>

#include "ovstorfs/lockset.h"
#include "unit.h"

/* ---- the order ---- */

static struct lock_need need(enum lock_rank rank, unsigned int place,
			     uint8_t id)
{
	return (struct lock_need){ .rank = rank,
				   .place = place,
				   .id = { { id } } };
}

static void test_bigger_comes_first(void **state)
{
	const struct lock_need order[] = {
		need(RANK_DOMAIN_LEASE, 0, 9), need(RANK_DOMAIN, 0, 8),
		need(RANK_IMAGE, 0, 6),	       need(RANK_IMAGE, 0, 7),
		need(RANK_IMAGE, 1, 1),	       need(RANK_VOLUME_LEASE, 0, 4),
		need(RANK_VOLUME_LEASE, 0, 5), need(RANK_VOLUME_LEASE, 1, 0),
		need(RANK_VOLUME, 0, 2),       need(RANK_VOLUME, 0, 3),
		need(RANK_VOLUME, 1, 0),
	};
	size_t i, j;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(order); i++)
		for (j = 0; j < ARRAY_SIZE(order); j++) {
			int c = lock_cmp(&order[i], &order[j]);

			assert_int_equal((c > 0) - (c < 0), (i > j) - (i < j));
		}
}

/* ---- the table ---- */

static struct locktab tab;

static int setup_tab(void **state)
{
	(void)state;
	locktab_init(&tab);
	return 0;
}

static int teardown_tab(void **state)
{
	(void)state;
	assert_true(TAILQ_EMPTY(&tab.queue));
	locktab_fini(&tab);
	return 0;
}

static struct lock lock_of(enum lock_rank rank, uint8_t id, bool exclusive)
{
	return (struct lock){ .rank = rank,
			      .id = { { id } },
			      .exclusive = exclusive };
}

static void test_exclusive_excludes(void **state)
{
	struct lock a = lock_of(RANK_IMAGE, 1, true);
	struct lock b = lock_of(RANK_IMAGE, 1, true);
	struct lock c = lock_of(RANK_IMAGE, 1, false);
	struct lock other = lock_of(RANK_IMAGE, 2, true);
	struct lock rank = lock_of(RANK_VOLUME, 1, true);

	(void)state;
	assert_int_equal(locktab_take(&tab, &a, 0), 0);
	assert_int_equal(locktab_take(&tab, &b, 0), -EAGAIN);
	assert_int_equal(locktab_take(&tab, &c, 0), -EAGAIN);
	assert_int_equal(locktab_take(&tab, &other, 0), 0);
	assert_int_equal(locktab_take(&tab, &rank, 0), 0);
	locktab_release(&tab, &a);
	assert_int_equal(locktab_take(&tab, &b, 0), 0);
	locktab_release(&tab, &rank);
	locktab_release(&tab, &b);
	locktab_release(&tab, &other);
}

static void test_shared_is_shared(void **state)
{
	struct lock a = lock_of(RANK_IMAGE, 1, false);
	struct lock b = lock_of(RANK_IMAGE, 1, false);
	struct lock x = lock_of(RANK_IMAGE, 1, true);

	(void)state;
	assert_int_equal(locktab_take(&tab, &a, 0), 0);
	assert_int_equal(locktab_take(&tab, &b, 0), 0);
	assert_int_equal(locktab_take(&tab, &x, 0), -EAGAIN);
	locktab_release(&tab, &a);
	assert_int_equal(locktab_take(&tab, &x, 0), -EAGAIN);
	locktab_release(&tab, &b);
	assert_int_equal(locktab_take(&tab, &x, 0), 0);
	locktab_release(&tab, &x);
}

static void test_waits_until_the_deadline(void **state)
{
	struct lock a = lock_of(RANK_DOMAIN, 0, true);
	struct lock b = lock_of(RANK_DOMAIN, 0, true);
	uint64_t start;

	(void)state;
	assert_int_equal(locktab_take(&tab, &a, 0), 0);
	start = now_ms();
	assert_int_equal(locktab_take(&tab, &b, start + 100), -EAGAIN);
	assert_true(now_ms() >= start + 100);
	locktab_release(&tab, &a);
}

/* ---- threads ---- */

struct waiter {
	pthread_t thread;
	struct lock lock;
	uint64_t deadline;
	int result;
	unsigned int turn; /* which of the waiters it was */
};

static atomic_uint turns;

static void *wait_for_it(void *arg)
{
	struct waiter *w = arg;

	w->result = locktab_take(&tab, &w->lock, w->deadline);
	if (w->result < 0)
		return NULL;
	w->turn = atomic_fetch_add(&turns, 1);
	locktab_release(&tab, &w->lock);
	return NULL;
}

static unsigned int queue_length(void)
{
	auto_unlock(guard, &tab.mutex);
	unsigned int n = 0;
	struct lock *l;

	TAILQ_FOREACH(l, &tab.queue, link)
	n++;
	return n;
}

/* Start it, and see it queue. */
static void start_waiter(struct waiter *w, bool exclusive, uint64_t ms)
{
	unsigned int before = queue_length();
	uint64_t end = now_ms() + 10000;

	w->lock = lock_of(RANK_IMAGE, 1, exclusive);
	w->deadline = now_ms() + ms;
	assert_int_equal(pthread_create(&w->thread, NULL, wait_for_it, w), 0);
	while (queue_length() == before) {
		assert_true(now_ms() < end);
		usleep(1000);
	}
}

static void test_first_come_first_served(void **state)
{
	struct lock held = lock_of(RANK_IMAGE, 1, true);
	struct waiter w[8];
	unsigned int i;

	(void)state;
	atomic_store(&turns, 0);
	assert_int_equal(locktab_take(&tab, &held, 0), 0);
	for (i = 0; i < ARRAY_SIZE(w); i++)
		start_waiter(&w[i], true, 10000);
	locktab_release(&tab, &held);
	for (i = 0; i < ARRAY_SIZE(w); i++) {
		pthread_join(w[i].thread, NULL);
		assert_int_equal(w[i].result, 0);
		assert_int_equal(w[i].turn, i);
	}
}

/* Readers that come later do not starve a writer that waits; when it gives up,
 * they go on at once. */
static void test_writer_is_not_overtaken(void **state)
{
	struct lock held = lock_of(RANK_IMAGE, 1, false);
	struct lock late = lock_of(RANK_IMAGE, 1, false);
	struct waiter writer, reader;

	(void)state;
	assert_int_equal(locktab_take(&tab, &held, 0), 0);
	start_waiter(&writer, true, 1000);
	assert_int_equal(locktab_take(&tab, &late, 0), -EAGAIN);
	start_waiter(&reader, false, 20000);
	pthread_join(writer.thread, NULL);
	assert_int_equal(writer.result, -EAGAIN);
	pthread_join(reader.thread, NULL);
	assert_int_equal(reader.result, 0);
	locktab_release(&tab, &held);
}

#define STORM_THREADS 16
#define STORM_ROUNDS 2000
#define STORM_OBJECTS 3

static struct {
	atomic_int readers, writers;
	int plain; /* only writers touch it: a race is seen by TSan */
} objects[STORM_OBJECTS];

static void use(unsigned int at, bool exclusive)
{
	if (exclusive) {
		assert_int_equal(atomic_fetch_add(&objects[at].writers, 1), 0);
		assert_int_equal(atomic_load(&objects[at].readers), 0);
		objects[at].plain++;
		atomic_fetch_sub(&objects[at].writers, 1);
		return;
	}
	atomic_fetch_add(&objects[at].readers, 1);
	assert_int_equal(atomic_load(&objects[at].writers), 0);
	atomic_fetch_sub(&objects[at].readers, 1);
}

static void *storm(void *arg)
{
	unsigned int seed = (unsigned int)(uintptr_t)arg, i;
	uintptr_t written = 0;

	for (i = 0; i < STORM_ROUNDS; i++) {
		unsigned int at = (unsigned int)rand_r(&seed) % STORM_OBJECTS;
		bool exclusive = rand_r(&seed) % 4 == 0;
		struct lock l = lock_of(RANK_VOLUME, (uint8_t)at, exclusive);
		uint64_t deadline = rand_r(&seed) % 3 ? now_ms() + 60000 : 0;

		if (locktab_take(&tab, &l, deadline) < 0) {
			assert_int_equal(deadline, 0);
			continue;
		}
		use(at, exclusive);
		written += exclusive;
		locktab_release(&tab, &l);
	}
	return (void *)written;
}

static void test_storm(void **state)
{
	pthread_t threads[STORM_THREADS];
	uintptr_t written = 0, plain = 0, i;
	void *n;

	(void)state;
	memset(objects, 0, sizeof(objects));
	for (i = 0; i < STORM_THREADS; i++)
		assert_int_equal(pthread_create(&threads[i], NULL, storm,
						(void *)(i + 1)),
				 0);
	for (i = 0; i < STORM_THREADS; i++) {
		pthread_join(threads[i], &n);
		written += (uintptr_t)n;
	}
	for (i = 0; i < STORM_OBJECTS; i++)
		plain += (uintptr_t)objects[i].plain;
	assert_int_equal(plain, written);
	assert_true(written > 0);
}

#define WITH_TAB(test)                                                         \
	cmocka_unit_test_setup_teardown(test, setup_tab, teardown_tab)

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bigger_comes_first),
		WITH_TAB(test_exclusive_excludes),
		WITH_TAB(test_shared_is_shared),
		WITH_TAB(test_waits_until_the_deadline),
		WITH_TAB(test_first_come_first_served),
		WITH_TAB(test_writer_is_not_overtaken),
		WITH_TAB(test_storm),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
