/*
 * stillframe-init: pid 1 of a copy. It makes what has to be made from inside the copy's namespaces, is the parent of
 * the CRIU that restores the tree there, and then of the tree: it reaps, passes signals on to the tree's root, and ends
 * when the last process has ended, with the root's status. The kernel ends the whole copy with it, whoever ends it.
 *
 * Started with a SOCK_SEQPACKET socket as descriptor 3. What is started is the launcher: it waits for a first packet,
 * so that it can be put into a cgroup, makes the namespaces and pid 1 in them, tells `child PID`, and ends. From then
 * on pid 1 takes commands, each a packet of words that end with a NUL byte, and answers each with `ok`, or with
 * `error ERRNO STEP`:
 *   overlay LOWER DIR     DIR/upper and DIR/work over the directory LOWER, mounted at DIR/merged
 *   bind FROM TO          FROM in the place of TO
 *   detach PATH           unmounts it; what was bound from it stays
 *   copy FLAG FROM TO     `cp -a FLAG FROM TO`, with FLAG for example --reflink=always
 *   criu PROGRAM LASTPID IMAGES WORK
 *                         starts `PROGRAM swrk` and answers `ok` with the client's end of its socket. IMAGES and WORK
 *                         are descriptors 5 and 6 of pid 1, which made that socket: that is where CRIU looks for
 *                         directories
 *   keep PID              the tree, whose root is PID, is restored: the answer is the last word
 * The end of the socket before `keep` is the end of the copy.
 */
#include "init.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define SOCKET 3
#define IMAGES 5
#define WORK 6
#define MAX_WORDS 5

static const char *hostname;
static bool own_net;
static int net = -1;

/* The tree's root, and how it ended; 0 while nothing is restored. */
static pid_t root;
static int root_status;

static void say(const char *text, int fd)
{
	struct iovec data = { (char *)text, strlen(text) };
	union {
		struct cmsghdr header;
		char space[CMSG_SPACE(sizeof(int))];
	} control = { 0 };
	struct msghdr message = { .msg_iov = &data, .msg_iovlen = 1 };

	if (fd >= 0) {
		message.msg_control = &control;
		message.msg_controllen = sizeof(control.space);
		control.header.cmsg_level = SOL_SOCKET;
		control.header.cmsg_type = SCM_RIGHTS;
		control.header.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&control.header), &fd, sizeof(fd));
	}
	/* Whoever does not hear it has closed the socket, which the next read tells. */
	sendmsg(SOCKET, &message, MSG_NOSIGNAL);
}

static void say_error(const char *step, int err)
{
	char text[PATH_MAX];

	snprintf(text, sizeof(text), "error %d %s", err, step);
	say(text, -1);
}

static bool failed(const char *step)
{
	say_error(step, errno);
	return false;
}

static bool write_text(const char *path, const char *text)
{
	int file = open(path, O_WRONLY | O_CLOEXEC);
	bool done = file >= 0 && write(file, text, strlen(text)) == (ssize_t)strlen(text);

	if (file >= 0)
		close(file);
	return done;
}

/* `lo` of a new network namespace is down. */
static bool raise_loopback(void)
{
	struct ifreq request = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int any = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
	bool done = any >= 0 && ioctl(any, SIOCSIFFLAGS, &request) == 0;

	if (any >= 0)
		close(any);
	return done;
}

static bool mount_overlay(const char *lower, const char *directory)
{
	/* By a descriptor: no character of the path has to be escaped. It is opened here, in this mount namespace. */
	char options[96];
	int fd = open(lower, O_PATH | O_DIRECTORY | O_CLOEXEC);
	bool done;

	if (fd < 0 || chdir(directory) != 0)
		return failed("open");
	snprintf(options, sizeof(options), "lowerdir=/proc/self/fd/%d,upperdir=upper,workdir=work", fd);
	done = mount("stillframe", "merged", "overlay", 0, options) == 0 || failed("overlay");
	close(fd);
	if (chdir("/") != 0)
		return failed("chdir");
	return done;
}

static bool hold(const char *path, int number)
{
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bool done = fd >= 0 && (fd == number || dup3(fd, number, O_CLOEXEC) == number);

	if (fd >= 0 && fd != number)
		close(fd);
	return done;
}

static void become_criu(const char *program, int socket)
{
	sigset_t none;

	setsid();
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	if (dup2(socket, SOCKET) != SOCKET)
		_exit(127);
	syscall(SYS_close_range, SOCKET + 1, ~0u, 0);
	execl(program, program, "swrk", "3", (char *)NULL);
	_exit(127);
}

/* Its own pid, and those of the children by which it probes the kernel, have to be none of the tree's. */
static bool start_criu(char **words)
{
	int ends[2];
	pid_t pid;

	if (!hold(words[3], IMAGES) || !hold(words[4], WORK))
		return failed("open");
	if (!write_text("/proc/sys/kernel/ns_last_pid", words[2]))
		return failed("ns_last_pid");
	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
		return failed("socketpair");
	pid = fork();
	if (pid == 0)
		become_criu(words[1], ends[1]);
	close(ends[1]);
	if (pid < 0)
		failed("fork");
	else
		say("ok", ends[0]);
	close(ends[0]);
	return false; /* it is answered */
}

