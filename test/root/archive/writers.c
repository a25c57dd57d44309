/* Processes that change files in ways a copy can miss, as fast as they can, until they are stopped.
 * Usage: writers MODE DIR; prints a line once it is at work. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#define PAGES 64
#define SIZE (PAGES * 4096)

static int open_file(const char *name, int flags)
{
	int fd = open(name, flags | O_CREAT, 0600);
	if (fd < 0) {
		perror(name);
		exit(1);
	}
	return fd;
}

static void ready(void)
{
	printf("ready\n");
	fflush(stdout);
}

/* One mapping, written for ever: its pages stay writable, so the kernel hears of the first write only. */
static void by_mmap(void)
{
	int fd = open_file("mapped", O_RDWR);
	if (ftruncate(fd, SIZE) != 0)
		exit(1);
	volatile uint64_t *at = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	for (uint64_t n = 1;; n++) {
		for (int page = 0; page < PAGES; page++)
			at[page * 512] = n;
		if (n == 1)
			ready();
	}
}

static void by_pwrite(void)
{
	int fd = open_file("counter", O_RDWR), big = open_file("big", O_RDWR);
	static char block[4096];
	for (uint64_t n = 1;; n++) {
		memset(block, (int)n, sizeof(block));
		if (pwrite(fd, &n, sizeof(n), 0) != sizeof(n) || pwrite(big, block, sizeof(block), (off_t)(n % 256) * 4096) < 0)
			exit(1);
		if (n == 1)
			ready();
	}
}

static void by_rename(void)
{
	for (uint64_t n = 1;; n++) {
		int fd = open_file("next", O_RDWR | O_TRUNC);
		if (write(fd, &n, sizeof(n)) != sizeof(n) || close(fd) != 0 || rename("next", "current") != 0)
			exit(1);
		if (n == 1)
			ready();
	}
}

static void by_truncate(void)
{
	int fd = open_file("shrinks", O_RDWR);
	static char block[65536];
	for (uint64_t n = 1;; n++) {
		memset(block, (int)n, sizeof(block));
		if (pwrite(fd, block, n * 7919 % sizeof(block), 0) < 0 || ftruncate(fd, (off_t)(n * 104729 % 200000)) != 0)
			exit(1);
		if (n == 1)
			ready();
	}
}

static void by_metadata(void)
{
	close(open_file("attributes", O_RDWR));
	mkdir("directory", 0700);
	for (unsigned n = 1;; n++) {
		struct timespec times[2] = { { 0, UTIME_OMIT }, { n, n % 1000000000 } };
		chmod("attributes", 0600 | (n & 077));
		lchown("attributes", n % 1000, n % 997);
		utimensat(AT_FDCWD, "attributes", times, 0);
		setxattr("attributes", "user.n", &n, sizeof(n), 0);
		chmod("directory", 0700 | (n & 077));
		setxattr("directory", "user.n", &n, sizeof(n), 0);
		unlink("link");
		if (symlink(n & 1 ? "one" : "the-other", "link") != 0)
			exit(1);
		if (n == 1)
			ready();
	}
}

/* Names of one inode come and go; the one that was there first is not spared. */
static void by_links(void)
{
	char name[16], other[16];
	close(open_file("name0", O_RDWR));
	for (unsigned n = 0;; n++) {
		snprintf(name, sizeof(name), "name%u", n % 5);
		snprintf(other, sizeof(other), "name%u", (n * 3 + 1) % 5);
		link(name, other);
		if (n % 3 == 2) {
			unlink(name);
			int fd = open_file(other, O_RDWR);
			if (pwrite(fd, &n, sizeof(n), 0) < 0)
				exit(1);
			close(fd);
		}
		if (n == 10)
			ready();
	}
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} modes[] = {
		{ "mmap", by_mmap },
		{ "pwrite", by_pwrite },
		{ "rename", by_rename },
		{ "truncate", by_truncate },
		{ "metadata", by_metadata },
		{ "links", by_links },
	};
	if (argc != 3 || chdir(argv[2]) != 0)
		return 2;
	for (size_t i = 0; i < sizeof(modes) / sizeof(*modes); i++)
		if (strcmp(argv[1], modes[i].name) == 0)
			modes[i].run();
	return 2;
}
