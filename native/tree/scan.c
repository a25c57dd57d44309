/*
 * A parallel scan: getdents64 and statx on threads of its own, compared with the last scan while it runs,
 * so that a second scan costs its system calls and little more. Symbolic links are never followed below
 * the root. A name that vanishes between the two calls is simply not there: the next scan tells.
 *
 * A directory is read a buffer at a time, and what that buffer named is looked at before the next one: what waits is
 * bounded by the tree's depth, not by how many entries there are.
 *
 * Where the kernel has told what happened since the last scan began (watch.h), only that is looked at: directories
 * whose names came or went are read again with all that they name, other inodes told of are looked at by each of their
 * names, and what is known of the rest is true still.
 */
#include "exclude.h"
#include "tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x2000
#endif

#define DENTS_BYTES 65536
/* A directory's names are handed to other threads from this many on. */
#define SHARE_AT 256
/* So many of the files that changed last are told in the order of their change. */
#define MAX_HOT 16384
#define MAX_THREADS 16
/* So many directories are kept open for what is still to be looked at in them; of the others the way is found again. */
#define MAX_OPEN_DIRS 64
/* A buffer of names with less room left than this has no more to come, most likely. */
#define DENT_ROOM (SF_NAME_ROOM + 32)

struct list {
	uint32_t *items;
	uint32_t count, room;
};

/* When a file changed. */
struct hot {
	int64_t sec;
	uint32_t nsec, id;
};

/* The latest of those noted; up to twice as many as are wanted. */
struct hottest {
	struct hot *items;
	uint32_t count;
	int64_t since_sec;
};

/* The ids of names read before, found by place first and by hash when places have shifted. */
struct match {
	uint32_t first; /* of the directory's list as it was */
	uint32_t expected; /* in that list; 0 at its end */
	uint32_t *table;
	uint32_t mask;
};

/* An open directory that is being read, or whose children are still being looked at. */
struct dirref {
	atomic_int refs;
	struct scan *scan;
	int fd; /* or -1: it is not kept open */
	uint32_t id;
	uint8_t fs;
	uint32_t dev;
	struct sf_excluding excluding;
	bool known; /* its names are those of the last scan, and `fd` is -1 */
	struct match match;
	uint32_t last; /* the last of its new list; 0 before the first */
};

enum work { READ, READ_ON, LOOK };

struct item {
	enum work work;
	struct dirref
		*dir; /* to go on reading, or of the entries to look at; of a directory to read its parent, NULL for the root */
	uint32_t id; /* READ: the directory */
	bool known; /* READ: nothing has happened to its names */
	struct sf_excluding excluding;
	uint32_t *ids; /* LOOK */
	uint32_t count;
};

struct scan {
	struct sf_job job;
	struct sf_tree *tree;
	char *path;
	uint32_t threads;
	bool one_file_system;
	int64_t hot_since_sec;
	double still_since_ms;
	char *exclude_text;
	struct sf_excludes excludes;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct item *stack;
	uint32_t depth, room, busy;
	bool out_of_memory;
	_Atomic uint32_t open_dirs;

	bool told; /* what has changed is known */
	struct sf_inodes changes;
	struct list crossings, errors;
	struct hottest hottest;
	uint64_t bytes;
	uint32_t looks;
	_Atomic uint32_t unnoticed; /* one more than such an entry, whichever; 0 for none */
};

struct worker {
	struct scan *scan;
	struct sf_walk walk;
	struct list crossings, errors;
	struct hottest hottest;
	uint64_t bytes;
	uint32_t looks;
	pthread_t thread;
	bool started;
};

