/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records: any text is refused, or read and written again with the same
 * meaning. What comes is tried as it is, and once more with a right sum, since
 * otherwise hardly anything gets past the first line. */
#include <stdio.h>
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/meta.h"

#include "fuzz.h"

static void try(const char *text, size_t len)
{
	auto_meta struct meta m = { 0 }, again = { 0 };
	auto_strbuf struct strbuf once = { 0 }, twice = { 0 };
	int r = meta_parse(text, len, &m);

	if (r == -EUCLEAN || r == -EPROTONOSUPPORT)
		return;
	if (r < 0)
		abort();
	meta_format(&m, &once);
	/* Times are written in one form only, which may be longer. */
	if (once.len > META_MAX)
		return;
	if (meta_parse(once.text, once.len, &again) < 0)
		abort();
	meta_format(&again, &twice);
	if (!streq(once.text, twice.text))
		abort();
}

static void try_sealed(const char *kind, const char *body, size_t len)
{
	auto_strbuf struct strbuf text = { 0 };
	uint32_t sum;

	strbuf_printf(&text, "ovstorfs %s 1 %08zu ", kind, len);
	sum = crc32c(crc32c(0, text.text, text.len), body, len);
	strbuf_printf(&text, "%08x\n", sum);
	strbuf_add(&text, body, len);
	try(text.text, text.len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	const char *text = (const char *)data;
	const char *nl = len ? memchr(text, '\n', len) : NULL;
	const char *body = nl ? nl + 1 : text;
	size_t body_len = len - (size_t)(body - text);

	/* Readers have a NUL behind what they read. */
	auto_free char *copy = xstrndup(text, len);

	try(copy, len);
	try_sealed("volume", body, body_len);
	try_sealed("image", body, body_len);
	try_sealed("domain", body, body_len);
	return 0;
}

size_t fuzz_seed(unsigned int number, uint8_t *out, size_t room)
{
	static const enum meta_kind kinds[] = { META_VOLUME, META_IMAGE,
						META_DOMAIN };
	auto_strbuf struct strbuf text = { 0 };
	struct meta m = { .uuid = { { 1 } },
			  .image = { { 2 } },
			  .parent = { { 3 } },
			  .txn = { 1, 2, 3 },
			  .op = OP_CREATE,
			  .created = 1767225600,
			  .description = "words \xc3\xbc",
			  .name = "name",
			  .warn_free = "10%",
			  .extra = "later=1\n" };

	if (number >= ARRAY_SIZE(kinds))
		return 0;
	m.kind = kinds[number];
	meta_format(&m, &text);
	if (text.len > room)
		abort();
	memcpy(out, text.text, text.len);
	return text.len;
}
