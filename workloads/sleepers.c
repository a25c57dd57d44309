/*
 * Tasks to freeze that do nothing.
 *
 *   sleepers TASKS
 *
 * TASKS processes in all, this one among them. Prints "ready" once every one of them exists, then they sleep.
 * They end with the first.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

int main(int argc, char **argv)
{
	pid_t parent = getpid();

	if (argc != 2) {
		fprintf(stderr, "usage: sleepers TASKS\n");
		return 2;
	}
	for (long left = atol(argv[1]) - 1; left > 0; left--) {
		pid_t child = fork();

		if (child < 0) {
			fprintf(stderr, "sleepers: fork: %s\n", strerror(errno));
			return 1;
		}
		if (child == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			if (getppid() != parent)
				_exit(1);
			for (;;)
				pause();
		}
	}
	puts("ready");
	fflush(stdout);
	for (;;)
		pause();
}
