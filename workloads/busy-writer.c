/*
 * A busy process tree that checks itself.
 *
 *   busy-writer DIR [--workers N] [--memory MIB] [--pace-us N] [--spin]
 *
 * One parent, N workers (default 3) and one gauge. Each worker writes all the time below DIR/wI/:
 *   grow.dat      grows by one record a step, shrinks to nothing at its limit (never O_APPEND: CRIU
 *                 exempts such files from its size check, and a test with them would prove nothing)
 *   rewrite.dat   one record per step, at a place that moves, in a file of constant size
 *   state         replaced each step: state.tmp is written and renamed over it; holds the step's number
 * and keeps in private memory what those files must hold. Before every step it compares the two, and it
 * walks a block of patterned memory. So a tree that was restored with files older or newer than its
 * memory, by a single step, says so.
 *
 * The gauge looks at the clock every 100 us (--spin: without a pause) and notes the longest hole in its
 * own execution since the last SIGUSR1: what a freeze is, seen from inside. It does nothing else: a write
 * that takes long would be a hole too, and one that is not counted would hide a freeze that falls there.
 * The parent writes DIR/status every 5 ms, one JSON object padded to 1024 bytes:
 *   pid, steps[], mismatches, checks, holeMs (longest hole), holeSteps[] (steps when that hole began),
 *   holes (holes over 2 ms), uptimeMs
 * A child that dies makes it exit with 1. SIGTERM ends the tree.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MAX_WORKERS 64
#define RECORD 512
#define GROW_LIMIT (512 * RECORD)
#define REWRITE_RECORDS 128
#define STATUS_BYTES 1024
#define LOST_MAX 160

/* What the gauge has seen since the last SIGUSR1. */
struct gauge {
	uint64_t hole_ns, holes;
	uint64_t hole_steps[MAX_WORKERS];
};

struct shared {
	volatile uint64_t steps[MAX_WORKERS];
	volatile uint64_t checks[MAX_WORKERS];
	volatile uint64_t mismatches;
	volatile int reset;
	struct gauge gauge;
	uint64_t gauge_version; /* odd while the gauge changes it */
	char lost[LOST_MAX]; /* the first mismatch, in words */
};

static struct shared *shared;
static int workers = 3;
static long memory_mib = 1;
static long pace_us = 500;
static int spin;

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void die(const char *what)
{
	fprintf(stderr, "busy-writer: %s: %s\n", what, strerror(errno));
	_exit(1);
}

static void mismatch(const char *format, ...)
{
	va_list args;

	if (__sync_fetch_and_add(&shared->mismatches, 1) != 0)
		return;
	va_start(args, format);
	vsnprintf(shared->lost, LOST_MAX, format, args);
	va_end(args);
}

/* What record `index` written at step `step` by worker `id` holds: reproducible from the numbers alone. */
static void fill_record(char *out, int id, uint64_t step, uint64_t index)
{
	uint64_t x = step * 0x9e3779b97f4a7c15u ^ index * 0xbf58476d1ce4e5b9u ^ (uint64_t)id;
	uint64_t *p = (uint64_t *)out;

	for (int i = 0; i < RECORD / 8; i++) {
		x ^= x << 13;
		x ^= x >> 7;
		x ^= x << 17;
		p[i] = x;
	}
}

static void pwrite_all(int fd, const char *data, size_t size, off_t at)
{
	while (size > 0) {
		ssize_t n = pwrite(fd, data, size, at);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			die("pwrite");
		data += n;
		size -= (size_t)n;
		at += n;
	}
}

struct worker {
	int id;
	int dir, grow, rewrite;
	uint64_t step; /* steps done */
	uint64_t grow_first; /* the step that wrote grow.dat's first record */
	uint64_t rewritten[REWRITE_RECORDS]; /* the step that wrote each record, 0 for none */
	uint64_t *block; /* patterned memory */
	size_t block_words, walked;
};

static void check_record(struct worker *w, const char *name, int fd, uint64_t step, uint64_t index, off_t at)
{
	char want[RECORD], got[RECORD];

	fill_record(want, w->id, step, index);
	if (pread(fd, got, RECORD, at) != RECORD || memcmp(want, got, RECORD) != 0)
		mismatch("worker %d at step %llu: %s record %llu is not the one of step %llu", w->id,
			(unsigned long long)w->step, name, (unsigned long long)index, (unsigned long long)step);
}

