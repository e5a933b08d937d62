/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Lease areas as they lie on storage.
 *
 * An area is 1 MiB of 4 KiB sectors in sanlock's format. The first sector of
 * a lease is its *leader record*: who has it. The ids area has one leader
 * record per host id instead, where the lease's name is the owner's host
 * name. Little-endian; the checksum is a CRC32C that starts from ~1 and is
 * not inverted at the end. Nothing here needs a daemon; all reads are direct,
 * since the daemon writes past the page cache. */
#include <assert.h>
#include <endian.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdio.h>
#include <sys/stat.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/str.h"

#include "internal.h"

/* libsanlock exports a crc32c() of its own, with other bits: were ours seen
 * from outside, the library would write its records with it. The linker hides
 * a symbol that one reference wants hidden. */
uint32_t crc32c(uint32_t crc, const void *data, size_t len)
	__attribute__((visibility("hidden")));

#define LEADER_LEASE 0x06152010u
#define LEADER_ID 0x12212010u
#define LEADER_CLEARED 0x11282016u
#define VERSION_LEASE 6
#define VERSION_ID 3
#define FLAG_ALIGN_1M 0x10u
#define FLAG_ALIGN_ALL 0xf0u

struct leader {
	uint32_t magic;
	uint32_t version; /* the major one in the upper half */
	uint32_t flags;
	uint32_t sector_size;
	uint64_t num_hosts;
	uint64_t max_hosts;
	uint64_t owner_id;
	uint64_t owner_generation;
	uint64_t lver;
	char space_name[48];
	char name[48]; /* in the ids area: the owner's host name */
	uint64_t timestamp;
	uint64_t unused1;
	uint32_t checksum; /* of all before it */
	uint16_t unused2;
	uint16_t io_timeout;
};

static_assert(offsetof(struct leader, timestamp) == 152, "on storage");
static_assert(offsetof(struct leader, checksum) == 168, "on storage");

/* The daemon may be given a path to anything; we read files and devices. */
static int area_open(const char *path, int flags, int *ret_fd)
{
	auto_close int fd = -1;
	struct stat st;

	flags |= O_CLOEXEC | O_NONBLOCK;
	fd = open(path, flags | O_DIRECT);
	if (fd < 0 && errno == EINVAL) /* a file system without direct I/O */
		fd = open(path, flags);
	if (fd < 0)
		return err_new(-errno, "lease area %s: %s", path,
			       strerror(errno));
	if (fstat(fd, &st) < 0)
		return err_new(-errno, "lease area %s: %s", path,
			       strerror(errno));
	if (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode))
		return err_new(-EUCLEAN, "lease area %s: not a file or device",
			       path);
	*ret_fd = steal_fd(&fd);
	return 0;
}

/* Owner: caller frees *ret_data. */
static int area_read(const char *path, uint64_t offset, size_t len,
		     void **ret_data)
{
	auto_free void *data = alloc_aligned(len);
	auto_close int fd = -1;
	int r;

	r = area_open(path, O_RDONLY, &fd);
	if (r < 0)
		return r;
	r = pread_full(fd, data, len, offset);
	if (r < 0)
		return err_add(r, "lease area %s at %llu", path,
			       (unsigned long long)offset);
	*ret_data = steal(data);
	return 0;
}

static uint32_t leader_checksum(const struct leader *l)
{
	return ~crc32c(1, l, offsetof(struct leader, checksum));
}

static int leader_damaged(const char *what, const char *why)
{
	return err_new(-EUCLEAN, "%s: %s", what, why);
}

static int leader_check(const struct leader *l, uint32_t magic, uint32_t major,
			const char *space_name, const char *what)
{
	if (le32toh(l->magic) == LEADER_CLEARED)
		return leader_damaged(what, "the lease was removed");
	if (le32toh(l->magic) != magic)
		return leader_damaged(what, "no lease there");
	if (le32toh(l->version) >> 16 != major)
		return leader_damaged(what, "a version of sanlock's format "
					    "that is not known here");
	if (le32toh(l->checksum) != leader_checksum(l))
		return leader_damaged(what, "wrong checksum");
	if (le32toh(l->sector_size) != LEASE_SECTOR ||
	    (le32toh(l->flags) & FLAG_ALIGN_ALL) != FLAG_ALIGN_1M)
		return leader_damaged(what, "made for other sector sizes");
	if (strncmp(l->space_name, space_name, sizeof(l->space_name)) != 0)
		return leader_damaged(what, "belongs to another lockspace");
	return 0;
}

