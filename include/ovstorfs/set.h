/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The setters behind the attributes: one signature, so that attr.c can list
 * them. value is plain text. Errors: -EINVAL a bad value, nothing changed. */
#ifndef OVSTORFS_SET_H
#define OVSTORFS_SET_H

#include "ovstorfs/model.h"

int domain_set(struct domain *d, const struct caller *by, const struct ref *ref,
	       const char *key, const char *value);
int image_set(struct domain *d, const struct caller *by, const struct ref *ref,
	      const char *key, const char *value);
int volume_set(struct domain *d, const struct caller *by, const struct ref *ref,
	       const char *key, const char *value);
int volume_set_parent(struct domain *d, const struct caller *by,
		      const struct ref *ref, const char *key,
		      const char *value);

#endif
