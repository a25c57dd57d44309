#include "../archive/details.h"
#include "../addon/job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static const napi_type_tag tree_tag = { 0x5f1c7a3e90b24d68ULL, 0xa1d4e6f8275b3c90ULL };

/* What `treeNews` tells of. */
#define NEWS_ADDED 0
#define NEWS_CHANGED 1
#define NEWS_REMOVED 2

#define ENTRY_PAGES (SF_MAX_ENTRIES >> SF_ENTRY_BITS)
#define NODE_PAGES (SF_MAX_ENTRIES >> SF_NODE_BITS)
#define NAME_PAGES (1u << (32 - SF_PAGE_BITS))
#define BITS_BYTES (SF_MAX_ENTRIES / 8)

/* Its place; a length and the name. False when memory or numbers run out. */
static bool add_name(struct sf_tree *tree, const char *name, size_t len, uint32_t *at)
{
	uint8_t bytes[SF_NAME_ROOM];
	uint64_t place = tree->names_end;

	/* It does not cross into the next page. */
	if (place >> SF_PAGE_BITS != (place + len) >> SF_PAGE_BITS)
		place = ((place >> SF_PAGE_BITS) + 1) << SF_PAGE_BITS;
	uint64_t page = place >> SF_PAGE_BITS;
	if (len >= SF_NAME_ROOM || page >= NAME_PAGES)
		return false;
	bool is_first = tree->names_end == 0 || (tree->names_end - 1) >> SF_PAGE_BITS != page;
	if (is_first && !sf_store_add(tree->store, &tree->names[page]))
		return false;
	bytes[0] = (uint8_t)len;
	memcpy(bytes + 1, name, len);
	sf_store_write(tree->store, tree->names[page], place & (SF_PAGE_BYTES - 1), bytes, len + 1);
	tree->names_end = place + len + 1;
	*at = (uint32_t)place;
	return true;
}

bool sf_tree_add(struct sf_tree *tree, uint32_t parent, const char *name, size_t len, uint32_t *id)
{
	struct sf_node node = { .parent = parent };
	bool ok = false;

	pthread_mutex_lock(&tree->lock);
	uint32_t at = tree->n_entries;
	if (at >= SF_MAX_ENTRIES)
		goto out;
	if (at % (1u << SF_ENTRY_BITS) == 0 && !sf_store_add(tree->store, &tree->entries[at >> SF_ENTRY_BITS]))
		goto out;
	if (at % (1u << SF_NODE_BITS) == 0 && !sf_store_add(tree->store, &tree->nodes[at >> SF_NODE_BITS]))
		goto out;
	if (!add_name(tree, name, len, &node.name))
		goto out;
	sf_node_write(tree, at, 0, &node, sizeof(node));
	tree->n_entries = at + 1;
	*id = at;
	ok = true;
out:
	pthread_mutex_unlock(&tree->lock);
	return ok;
}

size_t sf_name(struct sf_tree *tree, uint32_t at, char out[SF_NAME_ROOM])
{
	uint32_t in_page = at & (SF_PAGE_BYTES - 1), left = SF_PAGE_BYTES - in_page;
	uint32_t page = tree->names[at >> SF_PAGE_BITS];
	const uint8_t *bytes = sf_store_fixed(tree->store, page);
	uint8_t copy[SF_NAME_ROOM];

	if (bytes) {
		bytes += in_page;
	} else {
		sf_store_read(tree->store, page, in_page, copy, left < SF_NAME_ROOM ? left : SF_NAME_ROOM);
		bytes = copy;
	}
	size_t len = bytes[0];
	/* Only where what the file gave back is not what it was given, which the store's owner will hear of. */
	if (len >= left)
		len = left - 1;
	memcpy(out, bytes + 1, len);
	out[len] = '\0';
	return len;
}

