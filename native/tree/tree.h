/*
 * A file tree as the last scan saw it, kept outside of JavaScript's heap, in pages that may be in a file: 80 bytes and
 * a name for each entry. An entry's id is its number. It stays the same from scan to scan as long as its parent has an
 * entry of that name.
 */
#ifndef STILLFRAME_TREE_H
#define STILLFRAME_TREE_H

#include "../addon/job.h"
#include "lease.h"
#include "store.h"
#include "watch.h"

#include <stdatomic.h>
#include <sys/stat.h>

/* What a stat says. */
struct sf_entry {
	uint64_t ino;
	uint64_t size;
	int64_t mtime_sec;
	int64_t ctime_sec;
	uint32_t mtime_nsec;
	uint32_t ctime_nsec : 30;
	uint32_t sparse : 1; /* fewer blocks than its size needs */
	uint32_t dev; /* major << 20 | minor, as the kernel packs it */
	uint32_t rdev;
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint16_t mode;
	uint8_t fs; /* index into the tree's table of file systems */
};

/* Where it belongs. Apart from the stat, since other threads may write that one while its directory is read. */
struct sf_node {
	uint32_t parent;
	uint32_t name;
	uint32_t next; /* in its directory; 0 for none, as the root is in nobody's */
	uint32_t child; /* of a directory: the first */
};

_Static_assert(sizeof(struct sf_entry) == 64 && sizeof(struct sf_node) == 16, "no record lies across two pages");

struct sf_fs {
	uint32_t dev;
	uint32_t type; /* statfs f_type */
	uint32_t sample; /* an entry on it */
};

#define SF_ENTRY_BITS (SF_PAGE_BITS - 6)
#define SF_NODE_BITS (SF_PAGE_BITS - 4)
#define SF_MAX_ENTRIES (1u << 28)
#define SF_MAX_FS 256
#define SF_ROOT 0u
#define SF_NAME_ROOM 256

/* A bit for each entry. */
typedef _Atomic uint64_t sf_bits;

struct sf_tree {
	pthread_mutex_t lock;
	struct sf_store *store;
	/* Numbers of the store's pages. These tables never move, nor do the bits. */
	uint32_t *entries, *nodes, *names;
	uint32_t n_entries;
	uint64_t names_end;
	sf_bits *alive; /* as of the last scan that began */
	sf_bits *before; /* as of the one before it */
	sf_bits *changed; /* seen by the last scan to be different */
	sf_bits *listed; /* read in its directory by the last scan */
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

static inline struct sf_entry sf_entry_of(struct sf_tree *tree, uint32_t id)
{
	struct sf_entry entry;

	sf_store_read(tree->store, tree->entries[id >> SF_ENTRY_BITS], (id & ((1u << SF_ENTRY_BITS) - 1)) * sizeof(entry),
		&entry, sizeof(entry));
	return entry;
}

static inline void sf_entry_put(struct sf_tree *tree, uint32_t id, const struct sf_entry *entry)
{
	sf_store_write(tree->store, tree->entries[id >> SF_ENTRY_BITS], (id & ((1u << SF_ENTRY_BITS) - 1)) * sizeof(*entry),
		entry, sizeof(*entry));
}

static inline struct sf_node sf_node_of(struct sf_tree *tree, uint32_t id)
{
	struct sf_node node;

	sf_store_read(tree->store, tree->nodes[id >> SF_NODE_BITS], (id & ((1u << SF_NODE_BITS) - 1)) * sizeof(node), &node,
		sizeof(node));
	return node;
}

static inline void sf_node_write(struct sf_tree *tree, uint32_t id, size_t offset, const void *in, size_t len)
{
	sf_store_write(tree->store, tree->nodes[id >> SF_NODE_BITS],
		(uint32_t)((id & ((1u << SF_NODE_BITS) - 1)) * sizeof(struct sf_node) + offset), in, len);
}

/*
 * One number alone: the other belongs to the thread that reads the directory itself, this one to whoever reads its
 * parent.
 */
static inline void sf_node_set_next(struct sf_tree *tree, uint32_t id, uint32_t next)
{
	sf_node_write(tree, id, offsetof(struct sf_node, next), &next, sizeof(next));
}

static inline void sf_node_set_child(struct sf_tree *tree, uint32_t id, uint32_t child)
{
	sf_node_write(tree, id, offsetof(struct sf_node, child), &child, sizeof(child));
}

/*
 * A new entry with this name, dead until a scan has its attributes, in no directory's list yet. False when memory or
 * numbers run out.
 */
bool sf_tree_add(struct sf_tree *tree, uint32_t parent, const char *name, size_t len, uint32_t *id);

/* The path below the root, without a leading slash, NUL-terminated; its length, or -1 when it is longer than `size`. */
int sf_tree_path(struct sf_tree *tree, uint32_t id, char *out, size_t size);

/* The path of the directory that was last asked for: of what lies in it, or below it, only the rest is put together. */
#define SF_PATH_ROOM 65536
struct sf_path {
	uint32_t dir; /* SF_ROOT at first */
	size_t len;
	char text[SF_PATH_ROOM];
};

/* As sf_tree_path. */
int sf_tree_path_near(struct sf_tree *tree, struct sf_path *near, uint32_t id, char *out, size_t size);

/* What statx said, into an entry. True when something was different. */
bool sf_entry_update(struct sf_entry *entry, const struct statx *st);

/* In milliseconds, exact to a microsecond. */
static inline double sf_entry_ctime_ms(const struct sf_entry *entry)
{
	return (double)entry->ctime_sec * 1000 + entry->ctime_nsec / 1e6;
}

/* A name, NUL-terminated, by its place; its length. */
size_t sf_name(struct sf_tree *tree, uint32_t at, char out[SF_NAME_ROOM]);

/* The entry's name, NUL-terminated. */
void sf_entry_name(struct sf_tree *tree, uint32_t id, char out[SF_NAME_ROOM]);

/* By the release of each job of its group: a tree that was closed meanwhile lets go of its directory. */
void sf_tree_job_done(struct sf_tree *tree);

struct sf_tree *sf_tree_of(napi_env env, napi_value value);

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
 * The entry, a regular file, opened for reading, for the caller to close. -errno on failure; -EAGAIN where a write lease
 * is on it that would be broken.
 */
int sf_walk_open(struct sf_walk *walk, uint32_t id);

#endif
