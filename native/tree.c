#include "tree.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TABLE_SLOTS 65536u

static const napi_type_tag tree_tag = { 0x5f1c7a3e90b24d68ULL, 0xa1d4e6f8275b3c90ULL };

bool sf_tree_add(struct sf_tree *tree, uint32_t parent, const char *name, size_t len, uint32_t *id)
{
	bool ok = false;

	pthread_mutex_lock(&tree->lock);
	uint32_t at = tree->n_entries;
	uint32_t block = at >> SF_ENTRY_BITS;
	uint64_t name_at = tree->names_end;
	/* A name does not cross into the next block. */
	if ((name_at >> SF_NAME_BITS) != ((name_at + len) >> SF_NAME_BITS))
		name_at = ((name_at >> SF_NAME_BITS) + 1) << SF_NAME_BITS;
	uint64_t name_block = name_at >> SF_NAME_BITS;

	if (block >= TABLE_SLOTS || name_block >= (1u << (32 - SF_NAME_BITS)))
		goto out;
	if (!tree->entries[block])
		tree->entries[block] = calloc(1u << SF_ENTRY_BITS, sizeof(struct sf_entry));
	if (!tree->names[name_block])
		tree->names[name_block] = malloc(1u << SF_NAME_BITS);
	if (!tree->entries[block] || !tree->names[name_block])
		goto out;

	struct sf_entry *entry = sf_entry_at(tree, at);
	memcpy((char *)sf_name_at(tree, (uint32_t)name_at), name, len);
	entry->name = (uint32_t)name_at;
	entry->name_len = (uint8_t)len;
	entry->parent = parent;
	tree->names_end = name_at + len;
	tree->n_entries = at + 1;
	*id = at;
	ok = true;
out:
	pthread_mutex_unlock(&tree->lock);
	return ok;
}

bool sf_tree_add_dir(struct sf_tree *tree, uint32_t *at)
{
	bool ok = false;

	pthread_mutex_lock(&tree->lock);
	uint32_t block = tree->n_dirs >> SF_DIR_BITS;
	if (block < TABLE_SLOTS && !tree->dirs[block])
		tree->dirs[block] = calloc(1u << SF_DIR_BITS, sizeof(struct sf_dir));
	if (block < TABLE_SLOTS && tree->dirs[block]) {
		*at = tree->n_dirs++;
		ok = true;
	}
	pthread_mutex_unlock(&tree->lock);
	return ok;
}

int sf_tree_path(struct sf_tree *tree, uint32_t id, char *out, size_t size)
{
	size_t len = 0;

	for (uint32_t i = id; i != SF_ROOT; i = sf_entry_at(tree, i)->parent)
		len += sf_entry_at(tree, i)->name_len + 1;
	if (len > 0)
		len--;
	if (len >= size)
		return -1;
	out[len] = '\0';
	char *end = out + len;
	for (uint32_t i = id; i != SF_ROOT; i = sf_entry_at(tree, i)->parent) {
		struct sf_entry *entry = sf_entry_at(tree, i);
		end -= entry->name_len;
		memcpy(end, sf_name_at(tree, entry->name), entry->name_len);
		if (end > out)
			*--end = '/';
	}
	return (int)len;
}

static uint32_t pack_dev(uint32_t major, uint32_t minor)
{
	return major << 20 | minor;
}

bool sf_entry_update(struct sf_entry *entry, const struct statx *st)
{
	bool is_dir = S_ISDIR(st->stx_mode);
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
	if (!is_dir)
		now.rdev = pack_dev(st->stx_rdev_major, st->stx_rdev_minor);
	/* How many blocks a file has changes when it is written back; that is no change of the file. */
	bool different = now.ino != entry->ino || now.size != entry->size || now.mtime_sec != entry->mtime_sec ||
			 now.mtime_nsec != entry->mtime_nsec || now.ctime_sec != entry->ctime_sec ||
			 now.ctime_nsec != entry->ctime_nsec || now.dev != entry->dev || now.uid != entry->uid ||
			 now.gid != entry->gid || now.nlink != entry->nlink || now.mode != entry->mode ||
			 (!is_dir && now.rdev != entry->rdev);
	*entry = now;
	return different;
}

