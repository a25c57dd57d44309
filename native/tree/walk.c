#include "walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

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

/* The directory that both are in or are, on the way down to either; ids grow downwards. */
static uint32_t common_dir(const struct sf_records *records, uint32_t a, uint32_t b)
{
	while (a != b) {
		uint32_t *deeper = a > b ? &a : &b;
		*deeper = sf_node_of(records, *deeper)->parent;
	}
	return a;
}

static bool is_dir_of(struct sf_tree *tree, uint32_t id, int fd)
{
	const struct sf_entry *entry = sf_entry_of(&tree->records, id);
	struct statx st;

	return statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_INO, &st) == 0 && st.stx_ino == entry->ino &&
		(st.stx_dev_major << 20 | st.stx_dev_minor) == entry->dev;
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
			at = sf_node_of(&walk->tree->records, at)->parent;
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

	for (uint32_t i = to; i != from; i = sf_node_of(&tree->records, i)->parent)
		count++;
	uint32_t *way = malloc((count + 1) * sizeof(*way));
	if (!way)
		return -ENOMEM;
	for (uint32_t i = to, at = count; at > 0; i = sf_node_of(&tree->records, i)->parent)
		way[--at] = i;
	int fd = walk->depth == 0 ? tree->root_fd : walk->fds[walk->depth - 1];
	for (uint32_t at = 0; at < count; at++) {
		const char *name = sf_name_of(&tree->records, way[at]);
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
	uint32_t want = sf_node_of(&tree->records, id)->parent, from = SF_ROOT;

	if (walk->depth > 0) {
		if (walk->ids[walk->depth - 1] == want)
			return walk->fds[walk->depth - 1];
		from = common_dir(&tree->records, walk->ids[walk->depth - 1], want);
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
	char root[32];
	const char *name = root;
	int dir = AT_FDCWD;

	if (id == SF_ROOT) {
		snprintf(root, sizeof(root), "/proc/self/fd/%d", walk->tree->root_fd);
	} else {
		dir = sf_walk_parent(walk, id);
		if (dir < 0)
			return dir;
		name = sf_name_of(&walk->tree->records, id);
		flags |= O_NOFOLLOW;
	}
	walk->shared = false;
	if (!walk->leases.known)
		sf_leases_read(&walk->leases);
	if (walk->leases.count > 0 && sf_leases_have(&walk->leases, sf_entry_of(&walk->tree->records, id)->ino))
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