/* Inside, so that it ends with the copy. */
static bool copy_files(char **words)
{
	int status;
	pid_t pid = fork();

	if (pid == 0) {
		int nothing = open("/dev/null", O_RDWR);

		for (int fd = 0; fd < 3; fd++)
			dup2(nothing, fd);
		syscall(SYS_close_range, 3, ~0u, 0);
		execlp("cp", "cp", "-a", words[1], "--", words[2], words[3], (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return failed("cp");
	if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
		return true;
	say_error(WIFEXITED(status) && WEXITSTATUS(status) == 127 ? "cp, which is not installed" : "cp", EIO);
	return false;
}

static void obey(char **words, unsigned count)
{
	const char *command = words[0];
	bool done = false;

	if (strcmp(command, "overlay") == 0 && count == 3)
		done = mount_overlay(words[1], words[2]);
	else if (strcmp(command, "bind") == 0 && count == 3)
		done = mount(words[1], words[2], NULL, MS_BIND, NULL) == 0 || failed("bind");
	else if (strcmp(command, "copy") == 0 && count == 4)
		done = copy_files(words);
	else if (strcmp(command, "detach") == 0 && count == 2)
		done = umount2(words[1], MNT_DETACH) == 0 || failed("umount");
	else if (strcmp(command, "criu") == 0 && count == 5)
		done = start_criu(words);
	else if (strcmp(command, "keep") == 0 && count == 2) {
		root = (pid_t)atoi(words[1]);
		done = true;
	} else
		say_error("command", ENOSYS);
	if (done)
		say("ok", -1);
}

/* One packet. False at the end of the conversation. */
static bool hear(void)
{
	static char packet[4 * PATH_MAX];
	ssize_t bytes = recv(SOCKET, packet, sizeof(packet) - 1, 0);
	char *words[MAX_WORDS];
	unsigned count = 0;

	if (bytes < 0 && errno == EINTR)
		return true;
	if (bytes <= 0)
		return false;
	packet[bytes] = '\0';
	for (char *word = packet; word < packet + bytes && count < MAX_WORDS; word += strlen(word) + 1)
		words[count++] = word;
	if (count > 0)
		obey(words, count);
	return true;
}

/* False when there are no children left. */
static bool reap(void)
{
	int status;
	pid_t pid;

	while ((pid = waitpid(-1, &status, WNOHANG | __WALL)) > 0) {
		if (pid == root)
			root_status = status;
	}
	return pid == 0 || errno != ECHILD;
}

/* What is sent from outside; inside the tree its processes signal each other. */
static void take_signal(int signals)
{
	struct signalfd_siginfo info;

	while (read(signals, &info, sizeof(info)) == sizeof(info)) {
		if (info.ssi_signo != SIGCHLD && info.ssi_pid == 0 && root > 0 && kill(root, (int)info.ssi_signo) != 0)
			kill(-1, (int)info.ssi_signo);
	}
}

static bool make_inside(void)
{
	if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0)
		return failed("private mounts");
	if (mount("proc", "/proc", "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) != 0)
		return failed("mount /proc");
	if (hostname != NULL && sethostname(hostname, strlen(hostname)) != 0)
		return failed("sethostname");
	if (own_net && !raise_loopback())
		return failed("raise lo");
	return true;
}

static int live(int launcher)
{
	char nothing;
	struct pollfd watched[2] = { { .fd = SOCKET, .events = POLLIN }, { .events = POLLIN } };
	sigset_t all;

	/* Until the launcher has told our pid, which is the first that is to be heard, and has ended. */
	while (read(launcher, &nothing, 1) < 0 && errno == EINTR) {
	}
	close(launcher);
	/* Blocked, a signal reaches the descriptor: the kernel drops others that pid 1 has no handler for. */
	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, NULL);
	watched[1].fd = signalfd(-1, &all, SFD_CLOEXEC | SFD_NONBLOCK);
	setsid();
	if (watched[1].fd < 0 || chdir("/") != 0 || !make_inside())
		return 1;
	say("ok", -1);
	for (bool has_children = false; root == 0 || has_children;) {
		poll(watched, 2, -1);
		if (watched[1].revents != 0)
			take_signal(watched[1].fd);
		if (watched[0].revents != 0 && !hear())
			return 1;
		has_children = reap();
		if (root > 0 && watched[0].fd >= 0) {
			watched[0].fd = -1;
			close(SOCKET);
			close(IMAGES);
			close(WORK);
		}
	}
	return WIFSIGNALED(root_status) ? 128 + WTERMSIG(root_status) : WEXITSTATUS(root_status);
}

static int refuse(const char *step)
{
	say_error(step, errno);
	return 1;
}

int main(int argc, char **argv)
{
	unsigned long flags = CLONE_NEWPID | CLONE_NEWNS;
	char text[64];
	int life[2];
	long pid;

	if (argc > 1 && strcmp(argv[1], "--enter") == 0)
		return enter(argc, argv);
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--own-net") == 0)
			own_net = true;
		else if (strcmp(argv[i], "--net") == 0 && i + 1 < argc)
			net = atoi(argv[++i]);
		else if (strcmp(argv[i], "--hostname") == 0 && i + 1 < argc)
			hostname = argv[++i];
	}
	if (recv(SOCKET, text, sizeof(text), 0) <= 0)
		return 1;
	if (net >= 0 && setns(net, CLONE_NEWNET) != 0)
		return refuse("setns");
	if (net >= 0)
		close(net);
	flags |= (own_net ? CLONE_NEWNET : 0) | (hostname == NULL ? 0 : CLONE_NEWUTS);
	if (pipe2(life, O_CLOEXEC) != 0)
		return refuse("pipe");
	/* CLONE_PARENT: whoever started the launcher is the parent of pid 1, and learns how it ends. */
	pid = syscall(SYS_clone, flags | CLONE_PARENT | SIGCHLD, NULL, NULL, NULL, NULL);
	if (pid == 0) {
		close(life[1]);
		return live(life[0]);
	}
	if (pid < 0)
		return refuse("clone");
	snprintf(text, sizeof(text), "child %ld", pid);
	say(text, -1);
	return 0;
}