void sf_entry_name(struct sf_tree *tree, uint32_t id, char *out)
{
	struct sf_entry *entry = sf_entry_at(tree, id);

	memcpy(out, sf_name_at(tree, entry->name), entry->name_len);
	out[entry->name_len] = '\0';
}

void sf_walk_begin(struct sf_walk *walk, struct sf_tree *tree)
{
	walk->tree = tree;
	walk->depth = 0;
}

void sf_walk_end(struct sf_walk *walk)
{
	while (walk->depth > 0)
		close(walk->fds[--walk->depth]);
}

int sf_walk_parent(struct sf_walk *walk, uint32_t id)
{
	struct sf_tree *tree = walk->tree;
	uint32_t want = sf_entry_at(tree, id)->parent;

	if (walk->depth > 0 && walk->ids[walk->depth - 1] == want)
		return walk->fds[walk->depth - 1];

	uint32_t depth = 0;
	for (uint32_t i = want; i != SF_ROOT; i = sf_entry_at(tree, i)->parent)
		depth++;
	uint32_t *chain = malloc((depth + 1) * sizeof(*chain));
	if (!chain)
		return -ENOMEM;
	for (uint32_t i = want, at = depth; at > 0; i = sf_entry_at(tree, i)->parent)
		chain[--at] = i;

	uint32_t shared = 0;
	while (shared < depth && (int)shared < walk->depth && walk->ids[shared] == chain[shared])
		shared++;
	while (walk->depth > (int)shared)
		close(walk->fds[--walk->depth]);

	int fd = shared == 0 ? tree->root_fd : walk->fds[shared - 1];
	for (uint32_t at = shared; at < depth; at++) {
		char name[256];
		sf_entry_name(tree, chain[at], name);
		int next = openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0) {
			fd = -errno;
			break;
		}
		/* Deeper than the table: its last place is used again and again; the way there is only walked anew. */
		if (walk->depth == SF_WALK_DEPTH)
			close(walk->fds[--walk->depth]);
		walk->ids[walk->depth] = chain[at];
		walk->fds[walk->depth++] = next;
		fd = next;
	}
	free(chain);
	return fd;
}

int sf_walk_open(struct sf_walk *walk, uint32_t id)
{
	/* Not blocking, should it have become a FIFO. Reading must not move the access time, where we may say so. */
	int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC, fd;
	char name[256];
	int dir = AT_FDCWD;

	if (id == SF_ROOT) {
		snprintf(name, sizeof(name), "/proc/self/fd/%d", walk->tree->root_fd);
	} else {
		dir = sf_walk_parent(walk, id);
		if (dir < 0)
			return dir;
		sf_entry_name(walk->tree, id, name);
		flags |= O_NOFOLLOW;
	}
	fd = openat(dir, name, flags | O_NOATIME);
	if (fd < 0 && errno == EPERM)
		fd = openat(dir, name, flags);
	return fd < 0 ? -errno : fd;
}

static void free_tree(napi_env env, void *data, void *hint)
{
	struct sf_tree *tree = data;

	if (tree->root_fd >= 0)
		close(tree->root_fd);
	for (uint32_t i = 0; i < tree->n_dirs; i++)
		free(sf_dir_at(tree, i)->children);
	for (uint32_t i = 0; i < TABLE_SLOTS && tree->entries[i]; i++)
		free(tree->entries[i]);
	for (uint32_t i = 0; i < TABLE_SLOTS && tree->names[i]; i++)
		free(tree->names[i]);
	for (uint32_t i = 0; i < TABLE_SLOTS && tree->dirs[i]; i++)
		free(tree->dirs[i]);
	free(tree->entries);
	free(tree->names);
	free(tree->dirs);
	pthread_mutex_destroy(&tree->lock);
	free(tree);
}