/* The files must be exactly what memory says they are, at every step. */
static void check(struct worker *w)
{
	struct stat st;
	char text[32];
	uint64_t records = w->step - w->grow_first + 1;
	int fd, n;

	if (w->step == 0)
		return;
	if (fstat(w->grow, &st) != 0 || (uint64_t)st.st_size != records * RECORD)
		mismatch("worker %d at step %llu: grow.dat has %lld bytes, memory says %llu", w->id,
			(unsigned long long)w->step, (long long)st.st_size, (unsigned long long)(records * RECORD));
	check_record(w, "grow.dat", w->grow, w->step, records - 1, (off_t)((records - 1) * RECORD));
	check_record(w, "grow.dat", w->grow, w->grow_first + w->step % records, w->step % records,
		(off_t)((w->step % records) * RECORD));
	for (uint64_t i = w->step % 8; i < REWRITE_RECORDS; i += 8)
		if (w->rewritten[i] != 0)
			check_record(w, "rewrite.dat", w->rewrite, w->rewritten[i], i, (off_t)(i * RECORD));
	fd = openat(w->dir, "state", O_RDONLY | O_CLOEXEC);
	n = fd < 0 ? -1 : (int)read(fd, text, sizeof(text) - 1);
	if (fd >= 0)
		close(fd);
	text[n < 0 ? 0 : n] = '\0';
	if (n < 0 || strtoull(text, NULL, 10) != w->step)
		mismatch("worker %d: state holds %.20s, memory says %llu", w->id, text, (unsigned long long)w->step);
	for (size_t i = 0; i < 4096 && w->block_words > 0; i++) {
		if (w->block[w->walked] != (w->walked ^ (uint64_t)w->id))
			mismatch("worker %d: memory word %zu is damaged", w->id, w->walked);
		w->walked = (w->walked + 1) % w->block_words;
	}
	__sync_fetch_and_add(&shared->checks[w->id], 1);
}

