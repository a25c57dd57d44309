/* What the guardian removes: see remove.h for how. */
#include "guardian.h"
#include "../remove/remove.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

bool is_our_name(const char *name)
{
	return name[0] == '.' && strstr(name, "stillframe-") != NULL && strchr(name, '/') == NULL;
}

int remove_tree(int parent, const char *name)
{
	struct stat info;

	if (!is_our_name(name))
		return EPERM;
	if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) != 0)
		return errno;
	if (info.st_uid != geteuid() || S_ISLNK(info.st_mode))
		return EPERM;
	return remove_at(parent, name, NULL);
}