int sf_tree_path(struct sf_tree *tree, uint32_t id, char *out, size_t size)
{
	char name[SF_NAME_ROOM];
	char *end = out + size, *at = end;

	for (uint32_t i = id; i != SF_ROOT;) {
		struct sf_node node = sf_node_of(tree, i);
		size_t len = sf_name(tree, node.name, name), more = len + 1;
		if ((size_t)(at - out) < more)
			return -1;
		char separator = at == end ? '\0' : '/';
		*--at = separator;
		at -= len;
		memcpy(at, name, len);
		/* An id is given out after its parent's: anything else was not read as it was written. */
		if (node.parent >= i)
			return -1;
		i = node.parent;
	}
	if (at == end)
		*--at = '\0';
	memmove(out, at, (size_t)(end - at));
	return (int)(end - at) - 1;
}

int sf_tree_path_near(struct sf_tree *tree, struct sf_path *near, uint32_t id, char *out, size_t size)
{
	char name[SF_NAME_ROOM];
	uint32_t dir = id == SF_ROOT ? SF_ROOT : sf_node_of(tree, id).parent, up = dir;

	/* Below the last one by a step, or in it. */
	if (up != near->dir && up != SF_ROOT)
		up = sf_node_of(tree, up).parent;
	if (dir != near->dir && up == near->dir && dir != SF_ROOT) {
		size_t len = sf_name(tree, sf_node_of(tree, dir).name, name), more = len + (near->len > 0);
		if (near->len + more >= sizeof(near->text))
			return -1;
		if (near->len > 0)
			near->text[near->len] = '/';
		memcpy(near->text + near->len + (near->len > 0), name, len);
		near->len += more;
	} else if (dir != near->dir) {
		int len = sf_tree_path(tree, dir, near->text, sizeof(near->text));
		if (len < 0) {
			near->dir = SF_ROOT;
			near->len = 0;
			return -1;
		}
		near->len = (size_t)len;
	}
	near->dir = dir;
	if (id == SF_ROOT) {
		out[0] = '\0';
		return 0;
	}
	size_t len = sf_name(tree, sf_node_of(tree, id).name, name), at = near->len + (near->len > 0);
	if (at + len >= size)
		return -1;
	memcpy(out, near->text, near->len);
	if (near->len > 0)
		out[near->len] = '/';
	memcpy(out + at, name, len + 1);
	return (int)(at + len);
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

void sf_entry_name(struct sf_tree *tree, uint32_t id, char out[SF_NAME_ROOM])
{
	sf_name(tree, sf_node_of(tree, id).name, out);
}

void sf_walk_begin(struct sf_walk *walk, struct sf_tree *tree)
{
	*walk = (struct sf_walk){ .tree = tree };
}

static void back_to_root(struct sf_walk *walk)
{
	while (walk->depth > 0)
		close(walk->fds[--walk->depth]);
}

void sf_walk_end(struct sf_walk *walk)
{
	back_to_root(walk);
	sf_leases_free(&walk->leases);
}

static void push_fd(struct sf_walk *walk, uint32_t id, int fd)
{
	if (walk->depth == SF_WALK_DEPTH) {
		close(walk->fds[0]);
		walk->depth--;
		memmove(walk->ids, walk->ids + 1, walk->depth * sizeof(*walk->ids));
		memmove(walk->fds, walk->fds + 1, walk->depth * sizeof(*walk->fds));
	}
	walk->ids[walk->depth] = id;
	walk->fds[walk->depth++] = fd;
}

/*
 * The directory that both are in or are, on the way down to either; ids grow downwards. UINT32_MAX where they are not
 * as they were written.
 */
static uint32_t common_dir(struct sf_tree *tree, uint32_t a, uint32_t b)
{
	while (a != b) {
		uint32_t *deeper = a > b ? &a : &b, parent = sf_node_of(tree, *deeper).parent;
		if (parent >= *deeper)
			return UINT32_MAX;
		*deeper = parent;
	}
	return a;
}

static bool is_dir_of(struct sf_tree *tree, uint32_t id, int fd)
{
	struct sf_entry entry = sf_entry_of(tree, id);
	struct statx st;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) == 0 && st.stx_ino == entry.ino &&
		(st.stx_dev_major << 20 | st.stx_dev_minor) == entry.dev;
}

/*
 * Goes up from the highest directory that is open, if `want` is above it. Somebody may have moved that one elsewhere:
 * what `..` then leads to is another inode. False where the way has to be found from the root.
 */
