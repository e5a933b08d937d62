/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names found in a file domain: one that means something is the one that its
 * meaning gives. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/str.h"

#include "../../backend/storage/file/file.h"
#include "fuzz.h"

static void try_image(const char *name)
{
	struct ref ref = { 0 };
	char path[NAME_ROOM];

	if (layout_parse_image(name, &ref) < 0)
		return;
	layout_image_dir(&ref, ref.dir, path);
	if (ref_is_volume(&ref) || uuid_is_nil(&ref.image) ||
	    !streq(path + strlen("images/"), name))
		abort();
}

static void try_volume(const char *name)
{
	struct ref ref = { .image = { { 1 } } };
	enum file_part part;
	enum record state;
	char path[NAME_ROOM];

	if (layout_parse_volume(name, &ref.volume, &part, &state) < 0)
		return;
	layout_path(&ref, part, state, path);
	if (!streq(strrchr(path, '/') + 1, name))
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
	auto_free char *name = xstrndup((const char *)data, len);
	struct uuid u;
	char text[UUID_TEXT];

	try_image(name);
	try_volume(name);
	if (uuid_parse(name, &u) == 0 && !streq(uuid_format(&u, text), name))
		abort();
	return 0;
}

size_t fuzz_seed(unsigned int number, uint8_t *out, size_t room)
{
#define ID "0123abcd-4567-89ab-cdef-0123456789ab"
	static const char *const names[] = {
		ID,	     ID ".new",	      ID ".removed",
		ID ".dying", ID ".meta",      ID ".meta.new",
		ID ".lease", ID ".meta.undo", ID ".meta.removing",
		"image",     "image.set",     "image.removing",
	};
	size_t len;

	if (number >= ARRAY_SIZE(names))
		return 0;
	len = strlen(names[number]);
	if (len > room)
		abort();
	memcpy(out, names[number], len);
	return len;
}
