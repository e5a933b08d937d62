/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Heads and entries of the change ring: what is read is written the same. */
#include <stdlib.h>
#include <string.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/changes.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"

#include "fuzz.h"

#define ITEM 64

static void try(const uint8_t *b)
{
	struct change_head h = { 0 }, h2 = { 0 };
	struct change_entry e = { 0 }, e2 = { 0 };
	uint8_t out[ITEM];
	int r = change_head_parse(b, &h);

	if (r < 0 && r != -EUCLEAN && r != -EPROTONOSUPPORT)
		abort();
	change_head_format(&h, out);
	if (change_head_parse(out, &h2) < 0 || h2.number != h.number ||
	    h2.txn.host != h.txn.host || h2.txn.sequence != h.txn.sequence)
		abort();
	r = change_entry_parse(b, &e);
	if (r < 0 && r != -EUCLEAN)
		abort();
	change_entry_format(&e, out);
	if (change_entry_parse(out, &e2) < 0 || e2.number != e.number ||
	    e2.host != e.host || !uuid_eq(&e2.image, &e.image) ||
	    !uuid_eq(&e2.volume, &e.volume))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	uint8_t b[ITEM] = { 0 };
	uint32_t sum;
	int i;

	memcpy(b, data, len < ITEM ? len : ITEM);
	try(b);
	/* Once more, with a right sum. */
	sum = crc32c(0, b, ITEM - 4);
	for (i = 0; i < 4; i++)
		b[ITEM - 4 + i] = (uint8_t)(sum >> 8 * i);
	try(b);
	return 0;
}

size_t fuzz_seed(unsigned int number, uint8_t *out, size_t room)
{
	struct change_head h = { 77, { 1, 2, 3 } };
	struct change_entry e = { 78, { { 1 } }, { { 2 } }, 9 };

	if (room < ITEM || number > 1)
		return 0;
	if (number == 0)
		change_head_format(&h, out);
	else
		change_entry_format(&e, out);
	return ITEM;
}
