/*
 * A directory deeper than the one that is being emptied is not descended into but moved up, into a directory of our own
 * (`next`), whose turn comes when this one is empty: so a tree of any depth needs no stack, no path and no way back by
 * "..", which could lead elsewhere by then. Where a directory cannot be moved (one of an overlay's lower layers: EXDEV;
 * a full disk: ENOSPC), it is descended into after all, to a limited depth.
 */
#include "remove.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_DEPTH 256
/* A directory that others put things into as fast as they are removed. */
#define MAX_TRIES 5

/* man 2 getdents64: struct linux_dirent64. */
struct entry {
	uint64_t inode;
	int64_t offset;
	unsigned short bytes;
	unsigned char type;
	char name[];
};

/* A directory of ours in the one that is being emptied. */
struct place {
	int fd; /* -1: there is none */
	char name[48];
};

struct work {
	int top;
	dev_t device;
	const int *cancelled;
	struct place next; /* where directories are moved to */
	struct place spare; /* one that has been emptied, and will be the next: making and removing one takes long */
	unsigned long names; /* given so far */
};

typedef int each_fn(struct work *work, int directory, const char *name, unsigned depth);

static bool is_cancelled(const struct work *work)
{
	return work->cancelled != NULL && __atomic_load_n(work->cancelled, __ATOMIC_RELAXED) != 0;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

/* Never through a link, nor onto a mount, bind mounts of the same file system included. */
static int open_directory(const struct work *work, int parent, const char *name)
{
	struct open_how how = { .flags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC,
		.resolve = RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | RESOLVE_BENEATH };
	int directory = (int)syscall(SYS_openat2, parent, name, &how, sizeof(how));
	struct stat info;

	if (directory < 0 && errno == ENOSYS) /* before Linux 5.6 */
		directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (directory < 0)
		return -1;
	if (fstat(directory, &info) == 0 && info.st_dev == work->device)
		return directory;
	close(directory);
	errno = EXDEV;
	return -1;
}

/* Again and again until a pass finds nothing: a file system may skip entries when others are removed. */
static int for_each(struct work *work, int directory, each_fn *act, unsigned depth)
{
	_Alignas(struct entry) char buffer[4096];

	for (int tries = 0; tries < MAX_TRIES; tries++) {
		bool found = false;
		long n;

		if (lseek(directory, 0, SEEK_SET) < 0)
			return errno;
		while ((n = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
			for (long at = 0; at < n; at += ((struct entry *)(buffer + at))->bytes) {
				const char *name = ((struct entry *)(buffer + at))->name;
				int err;

				if (is_dots(name) ||
					(directory == work->top && work->next.fd >= 0 && strcmp(name, work->next.name) == 0))
					continue;
				if (is_cancelled(work))
					return ECANCELED;
				found = true;
				err = act(work, directory, name, depth);
				if (err != 0)
					return err;
			}
		}
		if (n < 0)
			return errno == ENOENT ? 0 : errno; /* the directory itself was removed */
		if (!found)
			return 0;
	}
	return 0; /* the rmdir will tell */
}

static int make_next(struct work *work)
{
	if (work->next.fd >= 0)
		return 0;
	if (work->spare.fd >= 0) {
		work->next = work->spare;
		work->spare.fd = -1;
		return 0;
	}
	do
		snprintf(work->next.name, sizeof(work->next.name), ".stillframe-removing-%lx", work->names++);
	while (mkdirat(work->top, work->next.name, 0700) != 0 && errno == EEXIST);
	work->next.fd = open_directory(work, work->top, work->next.name);
	return work->next.fd < 0 ? errno : 0;
}

/* 0 or an errno. */
static int move_up(struct work *work, int directory, const char *name)
{
	char fresh[24];
	int err = make_next(work);

	if (err != 0)
		return err;
	snprintf(fresh, sizeof(fresh), "%lx", work->names++);
	return renameat(directory, name, work->next.fd, fresh) == 0 ? 0 : errno;
}

static int remove_directory(struct work *work, int parent, const char *name, unsigned depth);

static int remove_entry(struct work *work, int directory, const char *name, unsigned depth)
{
	int err;

	if (unlinkat(directory, name, 0) == 0 || errno == ENOENT)
		return 0;
	/* POSIX's word for a directory is EPERM; so is the kernel's for a file that must not be removed. */
	if (errno != EISDIR && errno != EPERM)
		return errno;
	err = errno;
	if (depth > 0) {
		struct stat info;

		if (fstatat(directory, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && !S_ISDIR(info.st_mode))
			return err;
		err = move_up(work, directory, name);
		if (err == 0 || err == ENOENT)
			return 0;
		if (err == EBUSY) /* a mount point */
			return err;
	}
	return remove_directory(work, directory, name, depth + 1);
}

static int remove_directory(struct work *work, int parent, const char *name, unsigned depth)
{
	int err = 0;

	if (depth > MAX_DEPTH)
		return ELOOP;
	for (int tries = 0; tries < MAX_TRIES; tries++) {
		int directory = open_directory(work, parent, name);

		if (directory < 0)
			/* A file that may not be removed; or it has been replaced by something that is no directory. */
			return errno == ENOENT ? 0 : errno == ENOTDIR || errno == ELOOP ? EPERM : errno;
		err = for_each(work, directory, remove_entry, depth);
		close(directory);
		if (err != 0)
			return err;
		if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT)
			return 0;
		err = errno;
		if (err != ENOTEMPTY && err != EEXIST)
			return err;
	}
	return err;
}

/* 0 or an errno, which may be that of the work before. */
static int remove_place(const struct work *work, const struct place *place, int err)
{
	if (place->fd < 0)
		return err;
	close(place->fd);
	if (err == 0 && unlinkat(work->top, place->name, AT_REMOVEDIR) != 0 && errno != ENOENT)
		err = errno;
	return err;
}

int remove_below(int directory, const int *cancelled)
{
	struct work work = { .top = directory, .cancelled = cancelled, .next.fd = -1, .spare.fd = -1 };
	struct stat info;
	int err;

	if (fstat(directory, &info) != 0)
		return errno;
	work.device = info.st_dev;
	err = for_each(&work, directory, remove_entry, 0);
	while (err == 0 && work.next.fd >= 0) {
		struct place current = work.next;

		work.next.fd = -1;
		err = for_each(&work, current.fd, remove_entry, 0);
		/* Whatever was moved has taken the spare one. */
		if (work.next.fd >= 0)
			work.spare = current;
		else
			err = remove_place(&work, &current, err);
	}
	err = remove_place(&work, &work.next, err);
	return remove_place(&work, &work.spare, err);
}

int remove_at(int parent, const char *name, const int *cancelled)
{
	struct work work = { .top = parent, .cancelled = cancelled, .next.fd = -1, .spare.fd = -1 };
	struct stat info;
	int err = ENOTEMPTY;

	if (unlinkat(parent, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return errno;
	if (fstat(parent, &info) != 0)
		return errno;
	work.device = info.st_dev;
	for (int tries = 0; tries < MAX_TRIES && (err == ENOTEMPTY || err == EEXIST); tries++) {
		int directory = open_directory(&work, parent, name);

		if (directory < 0)
			return errno == ENOENT ? 0 : errno == ENOTDIR || errno == ELOOP ? EPERM : errno;
		err = remove_below(directory, cancelled);
		close(directory);
		if (err == 0 && unlinkat(parent, name, AT_REMOVEDIR) != 0 && errno != ENOENT)
			err = errno;
	}
	return err;
}
