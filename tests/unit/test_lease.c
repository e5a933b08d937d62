/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The lease floor without sanlock's daemon: areas on storage, the door, and
 * the mount of one host, with real locks. */
#include "lease_mount.h"

/* ---- areas ---- */

static void test_fresh_domain_is_sound(void **state)
{
	struct lease_ref ref = { 0 };

	(void)state;
	assert_int_equal(lease_area_check(&space, &ref), 0);
	lease_ref_domain(&space, &ref);
	assert_int_equal(lease_area_check(&space, &ref), 0);
	volume_ref(0, &ref);
	assert_int_equal(lease_area_check(&space, &ref), -EUCLEAN);
	assert_int_equal(lease_area_init(&space, &ref), 0);
	assert_int_equal(lease_area_check(&space, &ref), 0);
}

static void test_damage_is_seen(void **state)
{
	struct lease_ref ref = { 0 }, other;
	struct lease_space stranger = space;

	(void)state;
	scribble(space.ids_path, 7 * LEASE_SECTOR + 40);
	assert_int_equal(lease_area_check(&space, &ref), -EUCLEAN);
	assert_non_null(strstr(err_text(-EUCLEAN), "host id 8"));
	scribble(space.ids_path, 7 * LEASE_SECTOR + 40);
	assert_int_equal(lease_area_check(&space, &ref), 0);

	volume_ref(1, &ref);
	assert_int_equal(lease_area_init(&space, &ref), 0);
	scribble(ref.path, ref.offset + 50);
	assert_int_equal(lease_area_check(&space, &ref), -EUCLEAN);
	scribble(ref.path, ref.offset + 50);
	other = ref;
	strcpy(other.name, "volume-x");
	assert_int_equal(lease_area_check(&space, &other), -EUCLEAN);
	strcpy(stranger.name, "another");
	assert_int_equal(lease_area_check(&stranger, &ref), -EUCLEAN);
	strcpy(other.path, "/nonexistent");
	assert_int_equal(lease_area_check(&space, &other), -ENOENT);
	strcpy(other.path, "/dev/null");
	assert_int_equal(lease_area_check(&space, &other), -EUCLEAN);
}

static void test_format_forgets_an_older_domain(void **state)
{
	struct lease_space older = space;
	struct lease_ref ref;
	bool blank;

	(void)state;
	strcpy(older.name, "older");
	area_ref_presence(&older, 3, &ref);
	assert_int_equal(lease_area_init(&older, &ref), 0);
	assert_int_equal(lease_space_format(&space), 0);
	assert_int_equal(area_is_blank(&ref, &blank), 0);
	assert_true(blank);
}

static void set_owner(unsigned int id, const char *name, uint64_t timestamp)
{
	off_t at = (off_t)(id - 1) * LEASE_SECTOR;
	int fd = open(space.ids_path, O_RDWR | O_CLOEXEC);
	char leader[172];
	uint32_t sum;

	assert_int_equal(pread(fd, leader, sizeof(leader), at), sizeof(leader));
	strcpy(leader + 104, name);
	memcpy(leader + 152, &timestamp, sizeof(timestamp));
	sum = ~crc32c(1, leader, 168);
	memcpy(leader + 168, &sum, sizeof(sum));
	assert_int_equal(pwrite(fd, leader, sizeof(leader), at),
			 sizeof(leader));
	fsync(fd);
	close(fd);
}

static void test_host_ids_are_picked(void **state)
{
	bool tried[LEASE_MAX_HOSTS + 1] = { false }, ours;
	unsigned int id;

	(void)state;
	assert_int_equal(ids_pick(&space, "h", tried, &id, &ours), 0);
	assert_int_equal(id, 1);
	assert_false(ours);
	tried[1] = true;
	scribble(space.ids_path, 1 * LEASE_SECTOR + 40); /* id 2 is damaged */
	assert_int_equal(ids_pick(&space, "h", tried, &id, &ours), 0);
	assert_int_equal(id, 3);
	/* One that may be in use is the last resort. */
	memset(tried, true, sizeof(tried));
	tried[7] = tried[9] = false;
	set_owner(7, "somebody else", 1);
	assert_int_equal(ids_pick(&space, "h", tried, &id, &ours), 0);
	assert_int_equal(id, 9);
	assert_int_equal(ids_pick(&space, "somebody else", tried, &id, &ours),
			 0);
	assert_int_equal(id, 7);
	assert_true(ours);
	tried[9] = true;
	assert_int_equal(ids_pick(&space, "h", tried, &id, &ours), 0);
	assert_int_equal(id, 7);
	assert_false(ours);
	memset(tried, true, sizeof(tried));
	assert_int_equal(ids_pick(&space, "h", tried, &id, &ours), -ENOSPC);
}

