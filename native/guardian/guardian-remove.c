/* Removing our own directories, by descriptors only: no link is followed and no mount is entered. */
#include "guardian.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define MAX_DEPTH 256

bool is_our_name(const char *name)
{
	return name[0] == '.' && strstr(name, "stillframe-") != NULL && strchr(name, '/') == NULL;
}

static bool is_dots(const char *name)
{
	return name[0] == '.' && (name[1] == '\0' || (name[1] == '.' && name[2] == '\0'));
}

static int empty_directory(int parent, const char *name, dev_t device, unsigned depth);

static int remove_entry(int directory, const char *name, dev_t device, unsigned depth)
{
	int err;

	if (unlinkat(directory, name, 0) == 0 || errno == ENOENT)
		return 0;
	if (errno != EISDIR && errno != EPERM)
		return errno;
	err = empty_directory(directory, name, device, depth + 1);
	if (err != 0)
		return err;
	return unlinkat(directory, name, AT_REMOVEDIR) == 0 || errno == ENOENT ? 0 : errno;
}

static int empty_directory(int parent, const char *name, dev_t device, unsigned depth)
{
	_Alignas(struct dir_entry) char buffer[2048];
	struct stat info;
	int directory = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	int err = directory < 0 ? errno : depth > MAX_DEPTH ? ELOOP : 0;
	long n = 0;

	if (err == 0 && fstat(directory, &info) != 0)
		err = errno;
	/* A mount point: what is on it is not ours. */
	if (err == 0 && info.st_dev != device)
		err = EXDEV;
	/* Removing while listing is allowed; a file system that then skips entries makes the rmdir fail with ENOTEMPTY. */
	while (err == 0 && (n = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n && err == 0; at += ((struct dir_entry *)(buffer + at))->bytes) {
			const char *entry_name = ((struct dir_entry *)(buffer + at))->name;

			if (!is_dots(entry_name))
				err = remove_entry(directory, entry_name, device, depth);
		}
	}
	if (err == 0 && n < 0)
		err = errno;
	if (directory >= 0)
		close(directory);
	return err;
}

int remove_tree(int parent, const char *name)
{
	struct stat info;
	int err = ENOTEMPTY;

	if (!is_our_name(name))
		return EPERM;
	if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
		return errno;
	if (info.st_uid != geteuid() || S_ISLNK(info.st_mode))
		return EPERM;
	/* Once more when somebody who dies slowly has just put something in. */
	for (int tries = 0; tries < 5 && (err == ENOTEMPTY || err == EEXIST); tries++)
		err = remove_entry(parent, name, info.st_dev, 0);
	return err;
}
