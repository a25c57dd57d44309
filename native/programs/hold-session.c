/*
 * What CRIU becomes when it has restored a tree into a session of its own (its option exec_cmd): the leader of that
 * session, which ends when its last child has, with that one's status.
 *
 * As soon as a leader ends, the kernel takes the session's terminal away and hangs up the group in its foreground:
 * drivers/tty/tty_jobctrl.c, disassociate_ctty, Linux v6.12.
 */
#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

int main(void)
{
	static const int ignored[] = { SIGINT, SIGQUIT, SIGTSTP, SIGTTIN, SIGTTOU };
	sigset_t none;
	int status = 0;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	syscall(SYS_close_range, 0, ~0u, 0);
	if (chdir("/") != 0) {
		/* Only that what it was could be unmounted. */
	}
	while (wait(&status) > 0 || errno == EINTR) {
	}
	return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
