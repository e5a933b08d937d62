/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A fuzzer is two functions; libFuzzer's main() calls them, or that of
 * fuzz_driver.c where the compiler has none. */
#ifndef FUZZ_H
#define FUZZ_H

#include <stddef.h>
#include <stdint.h>

/* Takes any bytes; aborts when what it tests does not keep its word. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

/* A sound input to begin with: returns its length, at most room. Seeds are
 * numbered from 0; returns 0 when there are no more. */
size_t fuzz_seed(unsigned int number, uint8_t *out, size_t room);

#endif