static void step(struct worker *w)
{
	char record[RECORD], text[32];
	uint64_t next = w->step + 1, index;
	int fd, n;

	/* grow.dat: one more record, or from the start again */
	index = w->grow_first == 0 ? 0 : next - w->grow_first;
	if (w->grow_first == 0 || index * RECORD >= GROW_LIMIT) {
		if (ftruncate(w->grow, 0) != 0)
			die("ftruncate");
		w->grow_first = next;
		index = 0;
	}
	fill_record(record, w->id, next, index);
	pwrite_all(w->grow, record, RECORD, (off_t)(index * RECORD));

	/* rewrite.dat: a record somewhere */
	index = next * 7 % REWRITE_RECORDS;
	fill_record(record, w->id, next, index);
	pwrite_all(w->rewrite, record, RECORD, (off_t)(index * RECORD));
	w->rewritten[index] = next;

	/* state: a new file over the old one */
	fd = openat(w->dir, "state.tmp", O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (fd < 0)
		die("state.tmp");
	n = snprintf(text, sizeof(text), "%llu\n", (unsigned long long)next);
	pwrite_all(fd, text, (size_t)n, 0);
	close(fd);
	if (renameat(w->dir, "state.tmp", w->dir, "state") != 0)
		die("rename");

	w->step = next;
	shared->steps[w->id] = next;
}

static void run_worker(int dir, int id)
{
	struct worker *w = calloc(1, sizeof(*w));
	char name[16];
	struct timespec pace = { pace_us / 1000000, pace_us % 1000000 * 1000 };

	snprintf(name, sizeof(name), "w%d", id);
	if (w == NULL || (mkdirat(dir, name, 0755) != 0 && errno != EEXIST))
		die(name);
	w->id = id;
	w->dir = openat(dir, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	w->grow = openat(w->dir, "grow.dat", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	w->rewrite = openat(w->dir, "rewrite.dat", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (w->dir < 0 || w->grow < 0 || w->rewrite < 0 || ftruncate(w->rewrite, REWRITE_RECORDS * RECORD) != 0)
		die(name);
	w->block_words = (size_t)memory_mib * 1024 * 1024 / 8;
	if (w->block_words > 0) {
		w->block = mmap(NULL, w->block_words * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (w->block == MAP_FAILED)
			die("mmap");
		for (size_t i = 0; i < w->block_words; i++)
			w->block[i] = i ^ (uint64_t)id;
	}
	for (;;) {
		check(w);
		step(w);
		if (pace_us > 0)
			nanosleep(&pace, NULL);
	}
}

static size_t put_numbers(char *out, size_t size, const char *name, const uint64_t *numbers)
{
	size_t n = (size_t)snprintf(out, size, "\"%s\":[", name);

	for (int i = 0; i < workers && n < size; i++)
		n += (size_t)snprintf(out + n, size - n, "%s%llu", i ? "," : "", (unsigned long long)numbers[i]);
	if (n < size)
		n += (size_t)snprintf(out + n, size - n, "],");
	return n;
}

static void run_gauge(void)
{
	struct gauge seen = { 0 };
	uint64_t last = now_ns(), steps[MAX_WORKERS] = { 0 };
	struct timespec pause = { 0, 100000 };

	for (;;) {
		uint64_t now = now_ns(), gap = now - last;

		last = now;
		if (shared->reset) {
			shared->reset = 0;
			seen.hole_ns = seen.holes = 0;
		} else {
			if (gap > 2000000)
				seen.holes++;
			if (gap > seen.hole_ns) {
				seen.hole_ns = gap;
				memcpy(seen.hole_steps, steps, sizeof(steps));
			}
		}
		for (int i = 0; i < workers; i++)
			steps[i] = shared->steps[i];
		__sync_fetch_and_add(&shared->gauge_version, 1);
		shared->gauge = seen;
		__sync_fetch_and_add(&shared->gauge_version, 1);
		if (!spin)
			nanosleep(&pause, NULL);
	}
}

/* Fails while the gauge is changing it: never a hole with the steps of another. The gauge does not wait for its reader. */
static int read_gauge(struct gauge *seen)
{
	uint64_t version = __sync_fetch_and_add(&shared->gauge_version, 0);

	*seen = shared->gauge;
	return version % 2 == 0 && __sync_fetch_and_add(&shared->gauge_version, 0) == version;
}

static void write_status(int fd, uint64_t start)
{
	struct gauge seen;
	uint64_t steps[MAX_WORKERS], checks = 0;
	char text[STATUS_BYTES];
	size_t n;

	if (!read_gauge(&seen))
		return; /* with the next */
	for (int i = 0; i < workers; i++) {
		steps[i] = shared->steps[i];
		checks += shared->checks[i];
	}
	n = (size_t)snprintf(text, sizeof(text), "{\"pid\":%d,", (int)getpid());
	n += put_numbers(text + n, sizeof(text) - n, "steps", steps);
	n += put_numbers(text + n, sizeof(text) - n, "holeSteps", seen.hole_steps);
	n += (size_t)snprintf(text + n, sizeof(text) - n,
		"\"holeMs\":%.3f,\"holes\":%llu,\"checks\":%llu,\"mismatches\":%llu,\"uptimeMs\":%.0f,\"lost\":\"%s\"}",
		(double)seen.hole_ns / 1e6, (unsigned long long)seen.holes, (unsigned long long)checks,
		(unsigned long long)shared->mismatches, (double)(now_ns() - start) / 1e6, shared->lost);
	memset(text + n, ' ', sizeof(text) - n - 1);
	text[sizeof(text) - 1] = '\n';
	pwrite_all(fd, text, sizeof(text), 0);
}

static void on_usr1(int sig)
{
	(void)sig;
	shared->reset = 1;
}

static pid_t start(void (*run)(int, int), int dir, int id)
{
	pid_t pid = fork();

	if (pid < 0)
		die("fork");
	if (pid == 0) {
		signal(SIGTERM, SIG_DFL);
		run(dir, id);
	}
	return pid;
}

static void gauge(int dir, int id)
{
	(void)dir;
	(void)id;
	run_gauge();
}

static volatile sig_atomic_t ending;

static void on_term(int sig)
{
	(void)sig;
	ending = 1;
}

int main(int argc, char **argv)
{
	pid_t pids[MAX_WORKERS + 1];
	struct sigaction sa = { .sa_handler = on_usr1, .sa_flags = SA_RESTART };
	struct timespec pause = { 0, 5000000 };
	uint64_t begun = now_ns();
	int dir, status;

	if (argc < 2) {
		fprintf(stderr, "usage: busy-writer DIR [--workers N] [--memory MIB] [--pace-us N] [--spin]\n");
		return 2;
	}
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "--spin") == 0)
			spin = 1;
		else if (i + 1 < argc && strcmp(argv[i], "--workers") == 0)
			workers = atoi(argv[++i]);
		else if (i + 1 < argc && strcmp(argv[i], "--memory") == 0)
			memory_mib = atol(argv[++i]);
		else if (i + 1 < argc && strcmp(argv[i], "--pace-us") == 0)
			pace_us = atol(argv[++i]);
		else {
			fprintf(stderr, "busy-writer: unknown argument %s\n", argv[i]);
			return 2;
		}
	}
	if (workers < 0 || workers > MAX_WORKERS || memory_mib < 0 || pace_us < 0)
		return 2;
	dir = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0)
		die(argv[1]);
	/* Anonymous and shared: the parent, the workers and the gauge see one block, and CRIU restores it as one. */
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (shared == MAP_FAILED)
		die("mmap");
	status = openat(dir, "status", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	if (status < 0)
		die("status");
	sigaction(SIGUSR1, &sa, NULL);
	sa.sa_handler = on_term;
	sa.sa_flags = 0;
	sigaction(SIGTERM, &sa, NULL);
	for (int i = 0; i < workers; i++)
		pids[i] = start(run_worker, dir, i);
	pids[workers] = start(gauge, dir, 0);
	while (!ending && waitpid(-1, NULL, WNOHANG) == 0) {
		write_status(status, begun);
		nanosleep(&pause, NULL);
	}
	for (int i = 0; i <= workers; i++)
		kill(pids[i], SIGKILL);
	while (wait(NULL) > 0)
		;
	return ending ? 0 : 1;
}