static bool go_up(struct sf_walk *walk, uint32_t want)
{
	/* So many at once as fit a path. */
	char ups[1024 * 3 + 1];
	int fd = walk->fds[0];
	uint32_t at = walk->ids[0];
	bool mine = false;

	while (at != want && fd >= 0) {
		size_t len = 0;
		for (; at != want && len + 3 < sizeof(ups); len += 3) {
			memcpy(ups + len, "../", 3);
			at = sf_node_of(walk->tree, at).parent;
		}
		ups[len] = '\0';
		int up = openat(fd, ups, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (mine)
			close(fd);
		fd = up;
		mine = true;
	}
	back_to_root(walk);
	if (fd < 0)
		return false;
	if (!is_dir_of(walk->tree, want, fd)) {
		close(fd);
		return false;
	}
	push_fd(walk, want, fd);
	return true;
}

/* From `from`, whose descriptor is the walk's last (or the root's), down to `to` below it. */
static int go_down(struct sf_walk *walk, uint32_t from, uint32_t to)
{
	struct sf_tree *tree = walk->tree;
	uint32_t count = 0;

	for (uint32_t i = to; i != from; i = sf_node_of(tree, i).parent)
		count++;
	uint32_t *way = malloc((count + 1) * sizeof(*way));
	if (!way)
		return -ENOMEM;
	for (uint32_t i = to, at = count; at > 0; i = sf_node_of(tree, i).parent)
		way[--at] = i;
	int fd = walk->depth == 0 ? tree->root_fd : walk->fds[walk->depth - 1];
	for (uint32_t at = 0; at < count; at++) {
		char name[SF_NAME_ROOM];
		sf_entry_name(tree, way[at], name);
		int next = sf_tree_cancelled(tree) ? -1 : openat(fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
		if (next < 0) {
			fd = sf_tree_cancelled(tree) ? -ECANCELED : -errno;
			break;
		}
		push_fd(walk, way[at], next);
		fd = next;
	}
	free(way);
	return fd;
}

int sf_walk_parent(struct sf_walk *walk, uint32_t id)
{
	struct sf_tree *tree = walk->tree;
	uint32_t want = sf_node_of(tree, id).parent, from = SF_ROOT;

	if (walk->depth > 0) {
		if (walk->ids[walk->depth - 1] == want)
			return walk->fds[walk->depth - 1];
		from = common_dir(tree, walk->ids[walk->depth - 1], want);
		if (from == UINT32_MAX)
			return -EIO; /* not as it was written */
		/* Ids grow downwards: what is below the common one has a higher one. */
		while (walk->depth > 1 && walk->ids[walk->depth - 1] > from)
			close(walk->fds[--walk->depth]);
		if (from == SF_ROOT || (walk->ids[walk->depth - 1] != from && !go_up(walk, from))) {
			back_to_root(walk);
			from = SF_ROOT;
		}
	}
	return go_down(walk, from, want);
}

/* Through the holder of a write lease on it; -1 where there is none. */
static int open_leased(struct sf_walk *walk, int dir, const char *name, int flags)
{
	struct stat st;
	int follow = flags & O_NOFOLLOW ? AT_SYMLINK_NOFOLLOW : 0;

	if (fstatat(dir, name, &st, follow) != 0)
		return -1;
	int fd = sf_leases_open(&walk->leases, &st);
	walk->shared = fd >= 0;
	return fd;
}

int sf_walk_open(struct sf_walk *walk, uint32_t id)
{
	/* Not blocking, should it have become a FIFO. Reading must not move the access time, where we may say so. */
	int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC, fd = -1;
	char name[SF_NAME_ROOM];
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
	walk->shared = false;
	if (!walk->leases.known)
		sf_leases_read(&walk->leases);
	if (walk->leases.count > 0 && sf_leases_have(&walk->leases, sf_entry_of(walk->tree, id).ino))
		fd = open_leased(walk, dir, name, flags);
	if (fd != -1)
		return fd;
	fd = openat(dir, name, flags | O_NOATIME);
	if (fd < 0 && errno == EPERM)
		fd = openat(dir, name, flags);
	if (fd >= 0)
		return fd;
	if (errno != EWOULDBLOCK)
		return -errno;
	/* The lease is younger than the list. */
	sf_leases_read(&walk->leases);
	fd = open_leased(walk, dir, name, flags);
	return fd == -1 ? -EAGAIN : fd;
}

static void unwatch(struct sf_tree *tree)
{
	if (tree->watch)
		sf_watch_stop(tree->watch);
	tree->watch = NULL;
}

/* How long the end of an environment (a worker's, or the process's) waits for threads that have been told to stop. */
#define END_MS 1000
static void cancel_jobs(void *data)
{
	struct sf_tree *tree = data;

	atomic_store(&tree->jobs.cancelled, true);
	sf_group_settle(&tree->jobs, END_MS);
}

static void release_tree(struct sf_tree *tree)
{
	struct {
		void *at;
		size_t bytes;
	} tables[] = {
		{ tree->entries, ENTRY_PAGES * sizeof(uint32_t) },
		{ tree->nodes, NODE_PAGES * sizeof(uint32_t) },
		{ tree->names, NAME_PAGES * sizeof(uint32_t) },
		{ tree->alive, BITS_BYTES },
		{ tree->before, BITS_BYTES },
		{ tree->changed, BITS_BYTES },
		{ tree->listed, BITS_BYTES },
	};

	unwatch(tree);
	if (tree->root_fd >= 0)
		close(tree->root_fd);
	for (size_t i = 0; i < sizeof(tables) / sizeof(*tables); i++)
		if (tables[i].at)
			munmap(tables[i].at, tables[i].bytes);
	sf_store_release(tree->store);
	sf_group_end(&tree->jobs);
	pthread_mutex_destroy(&tree->lock);
	free(tree);
}

/* A thread that a file system holds up may still use it: then it stays for good. */
static void free_tree(napi_env env, void *data, void *hint)
{
	struct sf_tree *tree = data;

	napi_remove_env_cleanup_hook(env, cancel_jobs, tree);
	if (sf_group_settle(&tree->jobs, 0))
		release_tree(tree);
}

/* Lets go of the directory; of one that a job uses when that is done. */
static void close_tree(struct sf_tree *tree)
{
	if (tree->jobs.jobs) {
		tree->closing = true;
		return;
	}
	unwatch(tree);
	if (tree->root_fd >= 0) {
		close(tree->root_fd);
		tree->root_fd = -1;
	}
}

void sf_tree_job_done(struct sf_tree *tree)
{
	if (tree->closing)
		close_tree(tree);
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

/* treeCreate(store) */
static napi_value tree_create(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value argv[1], object;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_store *store = sf_store_of(env, argv[0]);
	if (!store)
		return NULL;
	struct sf_tree *tree = calloc(1, sizeof(*tree));
	if (!tree)
		return sf_throw_errno(env, ENOMEM, "treeCreate");
	pthread_mutex_init(&tree->lock, NULL);
	sf_group_begin(&tree->jobs);
	tree->root_fd = -1;
	tree->store = sf_store_use(store);
	tree->entries = sf_reserve(ENTRY_PAGES * sizeof(uint32_t));
	tree->nodes = sf_reserve(NODE_PAGES * sizeof(uint32_t));
	tree->names = sf_reserve(NAME_PAGES * sizeof(uint32_t));
	tree->alive = sf_reserve(BITS_BYTES);
	tree->before = sf_reserve(BITS_BYTES);
	tree->changed = sf_reserve(BITS_BYTES);
	tree->listed = sf_reserve(BITS_BYTES);
	if (!tree->entries || !tree->nodes || !tree->names || !tree->alive || !tree->before || !tree->changed ||
		!tree->listed) {
		release_tree(tree);
		return sf_throw_errno(env, ENOMEM, "treeCreate");
	}
	napi_create_object(env, &object);
	napi_wrap(env, object, tree, free_tree, NULL, NULL);
	napi_type_tag_object(env, object, &tree_tag);
	napi_add_env_cleanup_hook(env, cancel_jobs, tree);
	return object;
}

/* The first argument. */
static struct sf_tree *tree_argument(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value argv[1];

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	return sf_tree_of(env, argv[0]);
}

/* Lets go of the directory; the entries stay readable. */
static napi_value tree_close(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = tree_argument(env, info);

	if (tree)
		close_tree(tree);
	return NULL;
}

/* treeCancel(tree): what is under way with the tree's files fails, as soon as it can. */
static napi_value tree_cancel(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = tree_argument(env, info);

	if (tree)
		atomic_store(&tree->jobs.cancelled, true);
	return NULL;
}

/* treeAbandon(tree): nobody waits for it any more. */
static napi_value tree_abandon(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = tree_argument(env, info);

	if (tree)
		sf_group_abandon(env, &tree->jobs);
	return NULL;
}

struct start_watch {
	struct sf_job job;
	struct sf_tree *tree;
	int32_t *ignored; /* the caller's */
	size_t count;
	struct sf_watch *watch;
};

static void start_watch_run(struct sf_job *job)
{
	struct start_watch *start = (struct start_watch *)job;

	start->watch = sf_watch_start(start->tree->root_fd, &job->err);
	for (size_t i = 0; start->watch && i < start->count; i++)
		sf_watch_ignore(start->watch, start->ignored[i]);
}

static napi_value start_watch_result(napi_env env, struct sf_job *job)
{
	struct start_watch *start = (struct start_watch *)job;
	napi_value value;

	unwatch(start->tree);
	start->tree->watch = start->watch;
	start->watch = NULL;
	napi_get_undefined(env, &value);
	return value;
}

static void start_watch_release(struct sf_job *job)
{
	struct start_watch *start = (struct start_watch *)job;

	if (start->watch)
		sf_watch_stop(start->watch);
	if (start->tree)
		sf_tree_job_done(start->tree);
	free(start);
}

/* treeWatch(tree, ignored: file descriptors): a promise; from the next scan on. */
static napi_value tree_watch(napi_env env, napi_callback_info info)
{
	size_t argc = 2;
	napi_value argv[2];
	struct start_watch *start = calloc(1, sizeof(*start));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!start)
		return sf_throw_errno(env, ENOMEM, "treeWatch");
	start->job =
		(struct sf_job){ .run = start_watch_run, .result = start_watch_result, .release = start_watch_release };
	start->tree = sf_tree_of(env, argv[0]);
	if (!start->tree ||
		napi_get_typedarray_info(env, argv[1], NULL, &start->count, (void **)&start->ignored, NULL, NULL) != napi_ok) {
		start_watch_release(&start->job);
		return NULL;
	}
	return sf_job_start_apart(env, &start->tree->jobs, &start->job, "stillframe:watch", argv, 2);
}

/* treeRoot(tree, fd): what the next scan looks at, opened with O_PATH; the tree's from here on. */
static napi_value tree_root(napi_env env, napi_callback_info info)
{
	size_t argc = 2;
	napi_value argv[2];
	int fd = -1;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_value_int32(env, argv[1], &fd) != napi_ok)
		return NULL;
	if (tree->jobs.jobs)
		return sf_throw_errno(env, EBUSY, "treeRoot");
	if (tree->root_fd >= 0)
		close(tree->root_fd);
	tree->root_fd = fd;
	return NULL;
}

/* treeUnwatch(tree) */
static napi_value tree_unwatch(napi_env env, napi_callback_info info)
{
	struct sf_tree *tree = tree_argument(env, info);

	if (tree)
		unwatch(tree);
	return NULL;
}

/* treePath(tree, id, into: Buffer): how many bytes the path below the root has, put there. */
static napi_value tree_path(napi_env env, napi_callback_info info)
{
	size_t argc = 3, room;
	napi_value argv[3], value;
	uint32_t id = 0;
	char *out;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_value_uint32(env, argv[1], &id) != napi_ok ||
		napi_get_buffer_info(env, argv[2], (void **)&out, &room) != napi_ok)
		return NULL;
	int len = id < tree->n_entries ? sf_tree_path(tree, id, out, room) : -1;
	int err = sf_store_error(tree->store);
	if (err)
		return sf_throw_errno(env, err, SF_STORE_SYSCALL);
	if (len < 0)
		return sf_throw_errno(env, ENAMETOOLONG, "treePath");
	napi_create_uint32(env, (uint32_t)len, &value);
	return value;
}

