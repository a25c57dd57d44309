#include "records.h"

#include <string.h>
#include <sys/mman.h>

#define ENTRY_CHUNKS (SF_MAX_ENTRIES / (SF_CHUNK_BYTES / sizeof(struct sf_entry)))
#define NODE_CHUNKS (SF_MAX_ENTRIES / (SF_CHUNK_BYTES / sizeof(struct sf_node)))
/* A name's place has 32 bits. */
#define NAME_CHUNKS (1u << (32 - SF_CHUNK_BITS))

void *sf_reserve(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

static bool chunks_begin(struct sf_chunks *chunks, uint32_t max)
{
	chunks->at = sf_reserve(max * sizeof(*chunks->at));
	chunks->max = max;
	return chunks->at != NULL;
}

static void chunks_free(struct sf_chunks *chunks)
{
	for (uint32_t i = 0; i < chunks->count; i++)
		munmap(chunks->at[i], SF_CHUNK_BYTES);
	if (chunks->at)
		munmap(chunks->at, chunks->max * sizeof(*chunks->at));
}

/* Makes sure that there is memory for what ends there. */
static bool chunks_reach(struct sf_chunks *chunks, uint64_t end)
{
	if (end <= (uint64_t)chunks->count << SF_CHUNK_BITS)
		return true;
	uint8_t *at = chunks->count < chunks->max ? sf_reserve(SF_CHUNK_BYTES) : NULL;
	if (at)
		chunks->at[chunks->count++] = at;
	return at != NULL;
}

bool sf_records_begin(struct sf_records *records)
{
	pthread_mutex_init(&records->lock, NULL);
	return chunks_begin(&records->entries, ENTRY_CHUNKS) && chunks_begin(&records->nodes, NODE_CHUNKS) &&
		chunks_begin(&records->names, NAME_CHUNKS);
}

void sf_records_free(struct sf_records *records)
{
	chunks_free(&records->entries);
	chunks_free(&records->nodes);
	chunks_free(&records->names);
	pthread_mutex_destroy(&records->lock);
}

/* Its place. It lies in one chunk. */
static bool add_name(struct sf_records *records, const char *name, size_t len, uint32_t *place)
{
	uint64_t at = records->names_end;

	if (at >> SF_CHUNK_BITS != (at + len) >> SF_CHUNK_BITS)
		at = ((at >> SF_CHUNK_BITS) + 1) << SF_CHUNK_BITS;
	if (len >= SF_NAME_ROOM || !chunks_reach(&records->names, at + len + 1))
		return false;
	char *to = sf_chunks_at(&records->names, at);
	memcpy(to, name, len);
	to[len] = '\0';
	records->names_end = at + len + 1;
	*place = (uint32_t)at;
	return true;
}

bool sf_records_add(struct sf_records *records, uint32_t parent, const char *name, size_t len, uint32_t *id)
{
	struct sf_node node = { .parent = parent };
	bool ok = false;

	pthread_mutex_lock(&records->lock);
	uint32_t at = records->count;
	if (at < SF_MAX_ENTRIES && chunks_reach(&records->entries, (at + 1ull) * sizeof(struct sf_entry)) &&
		chunks_reach(&records->nodes, (at + 1ull) * sizeof(node)) && add_name(records, name, len, &node.name)) {
		*sf_node_of(records, at) = node;
		records->count = at + 1;
		*id = at;
		ok = true;
	}
	pthread_mutex_unlock(&records->lock);
	return ok;
}

int sf_path_of(const struct sf_records *records, uint32_t id, char *out, size_t size)
{
	char *end = out + size, *at = end;

	for (uint32_t i = id; i != SF_ROOT; i = sf_node_of(records, i)->parent) {
		const char *name = sf_name_of(records, i);
		size_t len = strlen(name);
		if ((size_t)(at - out) < len + 1)
			return -1;
		char separator = at == end ? '\0' : '/';
		*--at = separator;
		at -= len;
		memcpy(at, name, len);
	}
	if (at == end)
		*--at = '\0';
	memmove(out, at, (size_t)(end - at));
	return (int)(end - at) - 1;
}

/* Behind the path so far, with a slash between them. False when there is no room. */
static bool append_name(char *path, size_t *path_len, size_t size, const char *name)
{
	size_t len = strlen(name), at = *path_len + (*path_len > 0);

	if (at + len >= size)
		return false;
	if (*path_len > 0)
		path[*path_len] = '/';
	memcpy(path + at, name, len + 1);
	*path_len = at + len;
	return true;
}

/* The path of this directory, from the last one's where that is the one above it. */
static bool enter(const struct sf_records *records, struct sf_path *near, uint32_t dir)
{
	if (dir == near->dir)
		return true;
	if (dir != SF_ROOT && sf_node_of(records, dir)->parent == near->dir) {
		if (!append_name(near->text, &near->len, sizeof(near->text), sf_name_of(records, dir)))
			return false;
	} else {
		int len = sf_path_of(records, dir, near->text, sizeof(near->text));
		if (len < 0) {
			near->dir = SF_ROOT;
			near->len = 0;
			return false;
		}
		near->len = (size_t)len;
	}
	near->dir = dir;
	return true;
}

int sf_path_near(const struct sf_records *records, struct sf_path *near, uint32_t id, char *out, size_t size)
{
	if (id == SF_ROOT) {
		out[0] = '\0';
		return 0;
	}
	if (!enter(records, near, sf_node_of(records, id)->parent) || near->len >= size)
		return -1;
	memcpy(out, near->text, near->len);
	size_t len = near->len;
	return append_name(out, &len, size, sf_name_of(records, id)) ? (int)len : -1;
}

static uint32_t pack_dev(uint32_t major, uint32_t minor)
{
	return major << 20 | minor;
}

bool sf_entry_update(struct sf_entry *entry, const struct statx *st)
{
	struct sf_entry now = *entry;

	now.ino = st->stx_ino;
	now.size = st->stx_size;
	now.mtime_sec = st->stx_mtime.tv_sec;
	now.mtime_nsec = st->stx_mtime.tv_nsec;
	now.ctime_sec = st->stx_ctime.tv_sec;
	now.ctime_nsec = st->stx_ctime.tv_nsec;
	now.dev = pack_dev(st->stx_dev_major, st->stx_dev_minor);
	now.uid = st->stx_uid;
	now.gid = st->stx_gid;
	now.nlink = st->stx_nlink;
	now.mode = st->stx_mode;
	now.sparse = S_ISREG(st->stx_mode) && st->stx_blocks * 512 < st->stx_size;
	now.rdev = pack_dev(st->stx_rdev_major, st->stx_rdev_minor);
	/* How many blocks a file has changes when it is written back; that is no change of the file. */
	bool different = now.ino != entry->ino || now.size != entry->size || now.mtime_sec != entry->mtime_sec ||
		now.mtime_nsec != entry->mtime_nsec || now.ctime_sec != entry->ctime_sec ||
		now.ctime_nsec != entry->ctime_nsec || now.dev != entry->dev || now.uid != entry->uid ||
		now.gid != entry->gid || now.nlink != entry->nlink || now.mode != entry->mode || now.rdev != entry->rdev;
	*entry = now;
	return different;
}
