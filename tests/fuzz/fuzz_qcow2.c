/* SPDX-License-Identifier: GPL-2.0-or-later */
/* qcow2 headers: what is accepted stays in bounds. */
#include <stdlib.h>
#include <string.h>

#include "ovstorfs/err.h"
#include "ovstorfs/model.h"

#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	struct qcow2_backing b = { 0 };
	uint64_t size = 0;
	int r = qcow2_parse_size(data, len, &size);

	if ((r < 0 && r != -EINVAL) || size > INT64_MAX)
		abort();
	if (qcow2_parse_backing(data, len, &b) < 0)
		return 0;
	if (r < 0 || b.len > QCOW2_BACKING_MAX || b.offset > INT64_MAX - b.len)
		abort();
	return 0;
}

size_t fuzz_seed(unsigned int number, uint8_t *out, size_t room)
{
	static const uint8_t header[QCOW2_HEADER] = {
		'Q', 'F', 'I', 0xfb, 0, 0, 0, 3,  0, 0, 0, 0, 0,    0, 1, 0x90,
		0,   0,	  0,   36,   0, 0, 0, 16, 0, 0, 0, 2, 0x80, 0, 0, 0,
	};

	if (number > 0 || room < sizeof(header))
		return 0;
	memcpy(out, header, sizeof(header));
	return sizeof(header);
}
