/* SPDX-License-Identifier: GPL-2.0-or-later */
/* .ovstorfs/: status, metrics, events, collect. */
#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

/* Who may see that there is a mount may see how it is. */
static void stat_readable(struct server *s, const struct node *n,
			  struct stat *st)
{
	(void)s, (void)n;
	st->st_mode = S_IFREG | 0444;
}

static void status_text(struct server *s, const struct node *n,
			struct strbuf *out)
{
	(void)n;
	status_json(s, out);
}

static void metrics_text(struct server *s, const struct node *n,
			 struct strbuf *out)
{
	(void)n;
	status_metrics(s, out);
}

const struct node_ops node_status_ops = {
	.type = S_IFREG,
	.stat = stat_readable,
	.text = status_text,
};

const struct node_ops node_metrics_ops = {
	.type = S_IFREG,
	.stat = stat_readable,
	.text = metrics_text,
};

const struct node_ops node_events_ops = {
	.type = S_IFREG,
	.stat = stat_readable,
};

/* ---- collect: write "now", and a round of the collector has been made when
 * the write returns; reading tells of the last one ---- */

static void stat_collect(struct server *s, const struct node *n,
			 struct stat *st)
{
	(void)n;
	st->st_mode = S_IFREG | 0644;
	st->st_uid = s->options->uid;
	st->st_gid = s->options->gid;
}

static void collect_text(struct server *s, const struct node *n,
			 struct strbuf *out)
{
	struct domain_info i;
	char at[24];

	(void)n;
	domain_info(s->domain, &i);
	strbuf_printf(out,
		      "{\"rounds\": %llu, \"cleaned\": %llu, \"left\": %llu, "
		      "\"last\": \"%s\"}\n",
		      (unsigned long long)i.gc_rounds,
		      (unsigned long long)i.gc_cleaned,
		      (unsigned long long)i.gc_left,
		      i.gc_last ? format_time(i.gc_last, at) : "");
}

static int collect_put(struct server *s, const char *data, size_t len)
{
	uint64_t cleaned, left;

	if (!(len == 3 && !memcmp(data, "now", 3)) &&
	    !(len == 4 && !memcmp(data, "now\n", 4)))
		return err_new(-EINVAL, "collect takes the word now");
	return gc_run(s->domain, &cleaned, &left);
}

const struct node_ops node_collect_ops = {
	.type = S_IFREG,
	.stat = stat_collect,
	.text = collect_text,
	.put = collect_put,
};
