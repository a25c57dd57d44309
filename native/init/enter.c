/*
 * A CRIU in the namespaces of a running copy: `--enter PID PROGRAM ARGUMENT...`, where PID is the copy's pid 1 as this
 * pid namespace has it, and descriptor 3 the CRIU's end of a SOCK_SEQPACKET socket.
 *
 * CRIU opens the directories of its client in /proc of whoever made its socket, and there, in the copy's /proc, is no
 * process from outside. So the program gets a socket that a process inside has made, which passes packets on, both
 * ways, and holds the directories under the numbers that they have here (4 and more).
 *
 *   this process, outside   enters, waits, and ends as the next does
 *   its child, inside       passes packets on
 *   its child               the program
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET 3
#define MAX_PACKET (16 << 20)
#define MAX_FDS 16

static const struct {
	const char *name;
	int flag;
} kinds[] = { { "pid", CLONE_NEWPID }, { "net", CLONE_NEWNET }, { "uts", CLONE_NEWUTS }, { "mnt", CLONE_NEWNS } };

/* The mount namespace last: until then /proc is ours. */
static bool enter_all(const char *pid)
{
	for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		char path[64];
		int fd;
		bool done;

		snprintf(path, sizeof(path), "/proc/%s/ns/%s", pid, kinds[i].name);
		fd = open(path, O_RDONLY | O_CLOEXEC);
		done = fd >= 0 && setns(fd, kinds[i].flag) == 0;
		if (fd >= 0)
			close(fd);
		if (!done) {
			fprintf(stderr, "cannot enter %s: %s\n", path, strerror(errno));
			return false;
		}
	}
	return true;
}

/* A packet with its descriptors. False at the end of either socket. */
static bool pass_on(int from, int to)
{
	static char *packet;
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(MAX_FDS * sizeof(int))];
	} control;
	struct iovec data;
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };
	struct cmsghdr *rights;
	ssize_t bytes;
	bool done;

	if (packet == NULL)
		packet = malloc(MAX_PACKET);
	if (packet == NULL)
		return false;
	data = (struct iovec){ packet, MAX_PACKET };
	message.msg_control = &control;
	message.msg_controllen = sizeof(control.space);
	bytes = recvmsg(from, &message, MSG_CMSG_CLOEXEC);
	if (bytes <= 0 || (message.msg_flags & MSG_TRUNC) != 0)
		return bytes < 0 && errno == EINTR;
	data.iov_len = (size_t)bytes;
	message.msg_flags = 0;
	rights = CMSG_FIRSTHDR(&message);
	if (rights == NULL)
		message.msg_control = NULL;
	done = sendmsg(to, &message, MSG_NOSIGNAL) == bytes;
	if (rights != NULL && rights->cmsg_type == SCM_RIGHTS) {
		int *fds = (int *)CMSG_DATA(rights);

		for (size_t i = 0; i < (rights->cmsg_len - CMSG_LEN(0)) / sizeof(int); i++)
			close(fds[i]);
	}
	return done;
}

static int status_of(pid_t child)
{
	int status;

	while (waitpid(child, &status, 0) != child) {
		if (errno != EINTR)
			return 1;
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}

/* With the one before us, as a child of the caller's ends with the caller's kill. */
static void end_with_parent(void)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
}

/* CRIU undoes its work and ends when its socket closes: that of a client that is gone, too. */
static int mediate(char **program)
{
	int ends[2];
	struct pollfd sides[2] = { { .fd = SOCKET, .events = POLLIN }, { .events = POLLIN } };
	pid_t child;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return 1;
	child = fork();
	if (child == 0) {
		end_with_parent();
		setsid();
		if (dup2(ends[1], SOCKET) != SOCKET)
			_exit(127);
		syscall(SYS_close_range, SOCKET + 1, ~0u, 0);
		execv(program[0], program);
		_exit(127);
	}
	close(ends[1]);
	if (child < 0)
		return 1;
	sides[1].fd = ends[0];
	for (bool goes_on = true; goes_on;) {
		if (poll(sides, 2, -1) < 0)
			continue;
		/* What the program said last still counts. */
		if (sides[1].revents != 0)
			goes_on = pass_on(ends[0], SOCKET);
		else if (sides[0].revents != 0)
			goes_on = pass_on(SOCKET, ends[0]);
	}
	close(ends[0]);
	shutdown(SOCKET, SHUT_RDWR);
	close(SOCKET);
	return status_of(child);
}

int enter(int argc, char **argv)
{
	pid_t child;

	if (argc < 4 || !enter_all(argv[2]))
		return 1;
	child = fork();
	if (child == 0) {
		/* Its parent is outside, and reads as 0. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		return mediate(argv + 3);
	}
	if (child < 0)
		return 1;
	close(SOCKET);
	return status_of(child);
}
