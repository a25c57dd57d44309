/*
 * A file tree as the last scan saw it: records of its entries, bits that tell what has become of each, and the
 * directory that is held open.
 */
#ifndef STILLFRAME_TREE_H
#define STILLFRAME_TREE_H

#include "../addon/job.h"
#include "records.h"
#include "watch.h"

#include <stdatomic.h>

struct sf_fs {
	uint32_t dev;
	uint32_t type; /* statfs f_type */
	uint32_t sample; /* an entry on it */
};

#define SF_MAX_FS 256

/* A bit for each entry. */
typedef _Atomic uint64_t sf_bits;

struct sf_tree {
	struct sf_records records;
	/* These tables never move. */
	sf_bits *alive; /* as of the last scan that began */
	sf_bits *before; /* as of the one before it */
	sf_bits *changed; /* seen by the last scan to be different */
	sf_bits *listed; /* read in its directory by the last scan */
	pthread_mutex_t lock; /* of `fs` */
	struct sf_fs fs[SF_MAX_FS];
	uint32_t n_fs;
	int root_fd; /* O_PATH; -1 before treeRoot */
	struct sf_watch *watch; /* since before the last scan, if at all */
	struct sf_group jobs; /* all that touches its files */
	bool closing; /* once none of them is under way */
};

/* Asked between two steps of any work on the tree's files. */
static inline bool sf_tree_cancelled(const struct sf_tree *tree)
{
	return atomic_load_explicit(&tree->jobs.cancelled, memory_order_relaxed);
}

static inline bool sf_bit(const sf_bits *bits, uint32_t id)
{
	return atomic_load_explicit(&bits[id >> 6], memory_order_relaxed) >> (id & 63) & 1;
}

/* Whether it was set before. */
static inline bool sf_set_bit(sf_bits *bits, uint32_t id)
{
	return atomic_fetch_or_explicit(&bits[id >> 6], 1ull << (id & 63), memory_order_relaxed) >> (id & 63) & 1;
}

/* By the release of each job of its group: a tree that was closed meanwhile lets go of its directory. */
void sf_tree_job_done(struct sf_tree *tree);

struct sf_tree *sf_tree_of(napi_env env, napi_value value);

#endif
