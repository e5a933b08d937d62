/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is wrong with a domain, without mounting it.
 *
 * A pass reads everything and keeps each broken rule with its object. Where a
 * mount may be at work, a pass also meets changes half done: then a second
 * one follows a moment later, and only what both saw is told. Nothing is
 * repaired under a mount, which the caller keeps out by its lock, and no bytes
 * are ever deleted but orphans of size 0. */
#include <stdio.h>
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/check.h"
#include "ovstorfs/err.h"
#include "ovstorfs/io.h"

#define SECOND_LOOK_MS 1000

char *make_plain(char *s)
{
	char *p;

	if (text_is_plain(s, strlen(s)))
		return s;
	for (p = s; *p; p++)
		if (*p < ' ' || *p > '~')
			*p = '?';
	return s;
}

void check_found(struct check *c, const char *object, bool repaired,
		 time_t since, const char *fmt, ...)
{
	struct strbuf text = { 0 };
	struct problem *p;
	va_list ap;

	va_start(ap, fmt);
	strbuf_vprintf(&text, fmt, ap);
	va_end(ap);
	if (c->n_problems == c->room_problems) {
		c->room_problems = c->room_problems ? 2 * c->room_problems : 16;
		c->problems =
			realloc(c->problems, c->room_problems * sizeof(*p));
		if (!c->problems)
			abort();
	}
	p = &c->problems[c->n_problems++];
	*p = (struct problem){ .object = make_plain(xstrdup(object)),
			       .text = make_plain(text.text),
			       .since = since,
			       .repaired = repaired };
}

static void check_fini(struct check *c)
{
	size_t i;

	for (i = 0; i < c->n_problems; i++) {
		free(c->problems[i].object);
		free(c->problems[i].text);
	}
	for (i = 0; i < c->n_objects; i++)
		meta_fini(&c->objects[i].meta);
	map_fini(&c->by_uuid);
	free(c->problems);
	free(c->objects);
	meta_fini(&c->domain);
}

/* Objects first: the ring has to be above all their numbers. */
static int run_pass(struct check *c)
{
	int r = check_record(c);

	if (r < 0)
		return r;
	r = check_space(c) ?: check_objects(c);
	if (r < 0)
		return r;
	check_twins(c);
	check_chains(c);
	return check_mailbox(c) ?: check_ring(c);
}

/* ---- what is told ---- */

static bool has_problem(const struct check *c, const struct problem *p)
{
	size_t i;

	for (i = 0; i < c->n_problems; i++)
		if (streq(c->problems[i].object, p->object) &&
		    streq(c->problems[i].text, p->text))
			return true;
	return false;
}

static void tell(const struct check_options *o, const struct problem *p)
{
	auto_strbuf struct strbuf text = { 0 };
	time_t now = time(NULL);

	strbuf_puts(&text, p->text);
	if (p->since)
		strbuf_printf(&text, " (%lld s old)",
			      now > p->since ? (long long)(now - p->since) : 0);
	if (o->say)
		o->say(o->arg, p->object, text.text, p->repaired);
}

/* first: NULL, or the pass whose word is needed too. */
static void report(const struct check *c, const struct check *first,
		   const struct check_options *o, struct check_result *res)
{
	size_t i;

	for (i = 0; i < c->n_problems; i++) {
		const struct problem *p = &c->problems[i];

		if (first && !has_problem(first, p))
			continue;
		res->problems++;
		res->repaired += p->repaired;
		tell(o, p);
	}
	for (i = 0; i < c->n_objects; i++) {
		const struct object *ob = &c->objects[i];

		if (ref_is_volume(&ob->entry.ref))
			res->volumes += object_is_member(ob);
		else
			res->images += ob->entry.ref.dir == RECORD_LIVE ||
				       ob->entry.ref.dir == RECORD_REMOVED;
	}
}

/* ---- the passes ---- */

static int pass(struct storage *s, const char *source,
		const struct check_options *o, struct check *c)
{
	*c = (struct check){ .source = source,
			     .storage = s,
			     .repair = o->repair && !o->mounted };
	return run_pass(c);
}

static int check_open(struct storage *s, const char *source,
		      const struct check_options *o, struct check_result *res)
{
	struct timespec moment = { .tv_sec = SECOND_LOOK_MS / 1000 };
	struct check first, second;
	int r = pass(s, source, o, &first);

	if (!o->mounted || first.n_problems == 0) {
		report(&first, NULL, o, res);
		check_fini(&first);
		return r;
	}
	nanosleep(&moment, NULL);
	r = pass(s, source, o, &second);
	report(&second, &first, o, res);
	check_fini(&first);
	check_fini(&second);
	return r;
}

int check_domain(const char *source, const struct check_options *o,
		 struct check_result *ret_result)
{
	bool repair = o->repair && !o->mounted;
	struct check_result res = { 0 };
	struct storage *s = NULL;
	int r = storage_open(source, !repair, &s);

	if (r < 0)
		return r;
	r = check_open(s, source, o, &res);
	storage_close(s);
	*ret_result = res;
	return r;
}
