/* CRIU's end, and the end of what it leaves when it is killed. */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define KILL_BOUND_MS 5000

int open_pidfd(pid_t pid)
{
	return (int)syscall(SYS_pidfd_open, pid, 0);
}

static bool ended_within(int pidfd, unsigned ms)
{
	struct pollfd poll_end = { .fd = pidfd, .events = POLLIN };

	return poll(&poll_end, 1, (int)ms) > 0;
}

static void await_end(struct guard *g)
{
	uint64_t start_time, deadline = now_ms() + g->criu_bound_ms;

	if (g->criu_pidfd < 0)
		return;
	if (ended_within(g->criu_pidfd, 0)) {
		/* What it wrote to the freezer before its end is already there. */
		close(g->criu_pidfd);
		g->criu_pidfd = -1;
		return;
	}
	/* Alive past the window's end it can still put a freeze back: see restore_freezer. */
	if (g->window == WINDOW_CLOSED)
		g->window = WINDOW_OPEN;
	while (!ended_within(g->criu_pidfd, 20)) {
		/* A stopped CRIU does not see that its socket closed. It undoes better than a kill would. */
		if (process_state(g->criu, &start_time) == 'T')
			syscall(SYS_pidfd_send_signal, g->criu_pidfd, SIGCONT, NULL, 0);
		if (now_ms() < deadline)
			continue;
		syscall(SYS_pidfd_send_signal, g->criu_pidfd, SIGKILL, NULL, 0);
		if (ended_within(g->criu_pidfd, KILL_BOUND_MS))
			tell(g, "killed criu %d, which did not end within %u ms", (int)g->criu, g->criu_bound_ms);
		else
			tell_failure(g, ETIMEDOUT, "criu %d does not end although killed", (int)g->criu);
		return;
	}
	tell(g, "criu %d ended", (int)g->criu);
}

/* CRIU works in a private directory of ours, whose name nobody can guess; its children inherit that. */
static bool works_in_ours(const struct guard *g, pid_t pid)
{
	static char directory[PATH_MAX];
	char path[32];
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%d/cwd", (int)pid);
	n = readlink(path, directory, sizeof(directory) - 1);
	if (n <= 0)
		return false;
	directory[n] = '\0';
	for (unsigned i = 0; i < MAX_REMOVALS; i++) {
		const char *name = g->removals[i].name, *last = strrchr(directory, '/');

		if (name[0] != '\0' && last != NULL && strcmp(last + 1, name) == 0)
			return true;
	}
	return false;
}

/* In the session and group that CRIU led, and in our directory: the first alone could be said of a stranger, once
 * CRIU's pid has been given to another. */
static bool is_child_of_criu(const struct guard *g, pid_t pid)
{
	pid_t group, session;

	return pid != g->criu && ids_of(pid, &group, &session) && group == g->criu && session == g->criu &&
		works_in_ours(g, pid);
}

/*
 * CRIU forks children to learn what the kernel can do; when it is killed in that moment they wait for it for ever.
 * One that ends by itself meanwhile, or whose pid is another's by then, is not ours: hence the second look, at what the
 * pidfd holds.
 */
static void end_child(struct guard *g, pid_t pid)
{
	int pidfd;

	if (!is_child_of_criu(g, pid))
		return;
	pidfd = open_pidfd(pid);
	if (pidfd < 0)
		return;
	if (is_child_of_criu(g, pid) && syscall(SYS_pidfd_send_signal, pidfd, SIGKILL, NULL, 0) == 0)
		tell(g, "killed process %d, which criu %d had left", (int)pid, (int)g->criu);
	close(pidfd);
}

static void end_children(struct guard *g)
{
	_Alignas(struct dir_entry) char buffer[2048];
	int directory = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	long n;

	if (directory < 0)
		return;
	while ((n = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n; at += ((struct dir_entry *)(buffer + at))->bytes) {
			pid_t pid = (pid_t)strtol(((struct dir_entry *)(buffer + at))->name, NULL, 10);

			if (pid > 0)
				end_child(g, pid);
		}
	}
	close(directory);
}

void await_criu(struct guard *g)
{
	await_end(g);
	if (g->criu > 0)
		end_children(g);
}
