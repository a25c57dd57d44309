/* Lists a tree with all that an archive must keep, one line an entry; names and values in hex. Written apart from
 * the code it checks. Usage: list-tree DIR */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

static struct {
	ino_t ino;
	dev_t dev;
	char *path;
} links[100000];
static int n_links;

static void hex(const void *data, size_t len)
{
	for (size_t i = 0; i < len; i++)
		printf("%02x", ((const unsigned char *)data)[i]);
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void xattrs(const char *path)
{
	static char list[65536], value[65536];
	ssize_t len = llistxattr(path, list, sizeof(list));
	char *names[1024];
	int count = 0;

	for (char *name = list; len > 0 && name < list + len; name += strlen(name) + 1)
		names[count++] = name;
	qsort(names, count, sizeof(*names), by_name);
	for (int i = 0; i < count; i++) {
		ssize_t size = lgetxattr(path, names[i], value, sizeof(value));
		printf(" ");
		hex(names[i], strlen(names[i]));
		printf("=");
		hex(value, size < 0 ? 0 : (size_t)size);
	}
}

static void content(const char *path)
{
	static unsigned char buffer[1 << 20];
	uint64_t hash = 14695981039346656037u;
	int fd = open(path, O_RDONLY | O_NOFOLLOW);
	ssize_t got;

	while (fd >= 0 && (got = read(fd, buffer, sizeof(buffer))) > 0)
		for (ssize_t i = 0; i < got; i++)
			hash = (hash ^ buffer[i]) * 1099511628211u;
	if (fd >= 0)
		close(fd);
	printf(" content=%016" PRIx64, hash);
}

static void list(const char *path, size_t skip)
{
	struct stat st;

	if (lstat(path, &st) != 0)
		exit(1);
	if (S_ISSOCK(st.st_mode))
		return;
	hex(path + skip, strlen(path + skip));
	printf(" mode=%o uid=%u gid=%u mtime=%lld.%09ld", st.st_mode, st.st_uid, st.st_gid, (long long)st.st_mtim.tv_sec,
		st.st_mtim.tv_nsec);
	if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode))
		printf(" rdev=%u:%u", major(st.st_rdev), minor(st.st_rdev));
	if (S_ISLNK(st.st_mode)) {
		char target[4096];
		ssize_t len = readlink(path, target, sizeof(target));
		printf(" to=");
		hex(target, len < 0 ? 0 : (size_t)len);
	}
	if (!S_ISDIR(st.st_mode) && st.st_nlink > 1) {
		int i = 0;
		while (i < n_links && (links[i].ino != st.st_ino || links[i].dev != st.st_dev))
			i++;
		if (i == n_links) {
			links[n_links].ino = st.st_ino;
			links[n_links].dev = st.st_dev;
			links[n_links++].path = strdup(path + skip);
		}
		printf(" inode-of=");
		hex(links[i].path, strlen(links[i].path));
	}
	if (S_ISREG(st.st_mode)) {
		printf(" size=%lld", (long long)st.st_size);
		content(path);
	}
	xattrs(path);
	printf("\n");
	if (!S_ISDIR(st.st_mode))
		return;
	DIR *dir = opendir(path);
	struct dirent *entry;
	char **names = NULL;
	size_t count = 0;
	if (!dir)
		exit(1);
	while ((entry = readdir(dir))) {
		if (!strcmp(entry->d_name, ".") || !strcmp(entry->d_name, ".."))
			continue;
		names = realloc(names, (count + 1) * sizeof(*names));
		names[count++] = strdup(entry->d_name);
	}
	closedir(dir);
	qsort(names, count, sizeof(*names), by_name);
	for (size_t i = 0; i < count; i++) {
		char *child;
		if (asprintf(&child, "%s/%s", path, names[i]) < 0)
			exit(1);
		list(child, skip);
		free(child);
		free(names[i]);
	}
	free(names);
}

int main(int argc, char **argv)
{
	if (argc != 2)
		return 2;
	list(argv[1], strlen(argv[1]));
	return 0;
}
