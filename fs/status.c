/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What the mount tells of itself: status as JSON, metrics for Prometheus. */
#include <json-c/json.h>
#include <unistd.h>

#include "ovstorfs/node.h"
#include "ovstorfs/server.h"

static void put_text(struct json_object *o, const char *key, const char *v)
{
	json_object_object_add(o, key, json_object_new_string(v));
}

static void put_number(struct json_object *o, const char *key, uint64_t v)
{
	json_object_object_add(o, key, json_object_new_int64((int64_t)v));
}

static struct json_object *space_of(const struct domain_info *i)
{
	struct json_object *o = json_object_new_object();

	put_number(o, "total", i->total);
	put_number(o, "free", i->free);
	put_text(o, "level", i->level);
	return o;
}

static struct json_object *collector_of(const struct domain_info *i)
{
	struct json_object *o = json_object_new_object();
	char at[24];

	put_number(o, "rounds", i->gc_rounds);
	put_number(o, "cleaned", i->gc_cleaned);
	put_number(o, "left", i->gc_left);
	put_text(o, "last", i->gc_last ? format_time(i->gc_last, at) : "");
	return o;
}

static struct json_object *opens_of(struct server *s,
				    const struct domain_info *i)
{
	struct json_object *o = json_object_new_object();

	put_number(o, "volumes", i->open_volumes);
	put_number(o, "lingering", i->lingering);
	put_number(o, "passthrough", s->counters.opens_passthrough);
	put_number(o, "direct", s->counters.opens_direct);
	put_number(o, "passthrough_refused", s->counters.passthrough_refused);
	return o;
}

static struct json_object *verbs_of(struct server *s)
{
	struct json_object *o = json_object_new_object();
	uint64_t n = s->counters.verbs;

	put_number(o, "done", n);
	put_number(o, "refused", s->counters.refused);
	put_number(o, "timed_out", s->counters.timed_out);
	put_number(o, "interrupted", s->counters.interrupted);
	put_number(o, "stuck", s->counters.stuck);
	put_number(o, "mean_us", n ? s->counters.verb_us / n : 0);
	return o;
}

static struct json_object *objects_of(const struct domain_info *i)
{
	struct json_object *o = json_object_new_object();

	put_number(o, "images", i->images);
	put_number(o, "volumes", i->volumes);
	put_number(o, "trashed", i->trashed);
	put_number(o, "damaged", i->damaged);
	return o;
}

void status_json(struct server *s, struct strbuf *out)
{
	struct json_object *o = json_object_new_object();
	struct domain_info i;
	char uuid[UUID_TEXT];

	domain_info(s->domain, &i);
	put_text(o, "domain", uuid_format(&i.uuid, uuid));
	put_text(o, "name", i.name);
	put_text(o, "source", i.source);
	put_text(o, "backend", i.backend);
	put_text(o, "state", s->counters.stuck ? "stuck" : i.state);
	if (i.member.error[0])
		put_text(o, "error", i.member.error);
	put_number(o, "host_id", i.member.host_id);
	put_number(o, "generation", i.member.generation);
	put_number(o, "keeper_pid", (uint64_t)s->shared->keeper_pid);
	put_number(o, "server_pid", (uint64_t)getpid());
	put_number(o, "server_restarts", s->shared->server_restarts);
	put_text(o, "passthrough", s->passthrough ? "on" : "off");
	put_number(o, "change", i.change);
	json_object_object_add(o, "space", space_of(&i));
	json_object_object_add(o, "objects", objects_of(&i));
	json_object_object_add(o, "open", opens_of(s, &i));
	json_object_object_add(o, "verbs", verbs_of(s));
	json_object_object_add(o, "collector", collector_of(&i));
	strbuf_puts(out, json_object_to_json_string_ext(
				 o, JSON_C_TO_STRING_PRETTY |
					    JSON_C_TO_STRING_SPACED |
					    JSON_C_TO_STRING_NOSLASHESCAPE));
	strbuf_puts(out, "\n");
	json_object_put(o);
}

static void metric(struct strbuf *out, const char *name, const char *type,
		   const char *help, uint64_t value)
{
	strbuf_printf(out,
		      "# HELP ovstorfs_%s %s\n# TYPE ovstorfs_%s %s\n"
		      "ovstorfs_%s %llu\n",
		      name, help, name, type, name, (unsigned long long)value);
}

void status_metrics(struct server *s, struct strbuf *out)
{
	const struct counters *c = &s->counters;
	struct domain_info i;

	domain_info(s->domain, &i);
	metric(out, "space_total_bytes", "gauge", "Size of the domain.",
	       i.total);
	metric(out, "space_free_bytes", "gauge", "Free space.", i.free);
	metric(out, "images", "gauge", "Images, without the trash.", i.images);
	metric(out, "volumes", "gauge", "Volumes of those images.", i.volumes);
	metric(out, "trashed_images", "gauge", "Images in the trash.",
	       i.trashed);
	metric(out, "damaged_objects", "gauge", "Objects that cannot be read.",
	       i.damaged);
	metric(out, "open_volumes", "gauge", "Volumes that are open here.",
	       i.open_volumes);
	metric(out, "lingering_leases", "gauge",
	       "Closed volumes that are still mapped.", i.lingering);
	metric(out, "verbs_total", "counter", "Requests done by workers.",
	       c->verbs);
	metric(out, "verb_microseconds_total", "counter", "Time spent in them.",
	       c->verb_us);
	metric(out, "verbs_refused_total", "counter", "Refusals.", c->refused);
	metric(out, "verbs_timed_out_total", "counter",
	       "Callers answered at the deadline.", c->timed_out);
	metric(out, "verbs_interrupted_total", "counter",
	       "Callers that were interrupted.", c->interrupted);
	metric(out, "stuck_threads", "gauge", "Threads left behind.", c->stuck);
	metric(out, "opens_passthrough_total", "counter",
	       "Opens whose bytes the kernel moves.", c->opens_passthrough);
	metric(out, "opens_direct_total", "counter",
	       "Opens whose bytes the server moves.", c->opens_direct);
	metric(out, "passthrough_refused_total", "counter",
	       "Backing files that the kernel refused.",
	       c->passthrough_refused);
	metric(out, "read_bytes_total", "counter",
	       "Bytes read by way of the server.", c->bytes_read);
	metric(out, "written_bytes_total", "counter",
	       "Bytes written by way of the server.", c->bytes_written);
	metric(out, "server_restarts_total", "counter",
	       "Servers that the keeper started again.",
	       s->shared->server_restarts);
	metric(out, "collector_rounds_total", "counter",
	       "Rounds of the collector.", i.gc_rounds);
	metric(out, "collected_total", "counter", "Markers collected.",
	       i.gc_cleaned);
	metric(out, "change", "counter", "Number of the last change.",
	       i.change);
}
