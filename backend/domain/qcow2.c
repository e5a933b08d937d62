/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What we read from a qcow2 header: the size that the guest sees, and where
 * the name of the backing file stands. */
#include "ovstorfs/err.h"
#include "ovstorfs/model.h"

static uint64_t be(const uint8_t *p, int bytes)
{
	uint64_t v = 0;

	while (bytes--)
		v = v << 8 | *p++;
	return v;
}

int qcow2_parse_size(const uint8_t *header, size_t len, uint64_t *ret_size)
{
	uint64_t version, size;

	if (len < QCOW2_HEADER || be(header, 4) != 0x514649fb)
		return err_new(-EINVAL, "no qcow2 header");
	version = be(header + 4, 4);
	size = be(header + 24, 8);
	if ((version != 2 && version != 3) || size > INT64_MAX)
		return err_new(-EINVAL, "an unknown qcow2 header");
	*ret_size = size;
	return 0;
}

int qcow2_parse_backing(const uint8_t *header, size_t len,
			struct qcow2_backing *ret_backing)
{
	struct qcow2_backing b;
	uint64_t size;
	int r = qcow2_parse_size(header, len, &size);

	if (r < 0)
		return r;
	b.offset = be(header + 8, 8);
	b.len = (size_t)be(header + 16, 4);
	/* No offset means no name, whatever its length. */
	if (!b.offset)
		b.len = 0;
	if (b.len > QCOW2_BACKING_MAX || b.offset > INT64_MAX - b.len)
		return err_new(-EINVAL, "a backing file out of bounds");
	*ret_backing = b;
	return 0;
}