static const struct leader *id_leader(const void *ids, unsigned int host_id)
{
	return (const void *)((const char *)ids +
			      (size_t)(host_id - 1) * LEASE_SECTOR);
}

static int id_check(const struct lease_space *sp, const void *ids,
		    unsigned int host_id)
{
	char what[32];

	snprintf(what, sizeof(what), "host id %u", host_id);
	return leader_check(id_leader(ids, host_id), LEADER_ID, VERSION_ID,
			    sp->name, what);
}

static int ids_check(const struct lease_space *sp)
{
	auto_free void *ids = NULL;
	unsigned int id;
	int r;

	r = area_read(sp->ids_path, sp->ids_offset, LEASE_AREA, &ids);
	for (id = 1; id <= LEASE_MAX_HOSTS && r == 0; id++)
		r = id_check(sp, ids, id);
	return r;
}

int lease_area_check(const struct lease_space *sp, const struct lease_ref *ref)
{
	auto_free void *sector = NULL;
	const struct leader *l;
	char what[LEASE_NAME + 8];
	int r;

	if (!ref->name[0])
		return ids_check(sp);
	r = area_read(ref->path, ref->offset, LEASE_SECTOR, &sector);
	if (r < 0)
		return r;
	l = sector;
	snprintf(what, sizeof(what), "lease %s", ref->name);
	r = leader_check(l, LEADER_LEASE, VERSION_LEASE, sp->name, what);
	if (r < 0)
		return r;
	if (strncmp(l->name, ref->name, sizeof(l->name)) != 0)
		return err_new(-EUCLEAN, "%s: the lease there is %.48s", what,
			       l->name);
	return 0;
}

int area_owner(const struct lease_ref *ref, struct area_owner *ret_owner)
{
	auto_free void *sector = NULL;
	const struct leader *l;
	int r;

	r = area_read(ref->path, ref->offset, LEASE_SECTOR, &sector);
	if (r < 0)
		return r;
	l = sector;
	if (le32toh(l->magic) != LEADER_LEASE)
		return err_new(-EUCLEAN, "lease %s: no lease there", ref->name);
	ret_owner->host_id = le64toh(l->owner_id);
	ret_owner->generation = le64toh(l->owner_generation);
	ret_owner->lver = le64toh(l->lver);
	ret_owner->timestamp = le64toh(l->timestamp);
	return 0;
}

int area_mounts(const struct lease_space *sp, unsigned int host_id,
		uint64_t *ret_mounts)
{
	struct area_owner owner;
	struct lease_ref ref;
	bool blank;
	int r;

	area_ref_presence(sp, host_id, &ref);
	r = area_is_blank(&ref, &blank);
	if (r == 0 && !blank)
		r = area_owner(&ref, &owner);
	if (r == 0)
		*ret_mounts = blank ? 0 : owner.lver;
	return r;
}

static bool all_zero(const void *data, size_t len)
{
	const char *p = data;

	return p[0] == 0 && memcmp(p, p + 1, len - 1) == 0;
}

int area_is_blank(const struct lease_ref *ref, bool *ret_blank)
{
	auto_free void *sector = NULL;
	int r;

	r = area_read(ref->path, ref->offset, LEASE_SECTOR, &sector);
	if (r == 0)
		*ret_blank = all_zero(sector, LEASE_SECTOR);
	return r;
}

/* Holes stay holes: only what is not zero is written. */
int area_wipe(const char *path, uint64_t offset, unsigned int count)
{
	auto_free void *sector = alloc_aligned(LEASE_SECTOR);
	auto_close int fd = -1;
	unsigned int i;
	int r;

	r = area_open(path, O_RDWR, &fd);
	for (i = 0; i < count && r == 0; i++) {
		uint64_t at = offset + (uint64_t)i * LEASE_AREA;

		r = pread_full(fd, sector, LEASE_SECTOR, at);
		if (r < 0 || all_zero(sector, LEASE_SECTOR))
			continue;
		memset(sector, 0, LEASE_SECTOR);
		r = pwrite_full(fd, sector, LEASE_SECTOR, at);
	}
	if (r < 0)
		return r;
	return fsync_fd(fd, path);
}

