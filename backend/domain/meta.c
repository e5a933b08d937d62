/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records to structs and back. One table says which keys there are, so that
 * reading and writing cannot disagree. */
#include <stdio.h>
#include <stdlib.h>

#include "ovstorfs.h"
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"
#include "ovstorfs/meta.h"

/* "ovstorfs volume 1 00000345 9a8b7c6d\n": kind, version, bytes that follow
 * the line, CRC32C of the line up to the CRC and of what follows. */
#define MAGIC "ovstorfs "
#define CRC_DIGITS 8
#define LENGTH_DIGITS 8

static const char *const kinds[] = { "domain", "image", "volume" };
static const char *const formats[] = { "raw", "qcow2" };
static const char *const allocations[] = { "sparse", "preallocated" };
static const char *const legalities[] = { "legal", "illegal" };
static const char *const wipes[] = { "zero", "discard", "none" };
static const char *const ops[] = { "none",   "create",	 "set",
				   "resize", "snapshot", "remove" };

enum field_type { F_UUID, F_TXN, F_U64, F_TIME, F_TEXT, F_WORD };

struct field {
	const char *key;
	unsigned int kinds; /* bit per meta_kind */
	enum field_type type;
	size_t offset;
	const char *const *words;
	size_t n_words;
};

#define DOMAIN (1u << META_DOMAIN)
#define IMAGE (1u << META_IMAGE)
#define VOLUME (1u << META_VOLUME)
#define ALL (DOMAIN | IMAGE | VOLUME)
#define AT(member) offsetof(struct meta, member)
#define WORDS(list) list, ARRAY_SIZE(list)

static const struct field fields[] = {
	{ "uuid", ALL, F_UUID, AT(uuid), NULL, 0 },
	{ "image", VOLUME, F_UUID, AT(image), NULL, 0 },
	{ "parent", VOLUME, F_UUID, AT(parent), NULL, 0 },
	{ "txn", ALL, F_TXN, AT(txn), NULL, 0 },
	{ "op", ALL, F_WORD, AT(op), WORDS(ops) },
	{ "number", ALL, F_U64, AT(number), NULL, 0 },
	{ "created", ALL, F_TIME, AT(created), NULL, 0 },
	{ "written", ALL, F_TIME, AT(written), NULL, 0 },
	{ "format", VOLUME, F_WORD, AT(format), WORDS(formats) },
	{ "allocation", VOLUME, F_WORD, AT(allocation), WORDS(allocations) },
	{ "legality", VOLUME, F_WORD, AT(legality), WORDS(legalities) },
	{ "wipe", VOLUME, F_WORD, AT(wipe), WORDS(wipes) },
	{ "generation", VOLUME, F_U64, AT(generation), NULL, 0 },
	{ "size_before", VOLUME, F_U64, AT(size_before), NULL, 0 },
	{ "retention", IMAGE, F_U64, AT(retention), NULL, 0 },
	{ "name", DOMAIN, F_TEXT, AT(name), NULL, 0 },
	{ "io_timeout", DOMAIN, F_U64, AT(io_timeout), NULL, 0 },
	{ "warn_free", DOMAIN, F_TEXT, AT(warn_free), NULL, 0 },
	{ "critical_free", DOMAIN, F_TEXT, AT(critical_free), NULL, 0 },
	{ "sequence", DOMAIN, F_U64, AT(sequence), NULL, 0 },
	{ "description", ALL, F_TEXT, AT(description), NULL, 0 },
};

static const struct field *field_find(enum meta_kind kind, const char *key)
{
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fields); i++)
		if (fields[i].kinds & 1u << kind && streq(fields[i].key, key))
			return &fields[i];
	return NULL;
}

static int word_find(const char *const *words, size_t n, const char *s,
		     unsigned int *ret_index)
{
	size_t i;

	for (i = 0; i < n; i++) {
		if (!streq(words[i], s))
			continue;
		*ret_index = (unsigned int)i;
		return 0;
	}
	return err_new(-EINVAL, "there is no such word as %.40s here", s);
}

static int txn_parse(const char *s, struct txn_id *ret_id)
{
	auto_free char *copy = xstrdup(s);
	char *save = NULL;
	char *part[4];
	uint64_t v[3];
	int i;

	for (i = 0; i < 4; i++)
		part[i] = strtok_r(i ? NULL : copy, ".", &save);
	for (i = 0; i < 3; i++)
		if (!part[i] || parse_u64(part[i], &v[i]) < 0)
			return err_new(-EINVAL, "not a transaction id");
	if (part[3] || v[0] > UINT32_MAX)
		return err_new(-EINVAL, "not a transaction id");
	ret_id->host = (uint32_t)v[0];
	ret_id->generation = v[1];
	ret_id->sequence = v[2];
	return 0;
}

static int text_parse(const char *s, char **ret_text)
{
	if (strlen(s) > OVSTORFS_VALUE_MAX || !text_is_plain(s, strlen(s)))
		return err_new(-EINVAL, "not plain text");
	free(*ret_text);
	*ret_text = xstrdup(s);
	return 0;
}

