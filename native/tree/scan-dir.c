/*
 * The work of a scan: getdents64 and statx, compared with the last scan. A directory is read a buffer at a time, and
 * what that buffer named is looked at before the next one: what waits is bounded by the tree's depth, not by how many
 * entries there are. A name that vanishes between the two calls is simply not there: the next scan tells.
 */
#include "scan.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/vfs.h>
#include <unistd.h>

#ifndef STATX_ATTR_MOUNT_ROOT
#define STATX_ATTR_MOUNT_ROOT 0x2000
#endif

#define DENTS_BYTES 65536
/* A directory's names are handed to other threads from this many on. */
#define SHARE_AT 256
/* So many directories are kept open for what is still to be looked at in them; of the others the way is found again. */
#define MAX_OPEN_DIRS 64
/* A buffer of names with less room left than this has no more to come, most likely. */
#define DENT_ROOM (SF_NAME_ROOM + 32)

/* What comes after the last name read so far; 0 at the end. */
static void link_child(struct sf_tree *tree, struct sf_scan_dir *dir, uint32_t id)
{
	uint32_t *next =
		dir->last != 0 ? &sf_node_of(&tree->records, dir->last)->next : &sf_node_of(&tree->records, dir->id)->child;

	*next = id;
	dir->last = id;
}

/* A name in the directory `parent`, or with an empty one `parent` itself. */
static uint8_t file_system(struct sf_scan_worker *worker, int parent, const char *name, uint32_t id, uint32_t dev)
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
static bool is_as_known(
	const struct sf_scan *scan, const struct sf_scan_dir *dir, uint32_t id, const struct sf_entry *entry)
{
	return scan->told && dir && dir->known && sf_bit(scan->tree->before, id) &&
		!sf_inodes_has(&scan->changes, entry->ino);
}

/* To be read when there is time, or taken from what is known. */
static void give_dir(struct sf_scan *scan, struct sf_scan_dir *dir, uint32_t id, const char *name, bool known)
{
	struct sf_scan_item item = {
		.work = SF_READ,
		.dir = sf_scan_ref(dir),
		.id = id,
		.known = known,
		.excluding = scan->excludes.root,
	};

	if (dir)
		sf_excluded(&scan->excludes, &dir->excluding, name, &item.excluding);
	sf_scan_give(scan, item);
}

/* A descriptor of the directory that the entry is in, which may be the caller's `fd`; -errno. */
static int parent_fd(struct sf_scan_worker *worker, struct sf_scan_dir *dir, int fd, uint32_t id)
{
	if (!dir)
		return worker->scan->tree->root_fd;
	if (fd >= 0)
		return fd;
	return dir->fd >= 0 ? dir->fd : sf_walk_parent(&worker->walk, id);
}

