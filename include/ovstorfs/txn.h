/* SPDX-License-Identifier: GPL-2.0-or-later */
/* A transaction: one change of the domain, between its marker and its commit.
 *
 * Abort tidies nothing: it leaves the marker, reads the image again from the
 * storage and wakes the collector. */
#ifndef OVSTORFS_TXN_H
#define OVSTORFS_TXN_H

#include "ovstorfs/model.h"

struct txn {
	struct domain *d;
	struct ref ref;
	struct txn_id id;
	uint64_t number;
	enum meta_op op;
	const char *event; /* name of the verb */
};

/* Open a change of ref under the domain lease. Owner: txn_commit() or
 * auto_txn. */
int txn_begin(struct domain *d, const struct ref *ref, enum meta_op op,
	      const char *event, struct txn **ret_txn);

/* Give a record that txn writes its stamp. */
void txn_stamp(const struct txn *t, struct meta *m);

/* Write m as a marker of ref in a state: stamp, format, store. */
int txn_write(const struct txn *t, const struct ref *ref, enum record state,
	      struct meta *m);

/* The commit has happened on the storage: tell the ring and the front, clear
 * *t. Always 0: a ring that cannot be written is noted in the log, and other
 * hosts then read everything. */
int txn_commit(struct txn **t);

/* Close a transaction without a commit of its own. */
void txn_abort(struct txn **t);
#define auto_txn __attribute__((cleanup(txn_abort)))

#endif
