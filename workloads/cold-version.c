/*
 * What a cold VERSION request costs a client in C: start `criu swrk`, ask, read the answer, reap it.
 *
 *   cold-version CRIU [session]
 *
 * With `session` CRIU gets a session of its own, and with it a share of its own of the processor where the kernel
 * groups tasks by session (sched_autogroup_enabled).
 *
 * For each line that comes in it does so once, and prints the nanoseconds that it took.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

/* criu_req { type = VERSION (10); keep_open = true } in protobuf's wire format */
static const unsigned char request[] = { 0x08, 10, 0x20, 1 };

static void die(const char *what)
{
	fprintf(stderr, "cold-version: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static void start_criu(const char *criu, int socket, int session)
{
	int null = open("/dev/null", O_RDWR);

	if (session)
		setsid();
	dup2(null, 0);
	dup2(null, 1);
	dup2(null, 2);
	if (socket == 3)
		fcntl(socket, F_SETFD, 0);
	else
		dup2(socket, 3);
	execl(criu, "criu", "swrk", "3", (char *)NULL);
	_exit(127);
}

int main(int argc, char **argv)
{
	unsigned char answer[4096];
	int session = argc == 3 && strcmp(argv[2], "session") == 0, byte;

	if (argc != 2 && !session) {
		fprintf(stderr, "usage: cold-version CRIU [session]\n");
		return 2;
	}
	while ((byte = getchar()) != EOF) {
		uint64_t start;
		int pair[2], status;
		ssize_t n;
		pid_t pid;

		if (byte != '\n')
			continue;
		start = now_ns();

		if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair) != 0)
			die("socketpair");
		pid = vfork();
		if (pid < 0)
			die("vfork");
		if (pid == 0)
			start_criu(argv[1], pair[1], session);
		close(pair[1]);
		if (send(pair[0], request, sizeof(request), MSG_NOSIGNAL) != sizeof(request))
			die("send");
		n = recv(pair[0], answer, sizeof(answer), 0);
		/* criu_resp begins with its type, then success: field 2 */
		if (n < 4 || answer[0] != 0x08 || answer[1] != 10 || answer[2] != 0x10 || answer[3] != 1) {
			fprintf(stderr, "cold-version: no good answer (%zd bytes)\n", n);
			return 1;
		}
		close(pair[0]);
		if (waitpid(pid, &status, 0) != pid)
			die("waitpid");
		printf("%llu\n", (unsigned long long)(now_ns() - start));
		fflush(stdout);
	}
	return 0;
}
