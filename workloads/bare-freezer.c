/*
 * What a freeze and a thaw cost at the very least: write the wish, read the state until the kernel agrees.
 *
 *   bare-freezer CGROUP TIMES
 *
 * CGROUP is the directory of a v1 or v2 freezer cgroup. Prints one line for each time: the nanoseconds of the
 * freeze and those of the thaw. Always thaws before it ends. The tasks run for a moment between two times: on v2
 * `frozen` is 0 as soon as the wish is, and a freeze that follows at once finds tasks that had never left.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define LET_RUN_US 50000

static int wish, state;
static const char *words[2], *seen[2];

static void die(const char *what)
{
	fprintf(stderr, "bare-freezer: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static int open_in(const char *dir, const char *name, int flags)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return open(path, flags | O_CLOEXEC);
}

/* Nanoseconds until the kernel said so; 0 when it did not within five seconds. */
static uint64_t set(int frozen)
{
	uint64_t start = now_ns();
	char text[256];

	if (pwrite(wish, words[frozen], strlen(words[frozen]), 0) < 0)
		die("write");
	while (now_ns() - start < 5000000000u) {
		ssize_t n = pread(state, text, sizeof(text) - 1, 0);

		if (n < 0)
			die("read");
		text[n] = '\0';
		if (strstr(text, seen[frozen]) != NULL)
			return now_ns() - start;
	}
	return 0;
}

int main(int argc, char **argv)
{
	int failed = 0;

	if (argc != 3) {
		fprintf(stderr, "usage: bare-freezer CGROUP TIMES\n");
		return 2;
	}
	wish = open_in(argv[1], "cgroup.freeze", O_WRONLY);
	if (wish >= 0) {
		state = open_in(argv[1], "cgroup.events", O_RDONLY);
		words[0] = "0", words[1] = "1", seen[0] = "frozen 0", seen[1] = "frozen 1";
	} else {
		wish = open_in(argv[1], "freezer.state", O_WRONLY);
		state = open_in(argv[1], "freezer.state", O_RDONLY);
		words[0] = "THAWED", words[1] = "FROZEN", seen[0] = "THAWED", seen[1] = "FROZEN";
	}
	if (wish < 0 || state < 0)
		die(argv[1]);
	for (long i = atol(argv[2]); i > 0 && !failed; i--) {
		uint64_t freeze, thaw;

		usleep(LET_RUN_US);
		freeze = set(1);
		thaw = set(0);

		failed = freeze == 0 || thaw == 0;
		printf("%llu %llu\n", (unsigned long long)freeze, (unsigned long long)thaw);
	}
	return failed;
}