struct sf_tree *sf_tree_of(napi_env env, napi_value value)
{
	bool is_tree = false;
	void *data = NULL;

	if (napi_check_object_type_tag(env, value, &tree_tag, &is_tree) != napi_ok || !is_tree ||
	    napi_unwrap(env, value, &data) != napi_ok) {
		napi_throw_type_error(env, NULL, "not a tree");
		return NULL;
	}
	return data;
}

static napi_value tree_create(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = calloc(1, sizeof(*tree));
	napi_value object;

	if (tree) {
		tree->entries = calloc(TABLE_SLOTS, sizeof(*tree->entries));
		tree->names = calloc(TABLE_SLOTS, sizeof(*tree->names));
		tree->dirs = calloc(TABLE_SLOTS, sizeof(*tree->dirs));
	}
	if (!tree || !tree->entries || !tree->names || !tree->dirs) {
		if (tree) {
			free(tree->entries);
			free(tree->names);
			free(tree->dirs);
		}
		free(tree);
		return sf_throw_errno(env, ENOMEM, "treeCreate");
	}
	pthread_mutex_init(&tree->lock, NULL);
	tree->root_fd = -1;
	napi_create_object(env, &object);
	napi_wrap(env, object, tree, free_tree, NULL, NULL);
	napi_type_tag_object(env, object, &tree_tag);
	return object;
}

/* Lets go of the directory; the entries stay readable. */
static napi_value tree_close(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value argv[1];

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (tree && tree->root_fd >= 0) {
		close(tree->root_fd);
		tree->root_fd = -1;
	}
	return NULL;
}

/* treePaths(tree, ids): for each id a 32-bit length and the path below the root, one after the other. */
static napi_value tree_paths(napi_env env, napi_callback_info info)
{
	size_t argc = 2, count;
	napi_value argv[2], result;
	uint32_t *ids;
	char path[65536];
	size_t total = 0;
	char *out;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_typedarray_info(env, argv[1], NULL, &count, (void **)&ids, NULL, NULL) != napi_ok)
		return NULL;
	for (size_t i = 0; i < count; i++) {
		int len = ids[i] < tree->n_entries ? sf_tree_path(tree, ids[i], path, sizeof(path)) : -1;
		if (len < 0)
			return sf_throw_errno(env, ENAMETOOLONG, "treePaths");
		total += 4 + (size_t)len;
	}
	napi_create_buffer(env, total, (void **)&out, &result);
	for (size_t i = 0; i < count; i++) {
		int32_t len = sf_tree_path(tree, ids[i], path, sizeof(path));
		memcpy(out, &len, 4);
		memcpy(out + 4, path, (size_t)len);
		out += 4 + len;
	}
	return result;
}

static int compare_ino(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

/* treeFind(tree, inodes: BigUint64Array, sorted in place): ids of the living entries with such an inode number. */
static napi_value tree_find(napi_env env, napi_callback_info info)
{
	size_t argc = 2, count;
	napi_value argv[2], result, value;
	uint64_t *inodes;
	uint32_t found = 0;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_typedarray_info(env, argv[1], NULL, &count, (void **)&inodes, NULL, NULL) != napi_ok)
		return NULL;
	qsort(inodes, count, sizeof(*inodes), compare_ino);
	napi_create_array(env, &result);
	for (uint32_t id = 0; id < tree->n_entries; id++) {
		struct sf_entry *entry = sf_entry_at(tree, id);
		if (!entry->alive || !bsearch(&entry->ino, inodes, count, sizeof(*inodes), compare_ino))
			continue;
		napi_create_uint32(env, id, &value);
		napi_set_element(env, result, found++, value);
	}
	return result;
}

void sf_init_tree(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "treeCreate", tree_create);
	sf_set_function(env, exports, "treeClose", tree_close);
	sf_set_function(env, exports, "treePaths", tree_paths);
	sf_set_function(env, exports, "treeFind", tree_find);
}
