/*
 * What a restore puts new files in the place of. The new ones are made as `tree` in a hidden directory of ours beside
 * the old ones, and the two are exchanged by one rename: so the old ones are `tree` from then on. Which is which is
 * told by inode, never by what we believe to have done.
 */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define TREE "tree"
/* include/uapi/linux/fs.h, v6.12. */
#define NO_REPLACE 1
#define EXCHANGE 2

static int rename_at(int from, const char *name, int to, const char *new_name, unsigned flags)
{
	return syscall(SYS_renameat2, from, name, to, new_name, flags) == 0 ? 0 : errno;
}

static bool is_file(const struct stat *info, const struct file_id *id)
{
	return info->st_dev == id->device && info->st_ino == id->inode;
}

/* The hidden directory, if it is ours. */
static int open_hidden(const struct replacement *r)
{
	int directory = openat(r->parent, r->hidden, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	struct stat info;

	if (directory < 0)
		return -1;
	if (fstat(directory, &info) == 0 && info.st_uid == geteuid())
		return directory;
	close(directory);
	errno = EPERM;
	return -1;
}

/* Takes the names that are before a slash each, and leaves the path that follows. */
static int take_name(char **rest, char *name)
{
	char *slash = strchr(*rest, '/');

	if (slash == NULL || slash - *rest > NAME_MAX)
		return EINVAL;
	memcpy(name, *rest, (size_t)(slash - *rest));
	name[slash - *rest] = '\0';
	*rest = slash + 1;
	return 0;
}

/* From now on its hidden directory is no removal any more: what is in it may be the old files. */
static void forget_hidden(struct guard *g, const char *hidden)
{
	for (unsigned i = 0; i < MAX_REMOVALS; i++) {
		if (strcmp(g->removals[i].name, hidden) != 0)
			continue;
		close(g->removals[i].parent);
		g->removals[i].name[0] = '\0';
	}
}

/*
 * DEVICE INODE DEVICE INODE HIDDEN/KEPT/PATH: the new files, the old ones; KEPT is empty for old ones that are to go.
 */
int add_replacement(struct guard *g, char *rest)
{
	static char directory[PATH_MAX];
	struct replacement *r = &g->replacements[g->replacement_count];
	const char *name;
	int err, hidden;

	if (g->replacement_count == MAX_DESTINATIONS)
		return ENOSPC;
	r->fresh.device = strtoull(rest, &rest, 10);
	r->fresh.inode = strtoull(rest, &rest, 10);
	r->old.device = strtoull(rest, &rest, 10);
	r->old.inode = strtoull(rest, &rest, 10);
	if (*rest++ != ' ')
		return EINVAL;
	err = take_name(&rest, r->hidden);
	if (err == 0)
		err = take_name(&rest, r->kept);
	if (err == 0)
		err = split_path(rest, directory, &name);
	if (err == 0 && !is_our_name(r->hidden))
		err = EPERM;
	if (err != 0)
		return err;
	strcpy(r->name, name);
	r->parent = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	hidden = r->parent < 0 ? -1 : open_hidden(r);
	if (hidden < 0) {
		err = errno;
		if (r->parent >= 0)
			close(r->parent);
		/* A `recover` asks for no answer. What is not there has been settled. */
		if (err != ENOENT)
			tell_failure(g, err, "cannot open %s beside %s", r->hidden, rest);
		return err;
	}
	close(hidden);
	forget_hidden(g, r->hidden);
	g->replacement_count++;
	return 0;
}

/*
 * The old files get their place back. A restored program may have put another file in the place of the one that it got,
 * but another directory is somebody else's.
 */
static int put_back(const struct replacement *r, int hidden)
{
	struct stat now;

	if (fstatat(r->parent, r->name, &now, AT_SYMLINK_NOFOLLOW) != 0)
		return errno == ENOENT ? rename_at(hidden, TREE, r->parent, r->name, NO_REPLACE) : errno;
	if (S_ISDIR(now.st_mode) && !is_file(&now, &r->fresh))
		return EEXIST;
	return rename_at(hidden, TREE, r->parent, r->name, EXCHANGE);
}

static void settle(struct guard *g, const struct replacement *r, int hidden)
{
	struct stat info;
	bool holds_old = fstatat(hidden, TREE, &info, AT_SYMLINK_NOFOLLOW) == 0 && is_file(&info, &r->old);
	int err = 0;

	if (holds_old && !g->is_restored) {
		err = put_back(r, hidden);
		if (err != 0)
			tell_failure(g, err, "cannot put back %s, which is in %s", r->name, r->hidden);
		else
			tell(g, "put back %s", r->name);
	} else if (holds_old && r->kept[0] != '\0') {
		err = rename_at(hidden, TREE, r->parent, r->kept, NO_REPLACE);
		if (err != 0)
			tell_failure(g, err, "cannot rename what was %s, which is in %s", r->name, r->hidden);
		else
			tell(g, "kept what was %s as %s", r->name, r->kept);
	}
	if (err != 0)
		return;
	err = remove_tree(r->parent, r->hidden);
	if (err == 0)
		tell(g, "removed %s", r->hidden);
	else
		tell_failure(g, err, "cannot remove %s", r->hidden);
}

void settle_replacements(struct guard *g)
{
	for (unsigned i = 0; i < g->replacement_count; i++) {
		int hidden = open_hidden(&g->replacements[i]);

		if (hidden < 0) {
			if (errno != ENOENT) /* else it was settled */
				tell_failure(g, errno, "cannot open %s", g->replacements[i].hidden);
			continue;
		}
		settle(g, &g->replacements[i], hidden);
		close(hidden);
	}
}
