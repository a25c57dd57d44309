/*
 * A file tree as the last scan saw it, kept outside of JavaScript's heap: 80 bytes and a name for each entry.
 * An entry's id is its index. It stays the same from scan to scan as long as its parent has an entry of that name.
 */
#ifndef STILLFRAME_TREE_H
#define STILLFRAME_TREE_H

#include "addon.h"

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/stat.h>

struct sf_entry {
	uint64_t ino;
	uint64_t size;
	int64_t mtime_sec;
	int64_t ctime_sec;
	uint32_t mtime_nsec;
	uint32_t ctime_nsec;
	uint32_t dev; /* major << 20 | minor, as the kernel packs it */
	uint32_t rdev; /* of a directory: its place in the table of directories */
	uint32_t uid;
	uint32_t gid;
	uint32_t nlink;
	uint32_t parent;
	uint32_t name;
	uint16_t mode;
	uint8_t name_len;
	uint8_t fs; /* index into the tree's table of file systems */
	uint8_t epoch; /* the scan that saw it last */
	uint8_t alive;
	uint8_t sparse; /* fewer blocks than its size needs */
};

struct sf_dir {
	uint32_t *children;
	uint32_t count;
};

struct sf_fs {
	uint32_t dev;
	uint32_t type; /* statfs f_type */
	uint32_t sample; /* an entry on it */
};

#define SF_ENTRY_BITS 14
#define SF_NAME_BITS 20
#define SF_DIR_BITS 12
#define SF_MAX_FS 256
#define SF_ROOT 0u

struct sf_tree {
	pthread_mutex_t lock;
	/* Blocks never move: a thread may read an entry while another adds one. */
	struct sf_entry **entries;
	char **names;
	struct sf_dir **dirs;
	uint32_t n_entries, n_dirs;
	uint64_t names_end;
	struct sf_fs fs[SF_MAX_FS];
	uint32_t n_fs;
	uint8_t epoch;
	int root_fd; /* O_PATH; -1 before the first scan */
};

static inline struct sf_entry *sf_entry_at(struct sf_tree *tree, uint32_t id)
{
	return &tree->entries[id >> SF_ENTRY_BITS][id & ((1u << SF_ENTRY_BITS) - 1)];
}

static inline const char *sf_name_at(struct sf_tree *tree, uint32_t at)
{
	return &tree->names[at >> SF_NAME_BITS][at & ((1u << SF_NAME_BITS) - 1)];
}

static inline struct sf_dir *sf_dir_at(struct sf_tree *tree, uint32_t at)
{
	return &tree->dirs[at >> SF_DIR_BITS][at & ((1u << SF_DIR_BITS) - 1)];
}

/* A new entry with this name, dead until a scan has its attributes. False when memory or numbers run out. */
bool sf_tree_add(struct sf_tree *tree, uint32_t parent, const char *name, size_t len, uint32_t *id);
bool sf_tree_add_dir(struct sf_tree *tree, uint32_t *at);

/* The path below the root, without a leading slash, NUL-terminated; its length, or -1 when it is longer than `size`. */
int sf_tree_path(struct sf_tree *tree, uint32_t id, char *out, size_t size);

/* What statx said, into an entry. True when something was different. */
bool sf_entry_update(struct sf_entry *entry, const struct statx *st);

/* In milliseconds, exact to a microsecond. */
static inline double sf_entry_ctime_ms(const struct sf_entry *entry)
{
	return (double)entry->ctime_sec * 1000 + entry->ctime_nsec / 1e6;
}

/* The entry's name, NUL-terminated, into 256 bytes. */
void sf_entry_name(struct sf_tree *tree, uint32_t id, char *out);

struct sf_tree *sf_tree_of(napi_env env, napi_value value);

/* Descriptors of the directories on the way to the last entry asked for: siblings cost nothing. */
#define SF_WALK_DEPTH 128
struct sf_walk {
	struct sf_tree *tree;
	int depth;
	uint32_t ids[SF_WALK_DEPTH];
	int fds[SF_WALK_DEPTH];
};
void sf_walk_begin(struct sf_walk *walk, struct sf_tree *tree);
void sf_walk_end(struct sf_walk *walk);
/* An O_PATH descriptor of the entry's parent directory, owned by the walk; no symbolic link is followed. -errno on failure. */
int sf_walk_parent(struct sf_walk *walk, uint32_t id);
/* The entry, a regular file, opened for reading, for the caller to close. -errno on failure. */
int sf_walk_open(struct sf_walk *walk, uint32_t id);

#endif
