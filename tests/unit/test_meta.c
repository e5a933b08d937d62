/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records: what is written is read, what is damaged is refused. */
#include "ovstorfs.h"
#include "ovstorfs/meta.h"
#include "unit.h"

#define VOLUME "0123abcd-4567-89ab-cdef-0123456789ab"
#define IMAGE "11111111-2222-3333-4444-555555555555"
#define PARENT "99999999-8888-7777-6666-555555555555"

static void fill_volume(struct meta *m)
{
	*m = (struct meta){
		.kind = META_VOLUME,
		.uuid = uuid_of(VOLUME),
		.txn = { 250, UINT64_MAX, 77 },
		.op = OP_SNAPSHOT,
		.number = UINT64_MAX,
		.created = 1767225600,
		.written = 1767225601,
		.description = xstrdup("root disk = \xc3\xbc, 50% full"),
		.image = uuid_of(IMAGE),
		.parent = uuid_of(PARENT),
		.format = FORMAT_QCOW2,
		.allocation = ALLOCATION_PREALLOCATED,
		.legality = LEGALITY_ILLEGAL,
		.wipe = WIPE_NONE,
		.generation = 5,
		.size_before = 6,
	};
}

static void fill_domain(struct meta *m)
{
	*m = (struct meta){
		.kind = META_DOMAIN,
		.uuid = uuid_of(VOLUME),
		.op = OP_CREATE,
		.created = 1,
		.written = 2,
		.name = xstrdup("backup"),
		.warn_free = xstrdup("10%"),
		.critical_free = xstrdup("1073741824"),
		.io_timeout = 10,
		.sequence = 3,
	};
}

static void assert_same_text(const char *a, const char *b)
{
	if (a && b)
		assert_string_equal(a, b);
	else
		assert_ptr_equal(a, b);
}

static void assert_same(const struct meta *a, const struct meta *b)
{
	assert_int_equal(a->kind, b->kind);
	assert_true(uuid_eq(&a->uuid, &b->uuid));
	assert_true(uuid_eq(&a->image, &b->image));
	assert_true(uuid_eq(&a->parent, &b->parent));
	assert_int_equal(a->txn.host, b->txn.host);
	assert_true(a->txn.generation == b->txn.generation);
	assert_true(a->txn.sequence == b->txn.sequence);
	assert_int_equal(a->op, b->op);
	assert_true(a->number == b->number);
	assert_int_equal(a->created, b->created);
	assert_int_equal(a->written, b->written);
	assert_int_equal(a->format, b->format);
	assert_int_equal(a->allocation, b->allocation);
	assert_int_equal(a->legality, b->legality);
	assert_int_equal(a->wipe, b->wipe);
	assert_int_equal(a->generation, b->generation);
	assert_int_equal(a->size_before, b->size_before);
	assert_int_equal(a->retention, b->retention);
	assert_int_equal(a->io_timeout, b->io_timeout);
	assert_int_equal(a->sequence, b->sequence);
	assert_same_text(a->description, b->description);
	assert_same_text(a->name, b->name);
	assert_same_text(a->warn_free, b->warn_free);
	assert_same_text(a->critical_free, b->critical_free);
	assert_same_text(a->extra, b->extra);
}

static void round_trip(const struct meta *m)
{
	auto_strbuf struct strbuf once = { 0 }, twice = { 0 };
	auto_meta struct meta back = { 0 }, copy = { 0 };

	meta_format(m, &once);
	assert_int_equal(meta_parse(once.text, once.len, &back), 0);
	assert_same(m, &back);
	meta_copy(&back, &copy);
	assert_same(m, &copy);
	meta_format(&copy, &twice);
	assert_string_equal(once.text, twice.text);
}

static void test_records_round_trip(void **state)
{
	auto_meta struct meta v = { 0 }, d = { 0 };
	struct meta i = { .kind = META_IMAGE,
			  .uuid = uuid_of(IMAGE),
			  .retention = UINT64_MAX };

	(void)state;
	fill_volume(&v);
	round_trip(&v);
	fill_domain(&d);
	round_trip(&d);
	round_trip(&i);
}

/* ---- records made by hand ---- */

/* A record with a right sum. */
static void seal(const char *kind, const char *version, const char *body,
		 size_t len, struct strbuf *out)
{
	auto_strbuf struct strbuf head = { 0 };
	uint32_t sum;

	strbuf_printf(&head, "ovstorfs %s %s %08zu ", kind, version, len);
	sum = crc32c(crc32c(0, head.text, head.len), body, len);
	strbuf_printf(out, "%s%08x\n", head.text, sum);
	strbuf_add(out, body, len);
}

