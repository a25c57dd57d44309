/*
 * A process that measures the longest hole in its own execution, with a given amount of memory and of files.
 *
 *   gauge STATUS [--memory MIB] [--files DIR COUNT BYTES] [--changing COUNT] [--period-us N]
 *
 * STATUS is a file of one page, best on tmpfs and outside of the archived tree. The gauge maps it and stores to
 * it: no system call of its own, so no file system can hold it up. Eight 64-bit words, little endian:
 *   0 reset: raised by the reader; 1 reset seen: follows it     4 when that hole began, CLOCK_MONOTONIC ns
 *   2 looks at the clock since the reset                        5 sum of all holes over 1 ms, ns
 *   3 the longest hole since the reset, ns                      6 number of holes over 1 ms
 *   7 pid once all memory is touched and all files are written, 0 before
 *
 * The clock is looked at every --period-us (default 100) and not in a spin: a spinning gauge would take one of
 * two cores from the engines under test. The price is the sleep's own length and wake-up, which the reader sees
 * as the longest hole of a quiet time.
 *
 * --files writes COUNT files of BYTES bytes that no file system can compress, 1000 to a directory.
 * --changing lets a second process rewrite 4 KiB within COUNT of them, spread evenly, again and again, each at
 * least every 100 ms as long as that takes no more than one write every 100 us.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define HOLE_NS 1000000u
#define PER_DIRECTORY 1000
#define CHUNK (1 << 20)
#define CHANGE 4096

enum { RESET, RESET_SEEN, LOOKS, LONGEST, BEGAN, SUM, HOLES, READY, WORDS };

struct files {
	const char *dir;
	long count;
	long long bytes;
};

static void die(const char *what)
{
	fprintf(stderr, "gauge: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t noise(void)
{
	static uint64_t x = 0x9e3779b97f4a7c15u;

	x ^= x << 13;
	x ^= x >> 7;
	x ^= x << 17;
	return x;
}

static void fill(void *block, size_t bytes)
{
	uint64_t *words = block;

	for (size_t i = 0; i < bytes / sizeof(*words); i++)
		words[i] = noise();
}

static void write_all(int fd, const char *data, size_t size)
{
	while (size > 0) {
		ssize_t n = write(fd, data, size);

		if (n < 0)
			die("write");
		data += n;
		size -= (size_t)n;
	}
}

static void file_path(char *out, size_t size, const struct files *files, long index)
{
	snprintf(out, size, "%s/d%05ld/f%06ld", files->dir, index / PER_DIRECTORY, index);
}

static void make_files(const struct files *files, char *chunk)
{
	char path[4096];

	if (mkdir(files->dir, 0755) != 0 && errno != EEXIST)
		die(files->dir);
	for (long i = 0; i < files->count; i++) {
		long long left = files->bytes;
		int fd;

		if (i % PER_DIRECTORY == 0) {
			snprintf(path, sizeof(path), "%s/d%05ld", files->dir, i / PER_DIRECTORY);
			if (mkdir(path, 0755) != 0 && errno != EEXIST)
				die(path);
		}
		file_path(path, sizeof(path), files, i);
		fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
		if (fd < 0)
			die(path);
		for (; left > 0; left -= left < CHUNK ? left : CHUNK) {
			/* each chunk differs from all others, and none is worth computing anew */
			*(uint64_t *)chunk = noise();
			write_all(fd, chunk, (size_t)(left < CHUNK ? left : CHUNK));
		}
		close(fd);
	}
}

static void change_files(const struct files *files, long changing, const char *chunk)
{
	long stride = files->count / changing;
	long pause_us = 100000 / changing < 100 ? 100 : 100000 / changing;
	struct timespec pause = { pause_us / 1000000, pause_us % 1000000 * 1000 };
	char path[4096];

	for (uint64_t turn = 0;; turn++) {
		long long room = files->bytes / CHANGE;
		int fd;

		file_path(path, sizeof(path), files, (long)(turn % (uint64_t)changing) * stride);
		fd = open(path, O_WRONLY | O_CLOEXEC);
		if (fd < 0)
			die(path);
		if (pwrite(fd, chunk + turn % 128 * 4096, room > 0 ? CHANGE : (size_t)files->bytes,
				room > 0 ? (off_t)(noise() % (uint64_t)room) * CHANGE : 0) < 0)
			die(path);
		close(fd);
		nanosleep(&pause, NULL);
	}
}

static void measure(volatile uint64_t *status, long period_us)
{
	struct timespec pause = { 0, period_us * 1000 };
	uint64_t last = now_ns();

	for (;;) {
		uint64_t now = now_ns(), gap = now - last;

		if (status[RESET] != status[RESET_SEEN]) {
			status[LOOKS] = status[LONGEST] = status[BEGAN] = status[SUM] = status[HOLES] = 0;
			status[RESET_SEEN] = status[RESET];
			now = now_ns();
		} else {
			status[LOOKS]++;
			if (gap > status[LONGEST]) {
				status[LONGEST] = gap;
				status[BEGAN] = last;
			}
			if (gap > HOLE_NS) {
				status[SUM] += gap;
				status[HOLES]++;
			}
		}
		last = now;
		nanosleep(&pause, NULL);
	}
}

static int usage(void)
{
	fprintf(
		stderr, "usage: gauge STATUS [--memory MIB] [--files DIR COUNT BYTES] [--changing COUNT] [--period-us N]\n");
	return 2;
}

int main(int argc, char **argv)
{
	struct files files = { NULL, 0, 0 };
	long memory_mib = 0, changing = 0, period_us = 100;
	volatile uint64_t *status;
	char *chunk;
	int fd;

	if (argc < 2)
		return usage();
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--memory") == 0 && i + 1 < argc) {
			memory_mib = atol(argv[++i]);
		} else if (strcmp(argv[i], "--files") == 0 && i + 3 < argc) {
			files = (struct files){ argv[i + 1], atol(argv[i + 2]), atoll(argv[i + 3]) };
			i += 3;
		} else if (strcmp(argv[i], "--changing") == 0 && i + 1 < argc) {
			changing = atol(argv[++i]);
		} else if (strcmp(argv[i], "--period-us") == 0 && i + 1 < argc) {
			period_us = atol(argv[++i]);
		} else {
			return usage();
		}
	}
	if (memory_mib < 0 || changing < 0 || changing > files.count || period_us < 1 || period_us > 999999)
		return usage();

	fd = open(argv[1], O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0 || ftruncate(fd, 4096) != 0)
		die(argv[1]);
	status = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (status == MAP_FAILED)
		die("mmap");
	close(fd);
	chunk = malloc(CHUNK);
	if (chunk == NULL)
		die("malloc");
	fill(chunk, CHUNK);
	if (files.dir != NULL)
		make_files(&files, chunk);
	if (changing > 0) {
		pid_t parent = getpid(), child = fork();

		if (child < 0)
			die("fork");
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() == parent)
				change_files(&files, changing, chunk);
			_exit(0);
		}
	}
	free(chunk);
	if (memory_mib > 0) {
		size_t bytes = (size_t)memory_mib << 20;
		void *block = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		if (block == MAP_FAILED)
			die("mmap");
		fill(block, bytes);
	}
	/* The default slack of 50 us would be half the period. */
	prctl(PR_SET_TIMERSLACK, 1);
	status[READY] = (uint64_t)getpid();
	measure(status, period_us);
}