void lease_ref_domain(const struct lease_space *sp, struct lease_ref *ret_ref)
{
	text_copy(ret_ref->name, sizeof(ret_ref->name), "domain");
	text_copy(ret_ref->path, sizeof(ret_ref->path), sp->leases_path);
	ret_ref->offset = sp->leases_offset;
}

void area_ref_presence(const struct lease_space *sp, unsigned int host_id,
		       struct lease_ref *ret_ref)
{
	snprintf(ret_ref->name, sizeof(ret_ref->name), "presence-%u", host_id);
	text_copy(ret_ref->path, sizeof(ret_ref->path), sp->leases_path);
	ret_ref->offset = sp->leases_offset + (uint64_t)host_id * LEASE_AREA;
}

/* Smaller is better. An id that its owner has not given back may be in use:
 * sanlock tells only after a minute or more, so that comes last. */
static int id_rank(const struct leader *l, const char *host_name)
{
	if (l->name[0] && strncmp(l->name, host_name, sizeof(l->name)) == 0)
		return 1;
	if (l->timestamp)
		return 4;
	return l->owner_generation ? 3 : 2;
}

int ids_pick(const struct lease_space *sp, const char *host_name,
	     const bool *tried, unsigned int *ret_id, bool *ret_ours)
{
	auto_free void *ids = NULL;
	unsigned int id, best = 0;
	int r, rank, best_rank = 0;

	r = area_read(sp->ids_path, sp->ids_offset, LEASE_AREA, &ids);
	if (r < 0)
		return r;
	for (id = 1; id <= LEASE_MAX_HOSTS; id++) {
		if (tried[id] || id_check(sp, ids, id) < 0)
			continue;
		rank = id_rank(id_leader(ids, id), host_name);
		if (!best || rank < best_rank) {
			best = id;
			best_rank = rank;
		}
	}
	if (!best)
		return err_new(-ENOSPC, "all %d host ids are taken or damaged",
			       LEASE_MAX_HOSTS);
	*ret_id = best;
	*ret_ours = best_rank == 1;
	return 0;
}

static uint64_t id_offset(const struct lease_space *sp, unsigned int host_id)
{
	return sp->ids_offset + (uint64_t)(host_id - 1) * LEASE_SECTOR;
}

static int id_read(const struct lease_space *sp, unsigned int host_id,
		   struct leader **ret_leader)
{
	auto_free void *sector = NULL;
	char what[32];
	int r;

	r = area_read(sp->ids_path, id_offset(sp, host_id), LEASE_SECTOR,
		      &sector);
	if (r < 0)
		return r;
	snprintf(what, sizeof(what), "host id %u", host_id);
	r = leader_check(sector, LEADER_ID, VERSION_ID, sp->name, what);
	if (r == 0)
		*ret_leader = steal(sector);
	return r;
}

int ids_generation(const struct lease_space *sp, unsigned int host_id,
		   uint64_t *ret_generation)
{
	auto_free struct leader *l = NULL;
	int r;

	r = id_read(sp, host_id, &l);
	if (r == 0)
		*ret_generation = le64toh(l->owner_generation);
	return r;
}

int ids_new_generation(const struct lease_space *sp, unsigned int host_id,
		       uint64_t at_least, bool note, uint64_t *ret_generation)
{
	auto_free struct leader *l = NULL;
	auto_close int fd = -1;
	uint64_t generation;
	int r;

	r = id_read(sp, host_id, &l);
	if (r < 0)
		return r;
	generation = le64toh(l->owner_generation) + 1;
	if (generation < at_least)
		generation = at_least;
	*ret_generation = generation;
	/* A record that is not free may have an owner who writes it too. */
	if (!note || l->timestamp)
		return 0;
	l->owner_id = htole64(host_id);
	l->owner_generation = htole64(generation);
	l->checksum = htole32(leader_checksum(l));
	r = area_open(sp->ids_path, O_RDWR | O_DSYNC, &fd);
	if (r < 0)
		return r;
	return pwrite_full(fd, l, LEASE_SECTOR, id_offset(sp, host_id));
}
