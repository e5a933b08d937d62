/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Transactions: stamp, marker, commit; see txn.h. */
#include <stdlib.h>

#include "ovstorfs/auto.h"
#include "ovstorfs/err.h"
#include "ovstorfs/log.h"
#include "ovstorfs/txn.h"

int txn_begin(struct domain *d, const struct ref *ref, enum meta_op op,
	      const char *event, struct txn **ret_txn)
{
	struct txn *t = xcalloc(1, sizeof(*t));
	struct lease_member m;
	int r;

	lease_member(d->door, &m);
	t->d = d;
	t->ref = *ref;
	t->op = op;
	t->event = event;
	r = changes_join(d->changes, &t->number);
	if (r < 0) {
		free(t);
		return r;
	}
	/* The number is unique in the domain, so it serves as sequence. */
	t->id = (struct txn_id){ m.host_id, m.generation, t->number };
	log_debug(LOG_TXN, "%s: %s: transaction %llu", ref_name(ref), event,
		  (unsigned long long)t->number);
	*ret_txn = t;
	return 0;
}

void txn_stamp(const struct txn *t, struct meta *m)
{
	m->txn = t->id;
	m->op = t->op;
	m->written = time(NULL);
	if (t->op == OP_CREATE) {
		m->number = t->number;
		m->created = m->written;
	}
}

int txn_write(const struct txn *t, const struct ref *ref, enum record state,
	      struct meta *m)
{
	auto_strbuf struct strbuf text = { 0 };

	txn_stamp(t, m);
	meta_format(m, &text);
	return storage_record_write(t->d->storage, ref, state, text.text,
				    text.len);
}

static void leave(struct txn *t, bool committed)
{
	struct change_entry e = { .image = t->ref.image,
				  .volume = t->ref.volume };
	int r = changes_leave(t->d->changes, t->number, committed ? &e : NULL);

	if (r < 0)
		log_error("%s: %s: %s", ref_name(&t->ref), t->event,
			  err_text(r));
}

int txn_commit(struct txn **t)
{
	struct txn *done = steal(*t);

	leave(done, true);
	domain_changed(done->d, &done->ref);
	domain_event(done->d, done->event, &done->ref, 0);
	free(done);
	return 0;
}

/* What the storage says now is what happened. */
void txn_abort(struct txn **t)
{
	struct txn *dead = steal(*t);

	if (!dead)
		return;
	leave(dead, false);
	if (!uuid_is_nil(&dead->ref.image) &&
	    load_image(dead->d, &dead->ref.image) < 0)
		log_error("%s: after a failed %s: cannot be read again",
			  ref_name(&dead->ref), dead->event);
	domain_changed(dead->d, &dead->ref);
	gc_wake(dead->d, &dead->ref.image);
	free(dead);
}