static int value_parse(const struct field *f, const char *s, struct meta *m)
{
	void *at = (char *)m + f->offset;

	switch (f->type) {
	case F_UUID:
		return uuid_parse(s, at);
	case F_TXN:
		return txn_parse(s, at);
	case F_U64:
		return parse_u64(s, at);
	case F_TIME:
		return parse_time(s, at);
	case F_TEXT:
		return text_parse(s, at);
	case F_WORD:
		return word_find(f->words, f->n_words, s, at);
	}
	return -EINVAL;
}

/* A field that says nothing is not written. */
static bool value_is_empty(const struct field *f, const struct meta *m)
{
	const void *at = (const char *)m + f->offset;

	if (f->type == F_UUID)
		return uuid_is_nil(at);
	if (f->type == F_TEXT)
		return !*(char *const *)at;
	return false;
}

static void value_format(const struct field *f, const struct meta *m,
			 struct strbuf *out)
{
	const void *at = (const char *)m + f->offset;
	const struct txn_id *id = at;
	char text[UUID_TEXT];

	switch (f->type) {
	case F_UUID:
		strbuf_puts(out, uuid_format(at, text));
		break;
	case F_TXN:
		strbuf_printf(out, "%u.%llu.%llu", id->host,
			      (unsigned long long)id->generation,
			      (unsigned long long)id->sequence);
		break;
	case F_U64:
		strbuf_printf(out, "%llu",
			      (unsigned long long)*(const uint64_t *)at);
		break;
	case F_TIME:
		strbuf_puts(out, format_time(*(const time_t *)at, text));
		break;
	case F_TEXT:
		strbuf_puts(out, *(char *const *)at);
		break;
	case F_WORD:
		strbuf_puts(out, f->words[*(const unsigned int *)at]);
		break;
	}
}

static int damaged(const char *what)
{
	return err_new(-EUCLEAN, "damaged record: %s", what);
}

/* Another digit where the version stands: was it written so, or is it a 1 in
 * which a bit flipped? */
static bool is_version_1(const char *text, const char *version, const char *nl,
			 size_t len)
{
	size_t at = (size_t)(version - text), body = (size_t)(nl + 1 - text);
	uint32_t sum;
	char crc[CRC_DIGITS + 1];

	if (nl - version != 2 + LENGTH_DIGITS + 1 + CRC_DIGITS)
		return false;
	sum = crc32c(crc32c(0, text, at), "1", 1);
	sum = crc32c(sum, version + 1, (size_t)(nl - version) - 1 - CRC_DIGITS);
	snprintf(crc, sizeof(crc), "%08x", crc32c(sum, nl + 1, len - body));
	return memcmp(crc, nl - CRC_DIGITS, CRC_DIGITS) == 0;
}

static int digits_parse(const char *s, int n, int base, uint32_t *ret_value)
{
	char digits[16];
	char *end;

	memcpy(digits, s, (size_t)n);
	digits[n] = '\0';
	if (strspn(digits, base == 10 ? "0123456789" : "0123456789abcdef") !=
	    (size_t)n)
		return damaged("a number in its first line");
	*ret_value = (uint32_t)strtoul(digits, &end, base);
	return 0;
}

/* The first line, and whether the sum is right. */
static int head_parse(const char *text, size_t len, enum meta_kind *ret_kind,
		      const char **ret_body, size_t *ret_len)
{
	const char *nl = memchr(text, '\n', len < 64 ? len : 64);
	const char *p = text + strlen(MAGIC);
	uint32_t body, crc, sum;
	size_t head, k;

	if (!nl || !str_starts(text, MAGIC))
		return damaged("its first line");
	for (k = 0; k < ARRAY_SIZE(kinds); k++)
		if (str_starts(p, kinds[k]) && p[strlen(kinds[k])] == ' ')
			break;
	if (k == ARRAY_SIZE(kinds))
		return damaged("its kind");
	p += strlen(kinds[k]) + 1;
	if (p[0] >= '2' && p[0] <= '9' && p[1] == ' ' &&
	    !is_version_1(text, p, nl, len))
		return err_new(-EPROTONOSUPPORT,
			       "written by a newer version "
			       "of ovstorfs (format %c)",
			       p[0]);
	if (!str_starts(p, "1 ") ||
	    nl - p != 2 + LENGTH_DIGITS + 1 + CRC_DIGITS)
		return damaged("its first line");
	head = (size_t)(nl - text) - CRC_DIGITS;
	if (digits_parse(p + 2, LENGTH_DIGITS, 10, &body) < 0 ||
	    digits_parse(nl - CRC_DIGITS, CRC_DIGITS, 16, &crc) < 0 ||
	    p[2 + LENGTH_DIGITS] != ' ')
		return damaged("its first line");
	if (body != len - (size_t)(nl + 1 - text))
		return damaged("it is cut off, or something follows it");
	sum = crc32c(crc32c(0, text, head), nl + 1, body);
	if (sum != crc)
		return damaged("its check sum is wrong");
	*ret_kind = (enum meta_kind)k;
	*ret_body = nl + 1;
	*ret_len = body;
	return 0;
}