/* Looks at one name; `dir` is NULL for the root, `fd` is -1 or the directory's. */
void sf_scan_look(struct sf_scan_worker *worker, struct sf_scan_dir *dir, int fd, uint32_t id)
{
	struct sf_scan *scan = worker->scan;
	struct sf_tree *tree = scan->tree;
	struct sf_entry entry = *sf_entry_of(&tree->records, id);
	const char *name = dir ? sf_name_of(&tree->records, id) : "";
	struct statx st;

	if (is_as_known(scan, dir, id, &entry)) {
		sf_set_bit(tree->alive, id);
		if (!S_ISDIR(entry.mode))
			return;
		give_dir(scan, dir, id, name, true);
		return;
	}
	worker->looks++;
	/* An automounter's directory must not be mounted because we look at it. */
	int flags = AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT | AT_STATX_DONT_SYNC | (dir ? 0 : AT_EMPTY_PATH);
	int parent = parent_fd(worker, dir, fd, id);
	if (parent < 0 || statx(parent, name, flags, STATX_BASIC_STATS, &st) != 0) {
		sf_scan_note_error(worker, id, parent < 0 ? -parent : errno);
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

	if (is_new || different) {
		entry.fs = fs;
		*sf_entry_of(&tree->records, id) = entry;
		if (S_ISREG(entry.mode))
			worker->bytes += entry.size;
	}
	/* Dead, or no directory, when last seen: nothing of an older list is known any more. */
	if (is_dir && !was_dir)
		sf_node_of(&tree->records, id)->child = 0;
	sf_set_bit(tree->alive, id);
	if (is_new && S_ISREG(entry.mode))
		sf_scan_note_hot(worker, id, &entry);
	else if (!is_new && different)
		sf_set_bit(tree->changed, id);
	/* Of another inode of that name nobody can say when it came there. */
	if (is_same && different && sf_entry_ctime_ms(&entry) < scan->still_since_ms)
		atomic_store(&scan->unnoticed, id + 1);
	if (crossing && dir)
		sf_scan_note(worker, &worker->crossings, id);
	if (!is_dir || (scan->one_file_system && dir && dev != dir->dev))
		return;
	/* A new directory may have the number of one that was removed: then at least its ctime is another. */
	bool known = scan->told && !is_new && !different && !sf_inodes_has(&scan->changes, entry.ino);
	give_dir(scan, dir, id, name, known);
}

struct dent {
	uint64_t ino;
	int64_t off;
	uint16_t reclen;
	uint8_t type;
	char name[];
};

/* By whoever is free, when there are many; else here. False when memory runs out. */
static bool look_at(struct sf_scan_worker *worker, struct sf_scan_dir *dir, int fd, const struct sf_scan_list *ids)
{
	bool ok = true;

	if (ids->count < SHARE_AT || worker->scan->threads == 1) {
		for (uint32_t i = 0; i < ids->count; i++)
			sf_scan_look(worker, dir, fd, ids->items[i]);
		return true;
	}
	/* In pieces, so that the last one is short. */
	for (uint32_t i = 0; i < ids->count && ok; i += SHARE_AT) {
		uint32_t n = ids->count - i < SHARE_AT ? ids->count - i : SHARE_AT;
		uint32_t *piece = malloc(n * sizeof(*piece));
		if (piece) {
			memcpy(piece, ids->items + i, n * sizeof(*piece));
			sf_scan_give(worker->scan,
				(struct sf_scan_item){ .work = SF_LOOK, .dir = sf_scan_ref(dir), .ids = piece, .count = n });
		}
		ok = piece != NULL;
	}
	return ok;
}

/* One buffer of names; with `more` the next one is read when all that this one named has been looked at. */
static bool take_names(
	struct sf_scan_worker *worker, struct sf_scan_dir *dir, int fd, const char *buffer, long bytes, bool more)
{
	struct sf_scan *scan = worker->scan;
	struct sf_scan_list ids = { 0 };
	bool ok = true;

	for (long at = 0; at < bytes && ok;) {
		const struct dent *dent = (const struct dent *)(buffer + at);
		struct sf_excluding below;

		at += dent->reclen;
		if (strcmp(dent->name, ".") == 0 || strcmp(dent->name, "..") == 0)
			continue;
		if (!sf_excluding_nothing(&dir->excluding) && sf_excluded(&scan->excludes, &dir->excluding, dent->name, &below))
			continue;
		uint32_t id = sf_match_find(scan->tree, &dir->match, dent->name);
		if (id == 0)
			ok = sf_records_add(&scan->tree->records, dir->id, dent->name, strlen(dent->name), &id);
		/*
		 * A directory that is written to while it is read may tell a name twice: a list with a ring in it has no end.
		 */
		if (!ok || sf_set_bit(scan->tree->listed, id))
			continue;
		link_child(scan->tree, dir, id);
		ok = sf_scan_push(&ids, id);
	}
	/* Below what is given next, and so taken after it; nor may anybody read on while names are being found. */
	if (ok && more)
		sf_scan_give(scan, (struct sf_scan_item){ .work = SF_READ_ON, .dir = sf_scan_ref(dir) });
	ok = ok && look_at(worker, dir, fd, &ids);
	free(ids.items);
	return ok;
}

/*
 * The next buffer; the one after it when all that this one named has been looked at. To the end at once where that one
 * is likely to be empty, so that a directory is not kept open by what lies deep below it; and where it is not kept open
 * at all.
 */
void sf_scan_read_on(struct sf_scan_worker *worker, struct sf_scan_dir *dir, int fd)
{
	struct sf_scan *scan = worker->scan;
	char *buffer = malloc(DENTS_BYTES);

	if (!buffer) {
		sf_scan_fail(scan);
		return;
	}
	for (bool first = true, more = false; !more && !sf_tree_cancelled(scan->tree); first = false) {
		long bytes = syscall(SYS_getdents64, fd, buffer, DENTS_BYTES);
		if (bytes <= 0) {
			if (bytes < 0)
				sf_scan_note_error(worker, dir->id, errno);
			link_child(scan->tree, dir, 0);
			break;
		}
		more = dir->fd >= 0 && (!first || bytes > DENTS_BYTES - DENT_ROOM);
		if (!take_names(worker, dir, fd, buffer, bytes, more)) {
			sf_scan_fail(scan);
			break;
		}
	}
	free(buffer);
}

/* The names of a directory as the last scan read them. */
static void take_known(struct sf_scan_worker *worker, struct sf_scan_dir *dir)
{
	struct sf_tree *tree = worker->scan->tree;
	struct sf_scan_list ids = { 0 };
	bool ok = true;

	/* After a scan that failed in the middle it may be a ring. */
	for (uint32_t id = dir->match.first; id != 0 && ok && !sf_set_bit(tree->listed, id);
		 id = sf_node_of(&tree->records, id)->next)
		ok = sf_scan_push(&ids, id);
	if (!ok || !look_at(worker, dir, -1, &ids))
		sf_scan_fail(worker->scan);
	free(ids.items);
}

void sf_scan_read_dir(struct sf_scan_worker *worker, const struct sf_scan_item *item)
{
	struct sf_scan *scan = worker->scan;
	struct sf_tree *tree = scan->tree;
	int fd = -1;

	if (!item->known) {
		const char *name = item->dir ? sf_name_of(&tree->records, item->id) : ".";
		int flags = O_RDONLY | O_DIRECTORY | O_CLOEXEC | (item->dir ? O_NOFOLLOW : 0);
		int parent = parent_fd(worker, item->dir, -1, item->id);
		fd = parent < 0 ? -1 : openat(parent, name, flags);
		if (fd < 0) {
			sf_scan_note_error(worker, item->id, parent < 0 ? -parent : errno);
			return;
		}
	}
	struct sf_scan_dir *dir = calloc(1, sizeof(*dir));
	if (!dir) {
		if (fd >= 0)
			close(fd);
		sf_scan_fail(scan);
		return;
	}
	bool kept = fd >= 0 && atomic_fetch_add(&scan->open_dirs, 1) < MAX_OPEN_DIRS;
	if (fd >= 0 && !kept)
		atomic_fetch_sub(&scan->open_dirs, 1);
	const struct sf_entry *entry = sf_entry_of(&tree->records, item->id);
	uint32_t first = sf_node_of(&tree->records, item->id)->child;
	*dir = (struct sf_scan_dir){
		.scan = scan,
		.fd = kept ? fd : -1,
		.id = item->id,
		.fs = entry->fs,
		.dev = entry->dev,
		.excluding = item->excluding,
		.known = item->known,
		.match = { .first = first, .expected = first },
	};
	atomic_init(&dir->refs, 1);
	if (item->known)
		take_known(worker, dir);
	else
		sf_scan_read_on(worker, dir, fd);
	if (fd >= 0 && !kept)
		close(fd);
	sf_scan_unref(dir);
}
