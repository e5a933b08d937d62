/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Names of a file domain: from objects to paths and back. Pure.
 *
 * Creating and deleting never share a name, so that a marker says by its name
 * alone whether there is something to undo or something to finish. */
#include <stdio.h>
#include <string.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"

#include "file.h"

static const char *const dir_suffix[RECORD_STATES] = {
	[RECORD_LIVE] = "",
	[RECORD_NEW] = ".new",
	[RECORD_REMOVED] = ".removed",
	[RECORD_DYING] = ".dying",
};

static const char *const volume_suffix[RECORD_STATES] = {
	[RECORD_LIVE] = ".meta",
	[RECORD_NEW] = ".meta.new",
	[RECORD_SET] = ".meta.set",
	[RECORD_UNDO] = ".meta.undo",
	[RECORD_REMOVING] = ".meta.removing",
	[RECORD_REMOVED] = ".meta.removed",
	[RECORD_DYING] = ".meta.dying",
};

/* An image's records in its directory; NEW, REMOVED and DYING are the name
 * of the directory. */
static const char *const image_record[RECORD_STATES] = {
	[RECORD_LIVE] = "image",
	[RECORD_NEW] = "image",
	[RECORD_SET] = "image.set",
	[RECORD_UNDO] = "image.undo",
	[RECORD_REMOVING] = "image.removing",
	[RECORD_REMOVED] = "image.removing",
	[RECORD_DYING] = "image",
};

static const struct {
	const char *name;
	uint64_t size;
} areas[AREA_COUNT] = {
	[AREA_DOMAIN] = { "ovstorfs/domain", STORAGE_DOMAIN_SIZE },
	[AREA_CHANGES] = { "ovstorfs/changes", STORAGE_CHANGES_SIZE },
	[AREA_MAILBOX] = { "ovstorfs/mailbox", STORAGE_MAILBOX_SIZE },
};

void layout_image_dir(const struct ref *ref, enum record dir, char *out)
{
	char image[UUID_TEXT];

	uuid_format(&ref->image, image);
	snprintf(out, NAME_ROOM, "images/%s%s", image, dir_suffix[dir]);
}

void layout_path(const struct ref *ref, enum file_part part, enum record state,
		 char *out)
{
	char volume[UUID_TEXT];
	size_t n;

	layout_image_dir(ref, ref->dir, out);
	n = strlen(out);
	if (!ref_is_volume(ref)) {
		snprintf(out + n, NAME_ROOM - n, "/%s", image_record[state]);
		return;
	}
	uuid_format(&ref->volume, volume);
	snprintf(out + n, NAME_ROOM - n, "/%s%s", volume,
		 part == PART_DATA  ? "" :
		 part == PART_LEASE ? ".lease" :
				      volume_suffix[state]);
}

const char *layout_area_name(enum storage_area a)
{
	return areas[a].name;
}

uint64_t layout_area_size(enum storage_area a)
{
	return areas[a].size;
}

static int suffix_find(const char *const *list, const char *s,
		       enum record *ret_state)
{
	int i;

	for (i = 0; i < RECORD_STATES; i++) {
		if (!list[i] || strcmp(list[i], s))
			continue;
		*ret_state = (enum record)i;
		return 0;
	}
	return err_new(-EINVAL, "%s is no name of ours", s);
}

/* The UUID that a name begins with; *ret_rest is what follows it. */
static int leading_uuid(const char *name, struct uuid *ret_uuid,
			const char **ret_rest)
{
	char text[UUID_TEXT];

	if (strlen(name) < UUID_TEXT - 1)
		return err_new(-EINVAL, "%s is no name of ours", name);
	memcpy(text, name, UUID_TEXT - 1);
	text[UUID_TEXT - 1] = '\0';
	*ret_rest = name + UUID_TEXT - 1;
	return uuid_parse(text, ret_uuid);
}

int layout_parse_image(const char *name, struct ref *ret_ref)
{
	struct ref ref = { 0 };
	const char *rest = "";
	int r = leading_uuid(name, &ref.image, &rest);

	if (r == 0)
		r = suffix_find(dir_suffix, rest, &ref.dir);
	if (r == 0)
		*ret_ref = ref;
	return r;
}

int layout_parse_volume(const char *name, struct uuid *ret_volume,
			enum file_part *ret_part, enum record *ret_state)
{
	struct uuid u = { { 0 } };
	const char *rest = "";

	*ret_part = PART_RECORD;
	*ret_volume = u;
	if (suffix_find(image_record, name, ret_state) == 0)
		return 0;
	if (leading_uuid(name, &u, &rest) < 0)
		return err_new(-EINVAL, "%s is no name of ours", name);
	*ret_volume = u;
	*ret_state = RECORD_LIVE;
	if (!strcmp(rest, ""))
		*ret_part = PART_DATA;
	else if (!strcmp(rest, ".lease"))
		*ret_part = PART_LEASE;
	else
		return suffix_find(volume_suffix, rest, ret_state);
	return 0;
}