static void test_sanlock_codes(void **state)
{
	static const struct {
		int code, error;
		bool again;
	} cases[] = {
		{ -243, -EBUSY, true },	    { -244, -EBUSY, true },
		{ -245, -EBUSY, true },	    { -247, -EBUSY, true },
		{ -11, -EBUSY, true },	    { -16, -EBUSY, true },
		{ -17, -EBUSY, true },	    { -117, -EBUSY, false },
		{ -223, -EUCLEAN, false },  { -226, -EUCLEAN, false },
		{ -227, -EUCLEAN, false },  { -228, -EUCLEAN, false },
		{ -229, -EUCLEAN, false },  { -2, -EUCLEAN, false },
		{ -90, -EUCLEAN, false },   { -202, -ETIMEDOUT, true },
		{ -28, -ENOTCONN, false },  { -32, -ENOTCONN, false },
		{ -111, -ENOTCONN, false }, { -1, -ENOTCONN, false },
		{ -262, -EBUSY, false },    { -299, -EIO, false },
	};
	size_t i;
	int again;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		assert_int_equal(san_error(cases[i].code, "x", &again),
				 cases[i].error);
		assert_int_equal(again > 0, cases[i].again);
	}
}

/* ---- one host ---- */

static void test_local_mount_has_all(void **state)
{
	struct lease_holder_options o = local_options();
	struct lease_member member;
	struct lease_ref ref;
	struct mount m;
	char text[64];

	(void)state;
	volume_ref(0, &ref);
	assert_int_equal(mount_start(&m, &o), 0);
	member = mount_wait(&m, LEASE_JOINING, 5000);
	assert_int_equal(member.state, LEASE_JOINED);
	assert_int_equal(member.host_id, 1);
	assert_int_equal(lease_take(m.door, &ref, LEASE_EXCLUSIVE, true, 0), 0);
	assert_int_equal(lease_take(m.door, &ref, LEASE_SHARED, true, 0),
			 -EBUSY);
	assert_int_equal(lease_count(m.door), 1);
	assert_int_equal(lease_holders(m.door, &ref, text, sizeof(text)), 0);
	assert_string_equal(text, "1");
	assert_int_equal(lease_release(m.door, ref.name), 0);
	assert_int_equal(lease_release(m.door, ref.name), -ENOENT);
	assert_int_equal(lease_count(m.door), 0);
	mount_stop(&m);
}

static void test_second_local_mount_is_refused(void **state)
{
	struct lease_holder_options o = local_options();
	struct lease_holder *second;
	struct mount m;

	(void)state;
	assert_int_equal(mount_start(&m, &o), 0);
	assert_int_equal(lease_holder_start(&o, &second), -EBUSY);
	o.read_only = true;
	assert_int_equal(lease_holder_start(&o, &second), -EBUSY);
	mount_stop(&m);
	assert_int_equal(mount_start(&m, &o), 0);
	assert_int_equal(lease_holder_start(&o, &second), 0);
	lease_holder_stop(second);
	mount_stop(&m);
}

static void test_local_generation_grows(void **state)
{
	struct lease_holder_options o = local_options();
	uint64_t before, noted;
	struct mount m;
	int i;

	(void)state;
	/* The clock was once in the far future. */
	assert_int_equal(
		ids_new_generation(&space, 1, 1ull << 50, true, &before), 0);
	for (i = 0; i < 3; i++) {
		struct lease_member member;

		assert_int_equal(mount_start(&m, &o), 0);
		member = mount_wait(&m, LEASE_JOINING, 5000);
		mount_stop(&m);
		assert_true(member.generation > before);
		before = member.generation;
	}
	assert_int_equal(ids_generation(&space, 1, &noted), 0);
	assert_true(noted == before);
}

struct contender {
	struct mount *m;
	const struct lease_ref *ref;
	pthread_t thread;
	unsigned int *turns; /* protected by the lease */
	unsigned int turn;
	int result;
};

static void *contend(void *arg)
{
	struct contender *c = arg;

	c->result = lease_take(c->m->door, c->ref, LEASE_EXCLUSIVE, false,
			       now_ms() + 20000);
	if (c->result == 0) {
		c->turn = (*c->turns)++;
		lease_release(c->m->door, c->ref->name);
	}
	return NULL;
}

static void test_threads_are_served_in_order(void **state)
{
	struct lease_holder_options o = local_options();
	struct contender c[16];
	unsigned int i, turns = 0;
	struct lease_ref ref;
	struct mount m;

	(void)state;
	lease_ref_domain(&space, &ref);
	assert_int_equal(mount_start(&m, &o), 0);
	mount_wait(&m, LEASE_JOINING, 5000);
	assert_int_equal(lease_take(m.door, &ref, LEASE_EXCLUSIVE, false, 0),
			 0);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		c[i] = (struct contender){ &m, &ref, 0, &turns, 0, 0 };
		pthread_create(&c[i].thread, NULL, contend, &c[i]);
		usleep(20000); /* so that they come in this order */
	}
	assert_int_equal(lease_release(m.door, ref.name), 0);
	for (i = 0; i < ARRAY_SIZE(c); i++) {
		pthread_join(c[i].thread, NULL);
		assert_int_equal(c[i].result, 0);
		assert_int_equal(c[i].turn, i);
	}
	mount_stop(&m);
}