static bool push(struct list *list, uint32_t value)
{
	if (list->count == list->room) {
		uint32_t room = list->room ? list->room * 2 : 256;
		uint32_t *items = realloc(list->items, room * sizeof(*items));
		if (!items)
			return false;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = value;
	return true;
}

static void fail_memory(struct scan *scan)
{
	pthread_mutex_lock(&scan->lock);
	scan->out_of_memory = true;
	pthread_cond_broadcast(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
}

static void note(struct worker *worker, struct list *list, uint32_t value)
{
	if (!push(list, value))
		fail_memory(worker->scan);
}

static void note_error(struct worker *worker, uint32_t id, int err)
{
	/* Gone, or another kind of file now: not an error of a tree that lives. */
	if (err == ENOENT || err == ENOTDIR || err == ELOOP || err == ESTALE)
		return;
	note(worker, &worker->errors, id);
	note(worker, &worker->errors, (uint32_t)err);
}

static int latest_first(const void *a, const void *b)
{
	const struct hot *x = a, *y = b;

	if (x->sec != y->sec)
		return x->sec > y->sec ? -1 : 1;
	if (x->nsec != y->nsec)
		return x->nsec > y->nsec ? -1 : 1;
	return x->id > y->id ? -1 : x->id < y->id;
}

/* Keeps the latest MAX_HOT, and from then on nothing that is older. */
static void thin_out(struct hottest *hottest)
{
	if (hottest->count > 1)
		qsort(hottest->items, hottest->count, sizeof(*hottest->items), latest_first);
	if (hottest->count <= MAX_HOT)
		return;
	hottest->count = MAX_HOT;
	hottest->since_sec = hottest->items[MAX_HOT - 1].sec;
}

static void note_hot(struct worker *worker, uint32_t id, const struct sf_entry *entry)
{
	struct hottest *hottest = &worker->hottest;

	if (entry->ctime_sec < hottest->since_sec)
		return;
	if (!hottest->items && !(hottest->items = malloc(2 * MAX_HOT * sizeof(*hottest->items)))) {
		fail_memory(worker->scan);
		return;
	}
	hottest->items[hottest->count++] = (struct hot){ .sec = entry->ctime_sec, .nsec = entry->ctime_nsec, .id = id };
	if (hottest->count == 2 * MAX_HOT)
		thin_out(hottest);
}

/* What comes after the last name read so far; 0 at the end. Written only where it is not so already. */
static void link_child(struct sf_tree *tree, struct dirref *dir, uint32_t id)
{
	if (dir->last != 0 && sf_node_of(tree, dir->last).next != id)
		sf_node_set_next(tree, dir->last, id);
	else if (dir->last == 0 && sf_node_of(tree, dir->id).child != id)
		sf_node_set_child(tree, dir->id, id);
	dir->last = id;
}

static void unref(struct dirref *dir)
{
	if (dir && atomic_fetch_sub(&dir->refs, 1) == 1) {
		free(dir->match.table);
		if (dir->fd >= 0) {
			close(dir->fd);
			atomic_fetch_sub(&dir->scan->open_dirs, 1);
		}
		free(dir);
	}
}

static struct dirref *ref(struct dirref *dir)
{
	if (dir)
		atomic_fetch_add(&dir->refs, 1);
	return dir;
}

/* Last in, first out: few directories are open at a time, however wide the tree is. */
static void give(struct scan *scan, struct item item)
{
	pthread_mutex_lock(&scan->lock);
	if (scan->depth == scan->room) {
		uint32_t room = scan->room ? scan->room * 2 : 64;
		struct item *stack = realloc(scan->stack, room * sizeof(*stack));
		if (!stack) {
			scan->out_of_memory = true;
			pthread_mutex_unlock(&scan->lock);
			free(item.ids);
			unref(item.dir);
			return;
		}
		scan->stack = stack;
		scan->room = room;
	}
	scan->stack[scan->depth++] = item;
	pthread_cond_signal(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
}

/* A name in the directory `parent`, or with an empty one `parent` itself. */
static uint8_t file_system(struct worker *worker, int parent, const char *name, uint32_t id, uint32_t dev)
{
	struct sf_tree *tree = worker->scan->tree;
	struct statfs st;
	uint32_t type = 0, at;
	int fd = name[0] ? openat(parent, name, O_PATH | O_NOFOLLOW | O_CLOEXEC) : fcntl(parent, F_DUPFD_CLOEXEC, 0);

	/* A type of 0 is one that nobody trusts. */
	if (fd >= 0) {
		if (fstatfs(fd, &st) == 0)
			type = (uint32_t)st.f_type;
		close(fd);
	}
	pthread_mutex_lock(&tree->lock);
	for (at = 0; at < tree->n_fs; at++)
		if (tree->fs[at].dev == dev && tree->fs[at].type == type)
			break;
	if (at == tree->n_fs) {
		if (at == SF_MAX_FS) {
			at = SF_MAX_FS - 1;
			tree->fs[at].type = 0;
		} else {
			tree->fs[at] = (struct sf_fs){ .dev = dev, .type = type, .sample = id };
			tree->n_fs++;
		}
	}
	pthread_mutex_unlock(&tree->lock);
	return (uint8_t)at;
}

/* Nothing has happened to it or to its name since the last scan. */
static bool is_as_known(const struct scan *scan, const struct dirref *dir, uint32_t id, const struct sf_entry *entry)
{
	return scan->told && dir && dir->known && sf_bit(scan->tree->before, id) &&
		!sf_inodes_has(&scan->changes, entry->ino);
}

/* To be read when there is time, or taken from what is known. */
static void give_dir(struct scan *scan, struct dirref *dir, uint32_t id, const char *name, bool known)
{
	struct item item = { .work = READ, .dir = ref(dir), .id = id, .known = known, .excluding = scan->excludes.root };

	if (dir)
		sf_excluded(&scan->excludes, &dir->excluding, name, &item.excluding);
	give(scan, item);
}

/* A descriptor of the directory that the entry is in, which may be the caller's `fd`; -errno. */
static int parent_fd(struct worker *worker, struct dirref *dir, int fd, uint32_t id)
{
	if (!dir)
		return worker->scan->tree->root_fd;
	if (fd >= 0)
		return fd;
	return dir->fd >= 0 ? dir->fd : sf_walk_parent(&worker->walk, id);
}

/* Looks at one name; `dir` is NULL for the root, `fd` is -1 or the directory's. */
static void look(struct worker *worker, struct dirref *dir, int fd, uint32_t id)
{
	struct scan *scan = worker->scan;
	struct sf_tree *tree = scan->tree;
	struct sf_entry entry = sf_entry_of(tree, id);
	char name[SF_NAME_ROOM] = "";
	struct statx st;

	if (is_as_known(scan, dir, id, &entry)) {
		sf_set_bit(tree->alive, id);
		if (!S_ISDIR(entry.mode))
			return;
		if (!sf_excluding_nothing(&dir->excluding))
			sf_entry_name(tree, id, name);
		give_dir(scan, dir, id, name, true);
		return;
	}
	if (dir)
		sf_entry_name(tree, id, name);
	worker->looks++;
	/* An automounter's directory must not be mounted because we look at it. */
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | (dir ? 0 : AT_EMPTY_PATH);
	int parent = parent_fd(worker, dir, fd, id);
	if (parent < 0 || statx(parent, name, flags, STATX_BASIC_STATS, &st) != 0) {
		note_error(worker, id, parent < 0 ? -parent : errno);
		return;
	}

	uint32_t dev = st.stx_dev_major << 20 | st.stx_dev_minor;
	bool is_dir = S_ISDIR(st.stx_mode);
	/* On an overlay, files that are no directories may show another device without being on another mount. */
	bool crossing = !dir || (st.stx_attributes & STATX_ATTR_MOUNT_ROOT) || (is_dir && dev != dir->dev);
	bool is_new = !sf_bit(tree->before, id);
	bool was_dir = !is_new && S_ISDIR(entry.mode);
	bool is_same = !is_new && st.stx_ino == entry.ino && dev == entry.dev;
	/* Another directory than the one that was watched. */
	if (!dir && !is_same)
		scan->told = false;
	uint8_t fs = crossing ? file_system(worker, parent, name, id, dev) : dir->fs;
	bool different = sf_entry_update(&entry, &st) || fs != entry.fs;

	/* Not written when nothing is different: that would be one more page to write to the file. */
	if (is_new || different) {
		entry.fs = fs;
		sf_entry_put(tree, id, &entry);
		if (S_ISREG(entry.mode))
			worker->bytes += entry.size;
	}
	/* Dead, or no directory, when last seen: nothing of an older list is known any more. */
	if (is_dir && !was_dir && sf_node_of(tree, id).child != 0)
		sf_node_set_child(tree, id, 0);
	sf_set_bit(tree->alive, id);
	if (is_new && S_ISREG(entry.mode))
		note_hot(worker, id, &entry);
	else if (!is_new && different)
		sf_set_bit(tree->changed, id);
	/* Of another inode of that name nobody can say when it came there. */
	if (is_same && different && sf_entry_ctime_ms(&entry) < scan->still_since_ms)
		atomic_store(&scan->unnoticed, id + 1);
	if (crossing && dir)
		note(worker, &worker->crossings, id);
	if (!is_dir || (scan->one_file_system && dir && dev != dir->dev))
		return;
	/* A new directory may have the number of one that was removed: then at least its ctime is another. */
	bool known = scan->told && !is_new && !different && !sf_inodes_has(&scan->changes, entry.ino);
	give_dir(scan, dir, id, name, known);
}

static uint32_t hash_name(const char *name, size_t len)
{
	uint32_t hash = 2166136261u;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ (uint8_t)name[i]) * 16777619u;
	return hash ^ hash >> 15;
}

static bool same_name(struct sf_tree *tree, uint32_t id, uint32_t at, const char *name, size_t len)
{
	char known[SF_NAME_ROOM];

	return sf_bit(tree->before, id) && sf_name(tree, at, known) == len && memcmp(known, name, len) == 0;
}

/*
 * All ids of the list as it was, by the hash of their names. It is still whole: what differs is what comes next. After
 * a scan that failed in the middle it may be a ring, and is not followed for ever.
 */
static bool build_table(struct sf_tree *tree, struct match *match)
{
	uint32_t count = 0, size = 16;

	for (uint32_t id = match->first; id != 0 && count < tree->n_entries; id = sf_node_of(tree, id).next)
		count++;
	while (size < count + count / 2)
		size *= 2;
	match->table = calloc(size, sizeof(*match->table));
	if (!match->table)
		return false;
	match->mask = size - 1;
	for (uint32_t id = match->first; id != 0 && count > 0; count--) {
		struct sf_node node = sf_node_of(tree, id);
		char name[SF_NAME_ROOM];
		size_t len = sf_name(tree, node.name, name);
		uint32_t at = hash_name(name, len) & match->mask;
		while (match->table[at] != 0)
			at = (at + 1) & match->mask;
		match->table[at] = id;
		id = node.next;
	}
	return true;
}

/* 0 for a name that is new; memory running out makes a known name look new, which costs a copy. */
static uint32_t find_name(struct sf_tree *tree, struct match *match, const char *name, size_t len)
{
	uint32_t id = match->expected;

	if (id != 0) {
		struct sf_node node = sf_node_of(tree, id);
		if (same_name(tree, id, node.name, name, len)) {
			match->expected = node.next;
			return id;
		}
	}
	if (match->first == 0 || (!match->table && !build_table(tree, match)))
		return 0;
	for (uint32_t at = hash_name(name, len) & match->mask; (id = match->table[at]) != 0; at = (at + 1) & match->mask) {
		struct sf_node node = sf_node_of(tree, id);
		if (!same_name(tree, id, node.name, name, len))
			continue;
		match->expected = node.next;
		return id;
	}
	return 0;
}

struct dent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* By whoever is free, when there are many; else here. False when memory runs out. */
static bool look_at(struct worker *worker, struct dirref *dir, int fd, const struct list *ids)
{
	bool ok = true;

	if (ids->count < SHARE_AT || worker->scan->threads == 1) {
		for (uint32_t i = 0; i < ids->count; i++)
			look(worker, dir, fd, ids->items[i]);
		return true;
	}
	/* In pieces, so that the last one is short. */
	for (uint32_t i = 0; i < ids->count && ok; i += SHARE_AT) {
		uint32_t n = ids->count - i < SHARE_AT ? ids->count - i : SHARE_AT;
		uint32_t *piece = malloc(n * sizeof(*piece));
		if (piece) {
			memcpy(piece, ids->items + i, n * sizeof(*piece));
			give(worker->scan, (struct item){ .work = LOOK, .dir = ref(dir), .ids = piece, .count = n });
		}
		ok = piece != NULL;
	}
	return ok;
}

/* One buffer of names; with `more` the next one is read when all that this one named has been looked at. */
static bool take_names(struct worker *worker, struct dirref *dir, int fd, const char *buffer, long bytes, bool more)
{
	struct scan *scan = worker->scan;
	struct list ids = { 0 };
	bool ok = true;

	for (long at = 0; at < bytes && ok;) {
		const struct dent *dent = (const struct dent *)(buffer + at);
		size_t len = strlen(dent->name);
		struct sf_excluding below;

		at += dent->reclen;
		if (strcmp(dent->name, ".") == 0 || strcmp(dent->name, "..") == 0)
			continue;
		if (!sf_excluding_nothing(&dir->excluding) && sf_excluded(&scan->excludes, &dir->excluding, dent->name, &below))
			continue;
		uint32_t id = find_name(scan->tree, &dir->match, dent->name, len);
		if (id == 0)
			ok = sf_tree_add(scan->tree, dir->id, dent->name, len, &id);
		/*
		 * A directory that is written to while it is read may tell a name twice: a list with a ring in it has no end.
		 */
		if (!ok || sf_set_bit(scan->tree->listed, id))
			continue;
		link_child(scan->tree, dir, id);
		ok = push(&ids, id);
	}
	/* Below what is given next, and so taken after it; nor may anybody read on while names are being found. */
	if (ok && more)
		give(scan, (struct item){ .work = READ_ON, .dir = ref(dir) });
	ok = ok && look_at(worker, dir, fd, &ids);
	free(ids.items);
	return ok;
}

/*
 * The next buffer; the one after it when all that this one named has been looked at. To the end at once where that one
 * is likely to be empty, so that a directory is not kept open by what lies deep below it; and where it is not kept open
 * at all.
 */
static void read_on(struct worker *worker, struct dirref *dir, int fd)
{
	struct scan *scan = worker->scan;
	char *buffer = malloc(DENTS_BYTES);

	if (!buffer) {
		fail_memory(scan);
		return;
	}
	for (bool first = true, more = false; !more && !sf_tree_cancelled(scan->tree); first = false) {
		long bytes = syscall(SYS_getdents64, fd, buffer, DENTS_BYTES);
		if (bytes <= 0) {
			if (bytes < 0)
				note_error(worker, dir->id, errno);
			link_child(scan->tree, dir, 0);
			break;
		}
		more = dir->fd >= 0 && (!first || bytes > DENTS_BYTES - DENT_ROOM);
		if (!take_names(worker, dir, fd, buffer, bytes, more)) {
			fail_memory(scan);
			break;
		}
	}
	free(buffer);
}

/* The names of a directory as the last scan read them. */
static void take_known(struct worker *worker, struct dirref *dir)
{
	struct sf_tree *tree = worker->scan->tree;
	struct list ids = { 0 };
	bool ok = true;

	/* After a scan that failed in the middle it may be a ring. */
	for (uint32_t id = dir->match.first; id != 0 && ok && !sf_set_bit(tree->listed, id); id = sf_node_of(tree, id).next)
		ok = push(&ids, id);
	if (!ok || !look_at(worker, dir, -1, &ids))
		fail_memory(worker->scan);
	free(ids.items);
}

static void read_dir(struct worker *worker, const struct item *item)
{
	struct scan *scan = worker->scan;
	struct sf_tree *tree = scan->tree;
	int fd = -1;

	if (!item->known) {
		char name[SF_NAME_ROOM] = ".";
		int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (item->dir ? O_NOFOLLOW : 0);
		int parent = parent_fd(worker, item->dir, -1, item->id);
		if (item->dir)
			sf_entry_name(tree, item->id, name);
		fd = parent < 0 ? -1 : openat(parent, name, flags);
		if (fd < 0) {
			note_error(worker, item->id, parent < 0 ? -parent : errno);
			return;
		}
	}
	struct dirref *dir = calloc(1, sizeof(*dir));
	if (!dir) {
		if (fd >= 0)
			close(fd);
		fail_memory(scan);
		return;
	}
	bool kept = fd >= 0 && atomic_fetch_add(&scan->open_dirs, 1) < MAX_OPEN_DIRS;
	if (fd >= 0 && !kept)
		atomic_fetch_sub(&scan->open_dirs, 1);
	struct sf_entry entry = sf_entry_of(tree, item->id);
	uint32_t first = sf_node_of(tree, item->id).child;
	*dir = (struct dirref){
		.scan = scan,
		.fd = kept ? fd : -1,
		.id = item->id,
		.fs = entry.fs,
		.dev = entry.dev,
		.excluding = item->excluding,
		.known = item->known,
		.match = { .first = first, .expected = first },
	};
	atomic_init(&dir->refs, 1);
	if (item->known)
		take_known(worker, dir);
	else
		read_on(worker, dir, fd);
	if (fd >= 0 && !kept)
		close(fd);
	unref(dir);
}

static void *run_worker(void *arg)
{
	struct worker *worker = arg;
	struct scan *scan = worker->scan;

	pthread_mutex_lock(&scan->lock);
	for (;;) {
		while (scan->depth == 0 && scan->busy > 0 && !scan->out_of_memory)
			pthread_cond_wait(&scan->wake, &scan->lock);
		if (scan->depth == 0 || scan->out_of_memory || sf_tree_cancelled(scan->tree))
			break;
		struct item item = scan->stack[--scan->depth];
		scan->busy++;
		pthread_mutex_unlock(&scan->lock);

		if (item.work == LOOK)
			for (uint32_t i = 0; i < item.count; i++)
				look(worker, item.dir, -1, item.ids[i]);
		else if (item.work == READ_ON)
			read_on(worker, item.dir, item.dir->fd);
		else
			read_dir(worker, &item);
		free(item.ids);
		unref(item.dir);

		pthread_mutex_lock(&scan->lock);
		scan->busy--;
		if (scan->busy == 0 && scan->depth == 0)
			pthread_cond_broadcast(&scan->wake);
	}
	pthread_cond_broadcast(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
	return NULL;
}

static bool join_list(struct list *into, struct list *from)
{
	for (uint32_t i = 0; i < from->count; i++)
		if (!push(into, from->items[i]))
			return false;
	free(from->items);
	return true;
}

static bool join_hottest(struct hottest *into, struct hottest *from)
{
	bool ok = true;

	if (from->count > 0) {
		thin_out(from);
		struct hot *items = realloc(into->items, (into->count + from->count) * sizeof(*items));
		ok = items != NULL;
		if (ok) {
			memcpy(items + into->count, from->items, from->count * sizeof(*items));
			into->items = items;
			into->count += from->count;
			thin_out(into);
		}
	}
	free(from->items);
	return ok;
}

static bool run_threads(struct scan *scan)
{
	struct worker workers[MAX_THREADS];
	bool ok = true;

	memset(workers, 0, sizeof(workers));
	for (uint32_t i = 0; i < scan->threads; i++) {
		workers[i].scan = scan;
		sf_walk_begin(&workers[i].walk, scan->tree);
		workers[i].hottest.since_sec = scan->hot_since_sec;
	}
	look(&workers[0], NULL, -1, SF_ROOT);
	/* A single file needs no thread. One that cannot be started is done without. */
	for (uint32_t i = 1; scan->depth > 0 && i < scan->threads; i++)
		workers[i].started = pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0;
	run_worker(&workers[0]);
	for (uint32_t i = 0; i < scan->threads; i++) {
		if (workers[i].started)
			pthread_join(workers[i].thread, NULL);
		ok = join_list(&scan->crossings, &workers[i].crossings) && ok;
		ok = join_list(&scan->errors, &workers[i].errors) && ok;
		ok = join_hottest(&scan->hottest, &workers[i].hottest) && ok;
		scan->bytes += workers[i].bytes;
		scan->looks += workers[i].looks;
		sf_walk_end(&workers[i].walk);
	}
	for (uint32_t i = 0; i < scan->depth; i++) {
		free(scan->stack[i].ids);
		unref(scan->stack[i].dir);
	}
	return ok && !scan->out_of_memory;
}

/* What lives now lived before, and nothing has been seen yet. */
static void begin_bits(struct sf_tree *tree)
{
	sf_bits *alive = tree->before;
	size_t bytes = (tree->n_entries + 63ull) / 64 * sizeof(*alive);

	tree->before = tree->alive;
	tree->alive = alive;
	memset(tree->alive, 0, bytes);
	memset(tree->changed, 0, bytes);
	memset(tree->listed, 0, bytes);
}

/* Whether the path, if there is one, still names what is held open. */
static bool is_root(const struct sf_tree *tree, const char *path)
{
	int flags = AT_SYMLINK_NOFOLLOW | AT_STATX_DONT_SYNC;
	struct statx held, named;

	return path[0] == '\0' ||
		(statx(tree->root_fd, "", flags | AT_EMPTY_PATH, STATX_INO, &held) == 0 &&
			statx(AT_FDCWD, path, flags, STATX_INO, &named) == 0 && held.stx_ino == named.stx_ino &&
			held.stx_dev_major == named.stx_dev_major && held.stx_dev_minor == named.stx_dev_minor);
}

static void run(struct sf_job *job)
{
	struct scan *scan = (struct scan *)job;
	struct sf_tree *tree = scan->tree;
	uint32_t root;

	if (!is_root(tree, scan->path)) {
		job->err = ESTALE;
		job->syscall = "root";
		return;
	}
	begin_bits(tree);
	/* What happens from here on is the next scan's. */
	scan->told = tree->watch && sf_watch_take(tree->watch, &scan->changes);
	if ((tree->n_entries == 0 && !sf_tree_add(tree, SF_ROOT, "", 0, &root)) || !run_threads(scan)) {
		job->err = ENOMEM;
		job->syscall = "scan";
	}
	if (sf_tree_cancelled(tree))
		job->err = ECANCELED;
	sf_store_tell(tree->store, job);
}

/*
 * Counts of each list, the size of all files new or changed (two words), whether changes were told, entries looked at,
 * 0 or one more than an entry that changed unnoticed, then the lists.
 */
static napi_value result(napi_env env, struct sf_job *job)
{
	struct scan *scan = (struct scan *)job;
	uint32_t n_crossings = scan->crossings.count, n_errors = scan->errors.count, n_hot = scan->hottest.count,
			 n_fs = scan->tree->n_fs;
	uint32_t words = 9 + n_crossings + n_errors + n_hot + n_fs * 3, at = 9;
	uint32_t *out;
	napi_value value;

	napi_create_buffer(env, (size_t)words * 4, (void **)&out, &value);
	uint32_t head[] = { n_crossings, n_errors, n_hot, n_fs, (uint32_t)scan->bytes, (uint32_t)(scan->bytes >> 32),
		scan->told, scan->looks, scan->unnoticed };
	memcpy(out, head, sizeof(head));
	if (n_crossings > 0)
		memcpy(out + at, scan->crossings.items, n_crossings * 4);
	at += n_crossings;
	if (n_errors > 0)
		memcpy(out + at, scan->errors.items, n_errors * 4);
	at += n_errors;
	/* The latest at the very end. */
	for (uint32_t i = n_hot; i > 0; i--)
		out[at++] = scan->hottest.items[i - 1].id;
	for (uint32_t i = 0; i < n_fs; i++) {
		out[at++] = scan->tree->fs[i].dev;
		out[at++] = scan->tree->fs[i].type;
		out[at++] = scan->tree->fs[i].sample;
	}
	return value;
}

static void release(struct sf_job *job)
{
	struct scan *scan = (struct scan *)job;

	if (scan->tree)
		sf_tree_job_done(scan->tree);
	sf_inodes_free(&scan->changes);
	free(scan->crossings.items);
	free(scan->errors.items);
	free(scan->hottest.items);
	free(scan->stack);
	free(scan->path);
	free(scan->exclude_text);
	pthread_mutex_destroy(&scan->lock);
	pthread_cond_destroy(&scan->wake);
	free(scan);
}

static char *copy_bytes(napi_env env, napi_value value)
{
	void *bytes;
	size_t len;

	if (napi_get_buffer_info(env, value, &bytes, &len) != napi_ok)
		return NULL;
	char *text = malloc(len + 1);
	if (!text)
		return NULL;
	/* An empty Buffer has no bytes to point to. */
	if (len > 0)
		memcpy(text, bytes, len);
	text[len] = '\0';
	return text;
}

static bool add_changes(napi_env env, napi_value inodes, struct sf_inodes *changes)
{
	uint64_t *items;
	size_t count;
	bool ok = napi_get_typedarray_info(env, inodes, NULL, &count, (void **)&items, NULL, NULL) == napi_ok;

	for (size_t i = 0; ok && i < count; i++)
		ok = sf_inodes_add(changes, items[i]);
	return ok;
}

/* treeScan(tree, path, threads, hotSinceSec, oneFileSystem, excludes, inodes, stillSinceMs) */
static napi_value tree_scan(napi_env env, napi_callback_info info)
{
	size_t argc = 8, exclude_len = 0;
	napi_value argv[8];
	struct scan *scan = calloc(1, sizeof(*scan));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!scan)
		return sf_throw_errno(env, ENOMEM, "scan");
	scan->job = (struct sf_job){ .run = run, .result = result, .release = release };
	pthread_mutex_init(&scan->lock, NULL);
	pthread_cond_init(&scan->wake, NULL);
	scan->tree = sf_tree_of(env, argv[0]);
	scan->path = copy_bytes(env, argv[1]);
	napi_get_value_uint32(env, argv[2], &scan->threads);
	napi_get_value_int64(env, argv[3], &scan->hot_since_sec);
	napi_get_value_bool(env, argv[4], &scan->one_file_system);
	scan->exclude_text = copy_bytes(env, argv[5]);
	napi_get_value_double(env, argv[7], &scan->still_since_ms);
	napi_get_buffer_info(env, argv[5], NULL, &exclude_len);
	if (scan->threads < 1)
		scan->threads = 1;
	if (scan->threads > MAX_THREADS)
		scan->threads = MAX_THREADS;
	if (!scan->tree || !scan->path || !scan->exclude_text ||
		!sf_excludes_parse(&scan->excludes, scan->exclude_text, exclude_len) ||
		!add_changes(env, argv[6], &scan->changes)) {
		bool pending = false;
		release(&scan->job);
		napi_is_exception_pending(env, &pending);
		return pending ? NULL : sf_throw_errno(env, EINVAL, "scan");
	}
	return sf_job_start_apart(env, &scan->tree->jobs, &scan->job, "stillframe:scan", argv, 1);
}

void sf_init_scan(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "treeScan", tree_scan);
}
