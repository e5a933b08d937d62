/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The one number that we read from a qcow2 header: what the guest sees. */
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
