/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The collector's inside: what it does with one marker. */
#ifndef OVSTORFS_GC_H
#define OVSTORFS_GC_H

#include "ovstorfs/model.h"

#define GC_TAKE_MS 10000 /* for locks and leases, of each step */

/* Is there something to collect? Pure. */
bool gc_is_marked(const struct storage_entry *e);

/* Collect what a marker of ref shows, if it is one still and its time has
 * come; *ret_collected says whether. Errors: -EBUSY somebody uses it; -EUCLEAN
 * the image is damaged; what the storage says. Locks: takes its own. */
int gc_collect(struct domain *d, const struct ref *ref, bool *ret_collected);

#endif
