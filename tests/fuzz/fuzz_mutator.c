/* SPDX-License-Identifier: GPL-2.0-or-later */
/* With libFuzzer: begins with our seeds where it has nothing yet. */
#include "fuzz.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t len, size_t room);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t room,
			       unsigned int seed);

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t len, size_t room,
			       unsigned int seed)
{
	/* Seeds end before 16; the largest needs less than 1 KiB. */
	if (len < 2 && room >= 1024)
		len = fuzz_seed(seed % 16, data, room);
	return LLVMFuzzerMutate(data, len, room);
}