static int compare_ino(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return x < y ? -1 : x > y;
}

struct find {
	struct sf_job job;
	struct sf_tree *tree;
	uint64_t *inodes; /* the caller's */
	size_t count;
	struct sf_bytes ids;
};

static void find_run(struct sf_job *job)
{
	struct find *find = (struct find *)job;

	qsort(find->inodes, find->count, sizeof(*find->inodes), compare_ino);
	for (uint32_t id = 0; id < find->tree->n_entries; id++) {
		if (!sf_bit(find->tree->alive, id))
			continue;
		struct sf_entry entry = sf_entry_of(find->tree, id);
		if (bsearch(&entry.ino, find->inodes, find->count, sizeof(*find->inodes), compare_ino))
			sf_bytes_append(&find->ids, &id, sizeof(id));
	}
	if (find->ids.failed)
		job->err = ENOMEM;
	sf_store_tell(find->tree->store, job);
}

static napi_value find_result(napi_env env, struct sf_job *job)
{
	struct find *find = (struct find *)job;
	napi_value value;

	napi_create_buffer_copy(env, find->ids.len, find->ids.at, NULL, &value);
	return value;
}

static void find_release(struct sf_job *job)
{
	free(((struct find *)job)->ids.at);
	free(job);
}

/*
 * treeFind(tree, inodes: BigUint64Array, sorted in place): a promise of the ids, 32 bits each, of the living entries
 * with such an inode number.
 */