static int parse_body(const char *body, struct meta *ret_meta)
{
	auto_strbuf struct strbuf text = { 0 };

	seal("volume", "1", body, strlen(body), &text);
	return meta_parse(text.text, text.len, ret_meta);
}

#define IDS "uuid=" VOLUME "\nimage=" IMAGE "\n"

static void test_unknown_keys_are_kept(void **state)
{
	auto_meta struct meta m = { 0 }, again = { 0 };
	auto_strbuf struct strbuf text = { 0 };

	(void)state;
	assert_int_equal(parse_body("later=one=two\n" IDS "format=qcow2\n"
				    "empty=\n",
				    &m),
			 0);
	assert_string_equal(m.extra, "later=one=two\nempty=\n");
	assert_int_equal(m.format, FORMAT_QCOW2);
	meta_format(&m, &text);
	assert_int_equal(meta_parse(text.text, text.len, &again), 0);
	assert_same(&m, &again);
}

static void test_wrong_values_are_damage(void **state)
{
	static const char *const bad[] = {
		"",
		"uuid=" VOLUME "\n", /* a volume without an image */
		"image=" IMAGE "\n",
		IDS "format=vmdk\n",
		IDS "format=\n",
		IDS "legality=Legal\n",
		IDS "op=destroy\n",
		IDS "txn=1.2\n",
		IDS "txn=1.2.3.4\n",
		IDS "txn=4294967296.1.1\n",
		IDS "txn=a.1.1\n",
		IDS "txn=\n",
		IDS "number=18446744073709551616\n",
		IDS "number=-1\n",
		IDS "number= 1\n",
		IDS "created=yesterday\n",
		IDS "description=\x01\n",
		IDS "description=\xff\n",
		IDS "parent=x\n",
		IDS "parent=00000000-0000-0000-0000-000000000000\n",
		IDS "uuid=" VOLUME "0\n",
		IDS "no equals sign\n",
		IDS "=no key\n",
		IDS "\n",
		IDS "number=1", /* the last line is cut */
	};
	struct meta m = { 0 };
	size_t i;

	(void)state;
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		assert_int_equal(parse_body(bad[i], &m), -EUCLEAN);
	assert_int_equal(parse_body(IDS, &m), 0);
	meta_fini(&m);
}

static void test_long_and_binary_text_is_damage(void **state)
{
	auto_strbuf struct strbuf text = { 0 }, body = { 0 };
	auto_free char *words = xcalloc(1, OVSTORFS_VALUE_MAX + 2);
	struct meta m = { 0 };

	(void)state;
	memset(words, 'w', OVSTORFS_VALUE_MAX);
	strbuf_printf(&body, IDS "description=%s\n", words);
	assert_int_equal(parse_body(body.text, &m), 0);
	meta_fini(&m);
	words[OVSTORFS_VALUE_MAX] = 'w';
	strbuf_printf(&body, "description=%s\n", words);
	assert_int_equal(parse_body(body.text, &m), -EUCLEAN);
	seal("volume", "1", IDS "x=\0\n", sizeof(IDS) + 3, &text);
	assert_int_equal(meta_parse(text.text, text.len, &m), -EUCLEAN);
}

static void test_newer_versions_are_told_from_damage(void **state)
{
	auto_strbuf struct strbuf two = { 0 }, strange = { 0 }, one = { 0 };
	struct meta m = { 0 };
	char *version;
	int bit;

	(void)state;
	seal("volume", "2", IDS, strlen(IDS), &two);
	assert_int_equal(meta_parse(two.text, two.len, &m), -EPROTONOSUPPORT);
	/* Whatever that version has put in its first line. */
	strbuf_puts(&strange, "ovstorfs volume 3 whatever\nelse\n");
	assert_int_equal(meta_parse(strange.text, strange.len, &m),
			 -EPROTONOSUPPORT);
	seal("volume", "1", IDS, strlen(IDS), &one);
	version = one.text + strlen("ovstorfs volume ");
	for (bit = 0; bit < 8; bit++) {
		*version ^= (char)(1 << bit);
		assert_int_equal(meta_parse(one.text, one.len, &m), -EUCLEAN);
		*version ^= (char)(1 << bit);
	}
}

/* ---- damage ---- */

static void flip_all(const struct meta *m)
{
	auto_strbuf struct strbuf text = { 0 };
	struct meta back = { 0 };
	size_t bit;

	meta_format(m, &text);
	for (bit = 0; bit < 8 * text.len; bit++) {
		text.text[bit / 8] ^= (char)(1 << bit % 8);
		assert_int_equal(meta_parse(text.text, text.len, &back),
				 -EUCLEAN);
		text.text[bit / 8] ^= (char)(1 << bit % 8);
	}
	assert_int_equal(meta_parse(text.text, text.len, &back), 0);
	meta_fini(&back);
}