static void test_deadline_ends_a_wait(void **state)
{
	struct lease_holder_options o = local_options();
	struct lease_ref ref;
	struct mount m;
	uint64_t begin, took;

	(void)state;
	lease_ref_domain(&space, &ref);
	assert_int_equal(mount_start(&m, &o), 0);
	mount_wait(&m, LEASE_JOINING, 5000);
	assert_int_equal(lease_take(m.door, &ref, LEASE_EXCLUSIVE, false, 0),
			 0);
	begin = now_ms();
	assert_int_equal(lease_take(m.door, &ref, LEASE_EXCLUSIVE, false,
				    begin + 200),
			 -EBUSY);
	took = now_ms() - begin;
	assert_in_range(took, 199, 1500);
	mount_stop(&m);
}

static void test_next_door_finds_leftovers(void **state)
{
	struct lease_holder_options o = local_options();
	char name[LEASE_NAME];
	struct lease_ref ref;
	struct mount m;

	(void)state;
	volume_ref(2, &ref);
	assert_int_equal(mount_start(&m, &o), 0);
	mount_wait(&m, LEASE_JOINING, 5000);
	assert_int_equal(lease_take(m.door, &ref, LEASE_EXCLUSIVE, true, 0), 0);
	mount_close_door(&m);
	mount_open_door(&m);
	mount_wait(&m, LEASE_JOINING, 5000);
	assert_int_equal(lease_count(m.door), 0);
	assert_int_equal(lease_leftover(m.door, 0, name), 0);
	assert_string_equal(name, ref.name);
	assert_int_equal(lease_leftover(m.door, 1, name), -ENOENT);
	assert_int_equal(lease_take(m.door, &ref, LEASE_SHARED, true, 0), 0);
	assert_int_equal(lease_leftover(m.door, 0, name), -ENOENT);
	assert_int_equal(lease_release(m.door, ref.name), 0);
	mount_stop(&m);
}

/* A holder that never answers: the door keeps its deadline, and gives back
 * what comes too late. */
static void test_late_grant_is_given_back(void **state)
{
	struct lease_reply member = { .member = { .state = LEASE_JOINED } };
	struct lease_reply reply = { 0 };
	struct lease_request req;
	struct lease_door *door;
	struct lease_ref ref;
	int pair[2];

	(void)state;
	volume_ref(0, &ref);
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, pair), 0);
	assert_int_equal(lease_door_open(pair[1], NULL, NULL, &door), 0);
	send(pair[0], &member, sizeof(member), 0);
	assert_int_equal(lease_take(door, &ref, LEASE_EXCLUSIVE, true,
				    now_ms() + 100),
			 -ETIMEDOUT);
	assert_int_equal(recv(pair[0], &req, sizeof(req), 0), sizeof(req));
	assert_int_equal(req.op, LEASE_TAKE);
	/* Nobody may ask for it before that is settled. */
	assert_int_equal(lease_take(door, &ref, LEASE_EXCLUSIVE, true,
				    now_ms() + 50),
			 -ETIMEDOUT);
	reply.id = req.id;
	send(pair[0], &reply, sizeof(reply), 0);
	assert_int_equal(recv(pair[0], &req, sizeof(req), 0), sizeof(req));
	assert_int_equal(req.op, LEASE_DECLINE);
	assert_string_equal(req.ref.name, ref.name);
	assert_int_equal(lease_count(door), 0);
	close(pair[0]);
	assert_int_equal(lease_take(door, &ref, LEASE_EXCLUSIVE, true,
				    now_ms() + 1000),
			 -EIO);
	lease_door_close(door);
}

static void test_bad_lock_files_are_refused(void **state)
{
	struct lease_holder_options o = local_options();
	struct lease_space elsewhere = space;
	struct lease_holder *h;

	(void)state;
	o.space = &elsewhere;
	strcpy(elsewhere.lock_path, "/nonexistent");
	assert_int_equal(lease_holder_start(&o, &h), -ENOENT);
	strcpy(elsewhere.lock_path, "/dev/null");
	assert_int_equal(lease_holder_start(&o, &h), -EUCLEAN);
}

int main(void)
{
#define ALONE(f) cmocka_unit_test_setup_teardown(f, setup_space, teardown_space)
	const struct CMUnitTest tests[] = {
		ALONE(test_fresh_domain_is_sound),
		ALONE(test_damage_is_seen),
		ALONE(test_format_forgets_an_older_domain),
		ALONE(test_host_ids_are_picked),
		ALONE(test_sanlock_codes),
		ALONE(test_local_mount_has_all),
		ALONE(test_second_local_mount_is_refused),
		ALONE(test_local_generation_grows),
		ALONE(test_threads_are_served_in_order),
		ALONE(test_deadline_ends_a_wait),
		ALONE(test_next_door_finds_leftovers),
		ALONE(test_late_grant_is_given_back),
		ALONE(test_bad_lock_files_are_refused),
	};

	return cmocka_run_group_tests_name("lease", tests, NULL, NULL);
}
