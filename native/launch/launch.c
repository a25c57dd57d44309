/*
 * What a program is started by (src/checkpoint/program/launch.ts): it waits until it has been placed and its name is
 * known, and becomes the program then. So nothing of the program ever runs outside of its cgroup, and it keeps the pid
 * that was written down.
 *
 * launch PATH NAME ARGUMENT...: descriptor 3 is a stream socket. A byte on it means go; its end, that whoever waits for
 * the program has died. The errno of a failed exec is the answer; when exec succeeds, the socket closes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SOCKET 3
#define NOT_STARTED 125
#define NOT_EXECUTABLE 126
#define NOT_FOUND 127

/* As execvp(3) and every shell do: a script without a first line of its own is one for sh. */
static void run_script(char *path, int argc, char **args)
{
	char **script = calloc((size_t)argc + 2, sizeof(*script));

	if (!script)
		return;
	script[0] = "sh";
	script[1] = path;
	for (int i = 1; i < argc; i++)
		script[i + 1] = args[i];
	execv("/bin/sh", script);
}

int main(int argc, char **argv)
{
	ssize_t got;
	char go;
	int err;

	if (argc < 3)
		return NOT_STARTED;
	do {
		got = read(SOCKET, &go, 1);
	} while (got < 0 && errno == EINTR);
	if (got != 1)
		return NOT_STARTED;
	fcntl(SOCKET, F_SETFD, FD_CLOEXEC);
	/* What was inherited without a word leads out of the tree, and CRIU would refuse that. */
	syscall(SYS_close_range, SOCKET + 1, ~0u, 0);
	execv(argv[1], argv + 2);
	if (errno == ENOEXEC)
		run_script(argv[1], argc - 2, argv + 2);
	err = errno;
	if (write(SOCKET, &err, sizeof(err)) != sizeof(err)) {
		/* Then the exit status has to do. */
	}
	return err == ENOENT ? NOT_FOUND : NOT_EXECUTABLE;
}
