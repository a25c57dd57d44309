/*
 * What a scan saw of each entry: 80 bytes and its name, outside of JavaScript's heap. An entry's id is its number. It
 * stays the same from scan to scan as long as its parent has an entry of that name.
 */
#ifndef STILLFRAME_RECORDS_H
#define STILLFRAME_RECORDS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
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

/* Where it belongs. Apart from the stat, which one thread writes while another reads its directory. */
struct sf_node {
	uint32_t parent;
	uint32_t name; /* its place among the names */
	uint32_t next; /* in its directory; 0 for none, as the root is in nobody's */
	uint32_t child; /* of a directory: the first */
};

_Static_assert(sizeof(struct sf_entry) == 64 && sizeof(struct sf_node) == 16, "no record lies across two chunks");

#define SF_MAX_ENTRIES (1u << 28)
#define SF_ROOT 0u
#define SF_NAME_ROOM 256

/* Memory that grows by chunks, which never move: threads may use what is there while one of them adds to it. */
#define SF_CHUNK_BITS 20
#define SF_CHUNK_BYTES (1u << SF_CHUNK_BITS)
struct sf_chunks {
	uint8_t **at;
	uint32_t count, max;
};

struct sf_records {
	pthread_mutex_t lock; /* whoever adds holds it */
	struct sf_chunks entries, nodes, names;
	uint32_t count;
	uint64_t names_end;
};

/* False when there is no memory; to be freed in any case. */
bool sf_records_begin(struct sf_records *records);
void sf_records_free(struct sf_records *records);

/* A new entry with this name, in no directory's list yet, all else 0. False when memory or numbers run out. */
bool sf_records_add(struct sf_records *records, uint32_t parent, const char *name, size_t len, uint32_t *id);

static inline void *sf_chunks_at(const struct sf_chunks *chunks, uint64_t offset)
{
	return chunks->at[offset >> SF_CHUNK_BITS] + (offset & (SF_CHUNK_BYTES - 1));
}

static inline struct sf_entry *sf_entry_of(const struct sf_records *records, uint32_t id)
{
	return sf_chunks_at(&records->entries, (uint64_t)id * sizeof(struct sf_entry));
}

static inline struct sf_node *sf_node_of(const struct sf_records *records, uint32_t id)
{
	return sf_chunks_at(&records->nodes, (uint64_t)id * sizeof(struct sf_node));
}

/* The entry's name, NUL-terminated; it never changes. */
static inline const char *sf_name_of(const struct sf_records *records, uint32_t id)
{
	return sf_chunks_at(&records->names, sf_node_of(records, id)->name);
}

/* The path below the root, without a leading slash, NUL-terminated; its length, or -1 when it is longer than `size`. */
int sf_path_of(const struct sf_records *records, uint32_t id, char *out, size_t size);

/* The path of the directory that was last asked for: of what lies in it, or below it, only the rest is put together. */
#define SF_PATH_ROOM 65536
struct sf_path {
	uint32_t dir; /* SF_ROOT at first */
	size_t len;
	char text[SF_PATH_ROOM];
};

/* As sf_path_of. */
int sf_path_near(const struct sf_records *records, struct sf_path *near, uint32_t id, char *out, size_t size);

/* What statx said, into an entry. True when something was different. */
bool sf_entry_update(struct sf_entry *entry, const struct statx *st);

/* In milliseconds, exact to a microsecond. */
static inline double sf_entry_ctime_ms(const struct sf_entry *entry)
{
	return (double)entry->ctime_sec * 1000 + entry->ctime_nsec / 1e6;
}

/* Zeros that take memory only where they are written to; NULL when there is no room. Freed with munmap. */
void *sf_reserve(size_t bytes);

#endif
