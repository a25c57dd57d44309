/*
 * What the kernel tells of changes on a file system (fanotify): a scan that knows which inodes something has happened
 * to need not look at the others.
 *
 * It does not tell of everything: of stores through a mapping, of asynchronous writes (io_submit) and of what the
 * kernel itself writes to a file (a loop device) it tells when the file is closed, if at all. Who uses this asks for
 * files that are still open by their numbers, and looks at everything once more when there is time.
 */
#ifndef STILLFRAME_WATCH_H
#define STILLFRAME_WATCH_H

#include <stdbool.h>
#include <stdint.h>

/* A set of inode numbers. All zeros is the empty set. */
struct sf_inodes {
	uint64_t *slots; /* 0: nothing is here; no inode has that number */
	uint32_t count, mask;
};

/* False when memory runs out. */
bool sf_inodes_add(struct sf_inodes *set, uint64_t ino);
bool sf_inodes_has(const struct sf_inodes *set, uint64_t ino);
void sf_inodes_free(struct sf_inodes *set);

struct sf_watch;

/*
 * Watches the file system that this directory is on, from now on. NULL and an errno when that cannot be done: EXDEV for
 * a directory in another mount namespace, EOPNOTSUPP or ENODEV for a file system that cannot name its files.
 */
struct sf_watch *sf_watch_start(int dir, int *err);

/* Spares the kernel to tell of writes to this file, where it can. */
void sf_watch_ignore(struct sf_watch *watch, int fd);

/*
 * Adds the inodes that something happened to since the last call: their contents or attributes changed, or in a
 * directory names came or went. False when something has been lost, now or ever, or a mount below the directory has
 * come or gone.
 */
bool sf_watch_take(struct sf_watch *watch, struct sf_inodes *into);

/* Does not wait. */
void sf_watch_stop(struct sf_watch *watch);

#endif
