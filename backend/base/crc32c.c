/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC32C (Castagnoli), by table: what it guards are records of a few KiB. */
#include <pthread.h>

#include "ovstorfs/io.h"

#define POLYNOMIAL 0x82f63b78u /* reflected */

static uint32_t table[256];
static pthread_once_t table_once = PTHREAD_ONCE_INIT;

static void table_fill(void)
{
	uint32_t i, bit;

	for (i = 0; i < 256; i++) {
		uint32_t c = i;

		for (bit = 0; bit < 8; bit++)
			c = c & 1 ? c >> 1 ^ POLYNOMIAL : c >> 1;
		table[i] = c;
	}
}

uint32_t crc32c(uint32_t crc, const void *data, size_t len)
{
	const uint8_t *p = data;

	pthread_once(&table_once, table_fill);
	crc = ~crc;
	while (len--)
		crc = table[(crc ^ *p++) & 0xff] ^ crc >> 8;
	return ~crc;
}
