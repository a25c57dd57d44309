/*
 * One object that the kernel keeps for a process: how it comes to be, and what can be seen of it afterwards, as one
 * line. A probe may use the object up: it is called once.
 */
#ifndef STATE_ROW_H
#define STATE_ROW_H

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SET(name) static void set_##name(void)
#define GET(name) static void get_##name(void)
#define ROW(name) \
	{ \
#name, set_##name, get_##name \
	}

struct row {
	const char *name;
	void (*set)(void);
	void (*get)(void);
};

/* The directory of this run, and the line that the probe makes. */
static const char *dir;
static char line[4096];

static __attribute__((unused)) void fail(const char *what)
{
	fprintf(stderr, "state: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* For what must not fail: gives back what it was given. */
#define must(call) \
	({ \
		__typeof__(call) v_ = (call); \
		if ((long)v_ == -1) \
			fail(#call); \
		v_; \
	})

static __attribute__((unused, format(printf, 1, 2))) void say(const char *format, ...)
{
	size_t used = strlen(line);
	va_list args;

	va_start(args, format);
	vsnprintf(line + used, sizeof(line) - used, format, args);
	va_end(args);
}

static __attribute__((unused)) char *path_of(const char *name)
{
	char *path;

	if (asprintf(&path, "%s/%s", dir, name) < 0)
		fail("asprintf");
	return path;
}

static __attribute__((unused)) int new_file(const char *name, off_t size)
{
	int fd = must(open(path_of(name), O_RDWR | O_CREAT | O_CLOEXEC, 0600));

	must(ftruncate(fd, size));
	return fd;
}

/* A file of /proc, whole. */
static __attribute__((unused)) char *contents(const char *path)
{
	static char text[1 << 20];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t got, n = 0;

	if (fd < 0)
		return strcpy(text, "");
	while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += got;
	text[n] = 0;
	close(fd);
	return text;
}

/* What follows `key` in such a file. */
static __attribute__((unused)) void say_field(const char *path, const char *key)
{
	char *at = strstr(contents(path), key);

	if (at)
		say("%.*s", (int)strcspn(at, "\n"), at);
	else
		say("no %s", key);
}

/* A mapping's field of smaps. */
static __attribute__((unused)) void say_smaps(const void *start, const char *key)
{
	char head[32], *at;

	snprintf(head, sizeof(head), "%lx-", (unsigned long)start);
	at = strstr(contents("/proc/self/smaps"), head);
	at = at ? strstr(at, key) : NULL;
	if (at)
		say("%.*s", (int)strcspn(at, "\n"), at);
	else
		say("no %s", key);
}

#endif