static napi_value tree_find(napi_env env, napi_callback_info info)
{
	size_t argc = 2;
	napi_value argv[2];
	struct find *find = calloc(1, sizeof(*find));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!find)
		return sf_throw_errno(env, ENOMEM, "treeFind");
	find->job = (struct sf_job){ .run = find_run, .result = find_result, .release = find_release };
	find->tree = sf_tree_of(env, argv[0]);
	if (!find->tree ||
		napi_get_typedarray_info(env, argv[1], NULL, &find->count, (void **)&find->inodes, NULL, NULL) != napi_ok) {
		find_release(&find->job);
		return NULL;
	}
	return sf_job_start(env, &find->job, "stillframe:find", argv, 2);
}

/*
 * treeNews(tree, what, from, ids: Uint32Array): how many ids from this one on were found (as many as there is room
 * for).
 */
static napi_value tree_news(napi_env env, napi_callback_info info)
{
	size_t argc = 4, room;
	napi_value argv[4], value;
	uint32_t what = 0, from = 0, count = 0, *ids;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_tree *tree = sf_tree_of(env, argv[0]);
	if (!tree || napi_get_typedarray_info(env, argv[3], NULL, &room, (void **)&ids, NULL, NULL) != napi_ok)
		return NULL;
	napi_get_value_uint32(env, argv[1], &what);
	napi_get_value_uint32(env, argv[2], &from);
	for (uint32_t word = from >> 6; word <= (tree->n_entries - 1) >> 6 && tree->n_entries > 0 && count < room; word++) {
		uint64_t bits = what == NEWS_ADDED ? tree->alive[word] & ~tree->before[word]
			: what == NEWS_REMOVED         ? tree->before[word] & ~tree->alive[word]
										   : tree->changed[word];
		if (word == from >> 6)
			bits &= ~0ull << (from & 63);
		for (; bits && count < room; bits &= bits - 1)
			ids[count++] = word << 6 | (uint32_t)__builtin_ctzll(bits);
	}
	napi_create_uint32(env, count, &value);
	return value;
}

void sf_init_tree(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "treeWatch", tree_watch);
	sf_set_function(env, exports, "treeUnwatch", tree_unwatch);
	sf_set_function(env, exports, "treeCreate", tree_create);
	sf_set_function(env, exports, "treeClose", tree_close);
	sf_set_function(env, exports, "treeCancel", tree_cancel);
	sf_set_function(env, exports, "treeAbandon", tree_abandon);
	sf_set_function(env, exports, "treeRoot", tree_root);
	sf_set_function(env, exports, "treePath", tree_path);
	sf_set_function(env, exports, "treeFind", tree_find);
	sf_set_function(env, exports, "treeNews", tree_news);
}