static void test_every_flipped_bit_is_found(void **state)
{
	auto_meta struct meta v = { 0 }, d = { 0 };

	(void)state;
	fill_volume(&v);
	flip_all(&v);
	fill_domain(&d);
	flip_all(&d);
}

static void test_cut_and_grown_records_are_damage(void **state)
{
	auto_meta struct meta m = { 0 };
	auto_strbuf struct strbuf text = { 0 };
	struct meta back = { 0 };
	size_t len;

	(void)state;
	fill_volume(&m);
	meta_format(&m, &text);
	for (len = 0; len < text.len; len++) {
		/* On a heap page of its own, so that a read past the end is
		 * seen. */
		auto_free char *cut = xstrndup(text.text, len);

		assert_int_equal(meta_parse(cut, len, &back), -EUCLEAN);
	}
	len = text.len;
	strbuf_puts(&text, "\n");
	assert_int_equal(meta_parse(text.text, len + 1, &back), -EUCLEAN);
	text.text[len] = '\0';
	assert_int_equal(meta_parse(text.text, len + 1, &back), -EUCLEAN);
}

static void test_huge_records_are_damage(void **state)
{
	auto_strbuf struct strbuf text = { 0 };
	auto_free char *body = xcalloc(1, META_MAX + 1);
	size_t n = strlen(IDS "x=");
	struct meta m = { 0 };

	(void)state;
	memset(body, 'x', META_MAX);
	memcpy(body, IDS "x=", n);
	body[META_MAX - 1] = '\n';
	seal("volume", "1", body, META_MAX, &text);
	assert_int_equal(meta_parse(text.text, text.len, &m), -EUCLEAN);
	body[META_MAX - 101] = '\n';
	strbuf_fini(&text);
	seal("volume", "1", body, META_MAX - 100, &text);
	assert_int_equal(meta_parse(text.text, text.len, &m), 0);
	meta_fini(&m);
}

/* ---- words ---- */

static void test_words(void **state)
{
	enum volume_format f = FORMAT_RAW;
	enum volume_allocation a = ALLOCATION_SPARSE;
	enum volume_legality l = LEGALITY_LEGAL;
	enum volume_wipe w = WIPE_ZERO;

	(void)state;
	assert_int_equal(format_parse(format_word(FORMAT_QCOW2), &f), 0);
	assert_int_equal(f, FORMAT_QCOW2);
	assert_int_equal(allocation_parse("preallocated", &a), 0);
	assert_int_equal(a, ALLOCATION_PREALLOCATED);
	assert_int_equal(legality_parse("illegal", &l), 0);
	assert_int_equal(wipe_parse("none", &w), 0);
	assert_int_equal(w, WIPE_NONE);
	assert_int_equal(format_parse("RAW", &f), -EINVAL);
	assert_int_equal(format_parse("", &f), -EINVAL);
	assert_int_equal(format_parse("raw ", &f), -EINVAL);
	assert_string_equal(op_word(OP_REMOVE), "remove");
}

static void test_thresholds(void **state)
{
	uint64_t v = 0;

	(void)state;
	assert_int_equal(threshold_parse("10%", 1000, &v), 0);
	assert_int_equal(v, 100);
	assert_int_equal(threshold_parse("100%", UINT64_MAX, &v), 0);
	assert_int_equal(threshold_parse("2G", 1000, &v), 0);
	assert_true(v == 2ull << 30);
	assert_int_equal(threshold_parse("101%", 1000, &v), -EINVAL);
	assert_int_equal(threshold_parse("%", 1000, &v), -EINVAL);
	assert_int_equal(threshold_parse("", 1000, &v), -EINVAL);
	assert_int_equal(threshold_parse("-5%", 1000, &v), -EINVAL);
	assert_int_equal(threshold_parse("ten", 1000, &v), -EINVAL);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_records_round_trip),
		cmocka_unit_test(test_unknown_keys_are_kept),
		cmocka_unit_test(test_wrong_values_are_damage),
		cmocka_unit_test(test_long_and_binary_text_is_damage),
		cmocka_unit_test(test_newer_versions_are_told_from_damage),
		cmocka_unit_test(test_every_flipped_bit_is_found),
		cmocka_unit_test(test_cut_and_grown_records_are_damage),
		cmocka_unit_test(test_huge_records_are_damage),
		cmocka_unit_test(test_words),
		cmocka_unit_test(test_thresholds),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
