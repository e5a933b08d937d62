/* SPDX-License-Identifier: MIT */
/* ovstorfs: names, attributes and limits that programs find on a mount.
 *
 * A mounted storage domain looks like this (ovstorfs(8)):
 *
 *	images/<image-uuid>/volumes/<volume-uuid>	bytes of a volume
 *	trash/<image-uuid>/{deleted,expires}		deleted images
 *	.ovstorfs/{status,metrics,events,collect}	state of the mount
 *
 * UUIDs are in the lower-case form of 36 characters. Attributes are extended
 * attributes, plain UTF-8 text without newline and NUL (ovstorfs-xattr(7)). */
#ifndef OVSTORFS_H
#define OVSTORFS_H

/* The type in /proc/mounts. */
#define OVSTORFS_FSTYPE "fuse.ovstorfs"

/* All attributes begin with this. */
#define OVSTORFS_XATTR "user.ovstorfs."

/* Longest value of an attribute, in bytes. */
#define OVSTORFS_VALUE_MAX 1024

/* Names in the root of a mount. */
#define OVSTORFS_IMAGES "images"
#define OVSTORFS_VOLUMES "volumes"
#define OVSTORFS_TRASH "trash"
#define OVSTORFS_CONTROL ".ovstorfs"

/* Largest size of a volume, in bytes. */
#define OVSTORFS_SIZE_MAX 0x7fffffffffffffffull

/* Longest chain of layers. */
#define OVSTORFS_DEPTH_MAX 1000

#endif
