#include "lease.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static void add(struct sf_leases *leases, uint64_t ino, pid_t pid)
{
	struct sf_lease *list = realloc(leases->list, (leases->count + 1) * sizeof(*list));

	if (!list)
		return;
	leases->list = list;
	list[leases->count++] = (struct sf_lease){ .ino = ino, .pid = pid };
}

void sf_leases_read(struct sf_leases *leases)
{
	char line[256], state[16], type[16];
	unsigned long ino;
	int pid;

	sf_leases_free(leases);
	leases->known = true;
	FILE *locks = fopen("/proc/locks", "re");
	if (!locks)
		return;
	while (fgets(line, sizeof(line), locks)) {
		if (sscanf(line, "%*d: LEASE %15s %15s %d %*x:%*x:%lu", state, type, &pid, &ino) != 4)
			continue;
		if (strcmp(type, "WRITE") == 0 || strcmp(state, "BREAKING") == 0)
			add(leases, ino, pid);
	}
	fclose(locks);
}

void sf_leases_free(struct sf_leases *leases)
{
	free(leases->list);
	*leases = (struct sf_leases){ .known = false };
}

bool sf_leases_have(const struct sf_leases *leases, uint64_t ino)
{
	for (size_t i = 0; i < leases->count; i++)
		if (leases->list[i].ino == ino)
			return true;
	return false;
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* The process's descriptor `number`, if it is of this file and can be read through; else -1. */
static int take(int process, int number, const struct stat *file)
{
	struct stat st;
	int fd = (int)syscall(SYS_pidfd_getfd, process, number, 0);

	if (fd < 0)
		return -1;
	int flags = fcntl(fd, F_GETFL);
	if (flags >= 0 && !(flags & O_PATH) && (flags & O_ACCMODE) != O_WRONLY && fstat(fd, &st) == 0 && is_same(&st, file))
		return fd;
	close(fd);
	return -1;
}

/* By stat first: a descriptor of something else is better not held, not for a moment. */
static int take_from(pid_t pid, const struct stat *file)
{
	char path[40];
	struct stat st;
	int fd = -1;
	int process = (int)syscall(SYS_pidfd_open, pid, 0);

	if (process < 0)
		return -1;
	snprintf(path, sizeof(path), "/proc/%d/fd", pid);
	DIR *dir = opendir(path);
	struct dirent *entry;
	while (dir && fd < 0 && (entry = readdir(dir)))
		if (entry->d_name[0] != '.' && fstatat(dirfd(dir), entry->d_name, &st, 0) == 0 && is_same(&st, file))
			fd = take(process, atoi(entry->d_name), file);
	if (dir)
		closedir(dir);
	close(process);
	return fd;
}

int sf_leases_open(const struct sf_leases *leases, const struct stat *file)
{
	bool any = false;

	for (size_t i = 0; i < leases->count; i++) {
		if (leases->list[i].ino != file->st_ino)
			continue;
		int fd = take_from(leases->list[i].pid, file);
		if (fd >= 0)
			return fd;
		any = true;
	}
	return any ? -EAGAIN : -1;
}