static int line_parse(char *line, struct meta *m, struct strbuf *extra)
{
	char *eq = strchr(line, '=');
	const struct field *f;

	if (!eq || eq == line)
		return damaged("a line without a key");
	*eq = '\0';
	f = field_find(m->kind, line);
	if (!f) {
		strbuf_printf(extra, "%s=%s\n", line, eq + 1);
		return 0;
	}
	if (value_parse(f, eq + 1, m) < 0)
		return err_new(-EUCLEAN, "damaged record: the value of %s",
			       f->key);
	return 0;
}

static int body_parse(const char *body, size_t len, struct meta *m)
{
	auto_strbuf struct strbuf extra = { 0 };
	auto_free char *copy = NULL;
	char *p, *nl;
	int r;

	if (memchr(body, '\0', len) || (len && body[len - 1] != '\n'))
		return damaged("it is not text");
	copy = xstrndup(body, len);
	for (p = copy; *p; p = nl + 1) {
		nl = strchr(p, '\n');
		*nl = '\0';
		r = line_parse(p, m, &extra);
		if (r < 0)
			return r;
	}
	if (uuid_is_nil(&m->uuid) ||
	    (m->kind == META_VOLUME && uuid_is_nil(&m->image)))
		return damaged("it has no uuid");
	m->extra = steal(extra.text);
	return 0;
}

int meta_parse(const char *text, size_t len, struct meta *ret_meta)
{
	auto_meta struct meta m = { 0 };
	const char *body = NULL;
	size_t body_len = 0;
	int r;

	if (len > META_MAX)
		return damaged("it is too long");
	r = head_parse(text, len, &m.kind, &body, &body_len);
	if (r < 0)
		return r;
	r = body_parse(body, body_len, &m);
	if (r < 0)
		return r;
	*ret_meta = m;
	memset(&m, 0, sizeof(m));
	return 0;
}

void meta_format(const struct meta *m, struct strbuf *out)
{
	auto_strbuf struct strbuf body = { 0 }, head = { 0 };
	uint32_t sum;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(fields); i++) {
		const struct field *f = &fields[i];

		if (!(f->kinds & 1u << m->kind) || value_is_empty(f, m))
			continue;
		strbuf_printf(&body, "%s=", f->key);
		value_format(f, m, &body);
		strbuf_puts(&body, "\n");
	}
	if (m->extra)
		strbuf_puts(&body, m->extra);
	strbuf_printf(&head, MAGIC "%s %d %0*zu ", kinds[m->kind], META_VERSION,
		      LENGTH_DIGITS, body.len);
	sum = crc32c(crc32c(0, head.text, head.len), body.text, body.len);
	strbuf_printf(out, "%s%0*x\n%s", head.text, CRC_DIGITS, sum, body.text);
}

void meta_copy(const struct meta *from, struct meta *ret_meta)
{
	*ret_meta = *from;
	if (from->description)
		ret_meta->description = xstrdup(from->description);
	if (from->name)
		ret_meta->name = xstrdup(from->name);
	if (from->warn_free)
		ret_meta->warn_free = xstrdup(from->warn_free);
	if (from->critical_free)
		ret_meta->critical_free = xstrdup(from->critical_free);
	if (from->extra)
		ret_meta->extra = xstrdup(from->extra);
}

void meta_fini(struct meta *m)
{
	free(m->description);
	free(m->name);
	free(m->warn_free);
	free(m->critical_free);
	free(m->extra);
	memset(m, 0, sizeof(*m));
}

const char *format_word(enum volume_format v)
{
	return formats[v];
}

const char *allocation_word(enum volume_allocation v)
{
	return allocations[v];
}

const char *legality_word(enum volume_legality v)
{
	return legalities[v];
}

const char *wipe_word(enum volume_wipe v)
{
	return wipes[v];
}

const char *op_word(enum meta_op v)
{
	return ops[v];
}

int format_parse(const char *s, enum volume_format *ret)
{
	return word_find(formats, ARRAY_SIZE(formats), s, ret);
}

int allocation_parse(const char *s, enum volume_allocation *ret)
{
	return word_find(allocations, ARRAY_SIZE(allocations), s, ret);
}

int legality_parse(const char *s, enum volume_legality *ret)
{
	return word_find(legalities, ARRAY_SIZE(legalities), s, ret);
}

int wipe_parse(const char *s, enum volume_wipe *ret)
{
	return word_find(wipes, ARRAY_SIZE(wipes), s, ret);
}

int threshold_parse(const char *s, uint64_t total, uint64_t *ret_bytes)
{
	auto_free char *copy = xstrdup(s);
	size_t n = strlen(copy);
	uint64_t v;

	if (n && copy[n - 1] == '%') {
		copy[n - 1] = '\0';
		if (parse_u64(copy, &v) < 0 || v > 100)
			return err_new(-EINVAL, "%s is not a per cent", s);
		*ret_bytes = total / 100 * v;
		return 0;
	}
	if (parse_size(copy, &v) < 0)
		return err_new(-EINVAL, "neither bytes nor per cent");
	*ret_bytes = v;
	return 0;
}
