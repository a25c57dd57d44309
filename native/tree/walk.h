#ifndef STILLFRAME_WALK_H
#define STILLFRAME_WALK_H

#include "lease.h"
#include "tree.h"

/*
 * Where one thread is in the tree: descriptors of the last directories on the way there, one below the other. It goes
 * from directory to directory by names downwards and by `..` upwards, and there makes sure that it is in the directory
 * that it means; so all of a tree in the order of its directories costs a few calls for each, however deep it is.
 */
#define SF_WALK_DEPTH 32
struct sf_walk {
	struct sf_tree *tree;
	int depth;
	uint32_t ids[SF_WALK_DEPTH];
	int fds[SF_WALK_DEPTH];
	struct sf_leases leases;
	/* What sf_walk_open gave last shares its offset with a process: no lseek(2). */
	bool shared;
};
void sf_walk_begin(struct sf_walk *walk, struct sf_tree *tree);
void sf_walk_end(struct sf_walk *walk);
/*
 * An O_PATH descriptor of the entry's parent directory, owned by the walk; no symbolic link is followed. -errno on
 * failure.
 */
int sf_walk_parent(struct sf_walk *walk, uint32_t id);
/*
 * The entry, a regular file, opened for reading, for the caller to close. -errno on failure; -EAGAIN where a write
 * lease is on it that would be broken.
 */
int sf_walk_open(struct sf_walk *walk, uint32_t id);

#endif
