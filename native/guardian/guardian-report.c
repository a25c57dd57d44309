/* What the guardian says, where it says it, and the small helpers that all its parts use. */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define MAX_LOG_BYTES (1 << 20)
#define SYSLOG_DAEMON_NOTICE (3 << 3 | 5)
#define SYSLOG_DAEMON_ERROR (3 << 3 | 3)

uint64_t now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

void sleep_ms(unsigned ms)
{
	struct timespec span = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&span, NULL);
}

bool starts_with(const char *text, const char *prefix)
{
	return strncmp(text, prefix, strlen(prefix)) == 0;
}

/* man 5 proc: /proc/PID/stat from its field 3, the state, on. NULL when there is no such process. */
static const char *stat_from_state(pid_t pid, char *text, size_t size)
{
	char path[32], *p;
	int file;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/stat", (int)pid);
	file = open(path, O_RDONLY | O_CLOEXEC);
	n = file < 0 ? -1 : read(file, text, size - 1);
	if (file >= 0)
		close(file);
	if (n <= 0)
		return NULL;
	text[n] = '\0';
	/* The name may hold anything, brackets too: the last one ends it. */
	p = strrchr(text, ')');
	return p == NULL || p[1] != ' ' ? NULL : p + 2;
}

char process_state(pid_t pid, uint64_t *start_time)
{
	char text[1024];
	const char *state = stat_from_state(pid, text, sizeof(text)), *field = state;

	/* The time of start is field 22. */
	for (int i = 3; field != NULL && i < 22; i++) {
		field = strchr(field, ' ');
		field += field != NULL;
	}
	if (field == NULL)
		return 0;
	*start_time = strtoull(field, NULL, 10);
	return *state;
}

bool ids_of(pid_t pid, pid_t *group, pid_t *session)
{
	char text[1024], *field;
	const char *state = stat_from_state(pid, text, sizeof(text));

	if (state == NULL || state[0] == '\0')
		return false;
	strtol(state + 1, &field, 10); /* the parent */
	*group = (pid_t)strtol(field, &field, 10);
	*session = (pid_t)strtol(field, &field, 10);
	return true;
}

pid_t parent_of(pid_t pid)
{
	char text[1024];
	const char *state = stat_from_state(pid, text, sizeof(text));

	return state == NULL || state[0] == '\0' ? 0 : (pid_t)strtol(state + 1, NULL, 10);
}

/* Each line goes to the owner's socket at once, if somebody listens there, and to the logs at the end. */
static void say(struct guard *g, const char *line)
{
	size_t bytes = strlen(line);

	send(SOCKET, line, bytes + 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	if (g->report_bytes + bytes + 2 >= sizeof(g->report))
		return;
	if (g->report_bytes > 0)
		g->report_bytes = (size_t)(stpcpy(g->report + g->report_bytes, "; ") - g->report);
	/* A path may hold line ends, and a log must not believe them. */
	for (const char *c = line; *c != '\0'; c++)
		g->report[g->report_bytes++] = (unsigned char)*c < ' ' ? '?' : *c;
	g->report[g->report_bytes] = '\0';
}

void tell(struct guard *g, const char *format, ...)
{
	static char line[PATH_MAX + 256];
	va_list args;

	va_start(args, format);
	vsnprintf(line, sizeof(line), format, args);
	va_end(args);
	say(g, line);
}

void tell_failure(struct guard *g, int err, const char *format, ...)
{
	static char line[PATH_MAX + 256];
	va_list args;
	int bytes = snprintf(line, sizeof(line), "FAILED (%s): ", strerror(err));

	va_start(args, format);
	vsnprintf(line + bytes, sizeof(line) - (size_t)bytes, format, args);
	va_end(args);
	g->failed = true;
	say(g, line);
}

/* RFC 3164 on the local socket, where every system logger listens; without one, nobody does. */
static void write_syslog(const struct guard *g, const struct tm *utc)
{
	static char text[1024];
	struct sockaddr_un address = { .sun_family = AF_UNIX, .sun_path = "/dev/log" };
	int to = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	char when[32];

	if (to < 0)
		return;
	strftime(when, sizeof(when), "%b %e %H:%M:%S", utc);
	snprintf(text, sizeof(text), "<%d>%s stillframe-guardian[%d]: %.900s",
		g->failed ? SYSLOG_DAEMON_ERROR : SYSLOG_DAEMON_NOTICE, when, (int)getpid(), g->report);
	sendto(to, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&address, sizeof(address));
	close(to);
}

static void write_log_file(const struct guard *g, const struct tm *utc)
{
	static char line[MAX_REPORT + 128], old[PATH_MAX + 2];
	char when[32];
	struct stat info;
	int file, bytes;

	if (g->log[0] == '\0')
		return;
	snprintf(old, sizeof(old), "%s.1", g->log);
	if (lstat(g->log, &info) == 0 && info.st_size > MAX_LOG_BYTES)
		rename(g->log, old);
	file = open(g->log, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (file < 0)
		return;
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", utc);
	/* One write, so that two guardians do not mix their lines. */
	bytes = snprintf(line, sizeof(line), "%s guardian %d: %s\n", when, (int)getpid(), g->report);
	if (write(file, line, (size_t)bytes) < 0) {
		/* A full disk must not keep us from ending. */
	}
	close(file);
}

void write_logs(struct guard *g)
{
	struct timespec now;
	struct tm utc;

	clock_gettime(CLOCK_REALTIME, &now);
	gmtime_r(&now.tv_sec, &utc);
	write_log_file(g, &utc);
	write_syslog(g, &utc);
}
