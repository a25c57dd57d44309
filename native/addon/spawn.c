/*
 * Processes started without copying this one's address space.
 *
 * Node's own way forks: with a runtime's hundreds of megabytes mapped that takes 2 ms, all of them on the event loop
 * (measured: Node 20, libuv 1.46). posix_spawn(3) shares the memory until the exec (clone with CLONE_VM | CLONE_VFORK),
 * and its caller sleeps that long, 0.3 ms when a core is free. On the event loop that is the shortest way to a child;
 * where many start together and cores are short, a thread of libuv's pool waits in its place: two wake-ups more.
 *
 * The end shows on a pidfd, and is fetched by it: libuv, which waits for its own children by pid, never sees ours.
 */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#ifndef P_PIDFD
#define P_PIDFD 3 /* Linux 5.4; older C libraries do not name it */
#endif

struct spawn {
	struct sf_job job; /* which one that starts at once has only the errors of */
	char *path;
	char *cwd; /* NULL: ours */
	char **argv;
	char **envp;
	int *fds; /* duplicates of ours, each with a number that no target has; -1 is /dev/null */
	uint32_t fd_count;
	bool shares_session; /* and has a process group of its own there */
	bool opens_terminal; /* descriptor 0 is opened anew */
	int umask; /* -1: ours */
	pid_t pid;
	int pidfd;
};

static void free_strings(char **strings)
{
	for (char **s = strings; s && *s; s++)
		free(*s);
	free(strings);
}

static void release(struct sf_job *job)
{
	struct spawn *spawn = (struct spawn *)job;

	for (uint32_t i = 0; i < spawn->fd_count; i++)
		if (spawn->fds[i] >= 0)
			close(spawn->fds[i]);
	free(spawn->path);
	free(spawn->cwd);
	free_strings(spawn->argv);
	free_strings(spawn->envp);
	free(spawn->fds);
	free(spawn);
}

/*
 * NULL also for one with a zero byte in it: the kernel would take it for its first part, another program's name for
 * example.
 */
static char *read_string(napi_env env, napi_value value)
{
	size_t length;
	char *text;

	if (napi_get_value_string_utf8(env, value, NULL, 0, &length) != napi_ok)
		return NULL;
	text = malloc(length + 1);
	if (text)
		napi_get_value_string_utf8(env, value, text, length + 1, NULL);
	if (text && strlen(text) != length) {
		free(text);
		return NULL;
	}
	return text;
}

static char **read_strings(napi_env env, napi_value array)
{
	uint32_t length;
	char **strings;

	if (napi_get_array_length(env, array, &length) != napi_ok)
		return NULL;
	strings = calloc(length + 1, sizeof(*strings));
	for (uint32_t i = 0; strings && i < length; i++) {
		napi_value element;

		napi_get_element(env, array, i, &element);
		strings[i] = read_string(env, element);
		if (!strings[i]) {
			free_strings(strings);
			return NULL;
		}
	}
	return strings;
}

/*
 * This process's own environment. On the caller's thread: nobody changes it meanwhile, as a thread of the pool could
 * not say.
 */
static char **copy_environment(void)
{
	size_t count = 0;
	char **strings;

	while (environ[count])
		count++;
	strings = calloc(count + 1, sizeof(*strings));
	for (size_t i = 0; strings && i < count; i++) {
		strings[i] = strdup(environ[i]);
		if (!strings[i]) {
			free_strings(strings);
			return NULL;
		}
	}
	return strings;
}

/* Duplicates the descriptors above all numbers that they are to have in the child. Returns 0 or an errno. */
static int take_fds(napi_env env, napi_value array, struct spawn *spawn)
{
	uint32_t length;

	if (napi_get_array_length(env, array, &length) != napi_ok)
		return EINVAL;
	spawn->fds = calloc(length + 1, sizeof(*spawn->fds));
	if (!spawn->fds)
		return ENOMEM;
	for (uint32_t i = 0; i < length; i++) {
		napi_value element;
		int fd;

		napi_get_element(env, array, i, &element);
		if (napi_get_value_int32(env, element, &fd) != napi_ok)
			return EINVAL;
		if (fd >= 0 && (fd = fcntl(fd, F_DUPFD_CLOEXEC, (int)length)) < 0)
			return errno;
		spawn->fds[i] = fd;
		spawn->fd_count = i + 1;
	}
	return 0;
}

/*
 * What a child of libuv's gets too: default dispositions and an empty mask. And a session, or process group, of its
 * own.
 */
static int set_attributes(posix_spawnattr_t *attributes, const struct spawn *spawn)
{
	sigset_t all, none;

	sigfillset(&all);
	sigemptyset(&none);
	posix_spawnattr_setsigdefault(attributes, &all);
	posix_spawnattr_setsigmask(attributes, &none);
	posix_spawnattr_setpgroup(attributes, 0);
	return posix_spawnattr_setflags(attributes,
		POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETSIGMASK |
			(spawn->shares_session ? POSIX_SPAWN_SETPGROUP : POSIX_SPAWN_SETSID));
}

static int set_actions(posix_spawn_file_actions_t *actions, const struct spawn *spawn)
{
	char path[sizeof("/proc/self/fd/") + 10];
	int err = 0;

	for (uint32_t i = 0; !err && i < spawn->fd_count; i++) {
		if (i == 0 && spawn->opens_terminal) {
			/*
			 * Without O_NOCTTY: the leader of a new session gets it as its controlling terminal, unless another session
			 * has it.
			 */
			snprintf(path, sizeof(path), "/proc/self/fd/%d", spawn->fds[i]);
			err = posix_spawn_file_actions_addopen(actions, (int)i, path, O_RDWR, 0);
		} else if (spawn->fds[i] < 0)
			err = posix_spawn_file_actions_addopen(actions, (int)i, "/dev/null", O_RDWR, 0);
		else
			err = posix_spawn_file_actions_adddup2(actions, spawn->fds[i], (int)i);
	}
	if (!err && spawn->cwd)
		err = posix_spawn_file_actions_addchdir_np(actions, spawn->cwd);
	return err;
}

/* A child whose end nobody would see. */
static void end_child(struct spawn *spawn)
{
	kill(spawn->pid, SIGKILL);
	while (waitpid(spawn->pid, NULL, 0) < 0 && errno == EINTR) {
	}
}

static void start(struct spawn *spawn)
{
	posix_spawn_file_actions_t actions;
	posix_spawnattr_t attributes;

	posix_spawn_file_actions_init(&actions);
	posix_spawnattr_init(&attributes);
	spawn->job.syscall = "spawn";
	spawn->job.err = set_attributes(&attributes, spawn);
	if (!spawn->job.err)
		spawn->job.err = set_actions(&actions, spawn);
	if (!spawn->job.err)
		spawn->job.err = posix_spawn(&spawn->pid, spawn->path, &actions, &attributes, spawn->argv, spawn->envp);
	posix_spawnattr_destroy(&attributes);
	posix_spawn_file_actions_destroy(&actions);
	if (spawn->job.err)
		return;
	/* Always close-on-exec. Until it is reaped, which nobody but us does, the pid is the child's. */
	spawn->pidfd = (int)syscall(SYS_pidfd_open, spawn->pid, 0);
	if (spawn->pidfd >= 0)
		return;
	spawn->job.err = errno;
	spawn->job.syscall = "pidfd_open";
	end_child(spawn);
}

/*
 * posix_spawn(3) knows no umask, and that of this process is its own: this thread takes leave of it, and its child
 * inherits what it sets.
 */
static void *start_with_umask(void *data)
{
	struct spawn *spawn = data;

	if (unshare(CLONE_FS)) {
		spawn->job.err = errno;
		spawn->job.syscall = "unshare";
		return NULL;
	}
	umask((mode_t)spawn->umask);
	start(spawn);
	return NULL;
}

static void run(struct sf_job *job)
{
	struct spawn *spawn = (struct spawn *)job;
	pthread_t thread;

	if (spawn->umask < 0) {
		start(spawn);
		return;
	}
	/*
	 * One of its own, which ends with this: a thread of the pool would keep its working directory to itself from then
	 * on.
	 */
	spawn->job.syscall = "pthread_create";
	spawn->job.err = pthread_create(&thread, NULL, start_with_umask, spawn);
	if (!spawn->job.err)
		pthread_join(thread, NULL);
}

/*
 * The arguments of both functions. NULL, with the exception thrown: they are wrong, or there is no memory or descriptor
 * left.
 */
static struct spawn *read_arguments(napi_env env, napi_callback_info info)
{
	napi_value args[8];
	napi_valuetype cwd_type, env_type;
	size_t argc = 8;
	struct spawn *spawn = calloc(1, sizeof(*spawn));
	int err;

	if (!spawn) {
		sf_throw_errno(env, ENOMEM, "malloc");
		return NULL;
	}
	napi_get_cb_info(env, info, &argc, args, NULL, NULL);
	if (argc >= 5) {
		napi_typeof(env, args[2], &env_type);
		napi_typeof(env, args[4], &cwd_type);
		spawn->path = read_string(env, args[0]);
		spawn->argv = read_strings(env, args[1]);
		spawn->envp = env_type == napi_undefined ? copy_environment() : read_strings(env, args[2]);
		napi_get_value_bool(env, args[5], &spawn->shares_session);
		napi_get_value_bool(env, args[6], &spawn->opens_terminal);
		if (napi_get_value_int32(env, args[7], &spawn->umask) != napi_ok)
			spawn->umask = -1;
	}
	if (!spawn->path || !spawn->argv || !spawn->envp ||
		(cwd_type == napi_string && !(spawn->cwd = read_string(env, args[4])))) {
		release(&spawn->job);
		napi_throw_type_error(env, NULL,
			"path, arguments, environment, descriptors, cwd, sharesSession, opensTerminal, umask; without zero bytes");
		return NULL;
	}
	err = take_fds(env, args[3], spawn);
	if (err) {
		release(&spawn->job);
		sf_throw_errno(env, err, "fcntl");
		return NULL;
	}
	return spawn;
}

/*
 * [pid, pidfd]; NULL, with no child, when there is no JavaScript any more that could have them (a worker was
 * terminated).
 */
static napi_value result(napi_env env, struct sf_job *job)
{
	struct spawn *spawn = (struct spawn *)job;
	napi_value pair, number;

	if (!(spawn->job.err = sf_hold_child(env, spawn->pidfd))) {
		if (napi_create_array_with_length(env, 2, &pair) == napi_ok &&
			napi_create_int32(env, spawn->pid, &number) == napi_ok &&
			napi_set_element(env, pair, 0, number) == napi_ok &&
			napi_create_int32(env, spawn->pidfd, &number) == napi_ok &&
			napi_set_element(env, pair, 1, number) == napi_ok)
			return pair;
		sf_close_fd(env, spawn->pidfd);
		spawn->job.err = ECANCELED;
	} else {
		close(spawn->pidfd);
	}
	spawn->job.syscall = "spawn";
	end_child(spawn);
	return NULL;
}

static napi_value spawn_now(napi_env env, napi_callback_info info)
{
	napi_value pair = NULL;
	struct spawn *spawn = read_arguments(env, info);

	if (!spawn)
		return NULL;
	run(&spawn->job);
	if (!spawn->job.err)
		pair = result(env, &spawn->job);
	if (spawn->job.err)
		sf_throw_errno(env, spawn->job.err, spawn->job.syscall);
	release(&spawn->job);
	return pair;
}

static napi_value spawn_in_thread(napi_env env, napi_callback_info info)
{
	struct spawn *spawn = read_arguments(env, info);

	if (!spawn)
		return NULL;
	spawn->job.run = run;
	spawn->job.result = result;
	spawn->job.release = release;
	return sf_job_start(env, &spawn->job, "stillframe:spawn", NULL, 0);
}

static napi_value pidfd_open(napi_env env, napi_callback_info info)
{
	napi_value arg, result;
	size_t argc = 1;
	int pid, pidfd, err;

	napi_get_cb_info(env, info, &argc, &arg, NULL, NULL);
	if (argc < 1 || napi_get_value_int32(env, arg, &pid) != napi_ok) {
		napi_throw_type_error(env, NULL, "pidfdOpen(pid)");
		return NULL;
	}
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	if (pidfd < 0)
		return sf_throw_errno(env, errno, "pidfd_open");
	err = sf_hold_fd(env, pidfd);
	if (err) {
		close(pidfd);
		return sf_throw_errno(env, err, "malloc");
	}
	napi_create_int32(env, pidfd, &result);
	return result;
}

static napi_value reap(napi_env env, napi_callback_info info)
{
	napi_value arg, result;
	size_t argc = 1;
	int pidfd;
	siginfo_t end = { 0 };

	napi_get_cb_info(env, info, &argc, &arg, NULL, NULL);
	if (argc < 1 || napi_get_value_int32(env, arg, &pidfd) != napi_ok) {
		napi_throw_type_error(env, NULL, "reap(pidfd)");
		return NULL;
	}
	if (waitid((idtype_t)P_PIDFD, (id_t)pidfd, &end, WEXITED | WNOHANG))
		return sf_throw_errno(env, errno, "waitid");
	if (end.si_pid == 0)
		return NULL;
	napi_create_int32(env, end.si_code == CLD_EXITED ? end.si_status : -end.si_status, &result);
	return result;
}

/* include/uapi/linux/pidfd.h, v6.15: struct pidfd_info as it was first, and the part that says how a process ended. */
struct process_info {
	uint64_t mask;
	uint64_t cgroup;
	uint32_t ids[11];
	int32_t wait_status;
};
#define ASK_PROCESS_INFO _IOWR(0xff, 11, struct process_info)
#define INFO_EXIT (1 << 3)

/* undefined: not reaped yet, or a kernel that does not tell */
static napi_value wait_status(napi_env env, napi_callback_info info)
{
	napi_value arg, result;
	size_t argc = 1;
	int pidfd;
	struct process_info process = { .mask = INFO_EXIT };

	napi_get_cb_info(env, info, &argc, &arg, NULL, NULL);
	if (argc < 1 || napi_get_value_int32(env, arg, &pidfd) != napi_ok) {
		napi_throw_type_error(env, NULL, "waitStatus(pidfd)");
		return NULL;
	}
	if (ioctl(pidfd, ASK_PROCESS_INFO, &process) != 0 || (process.mask & INFO_EXIT) == 0)
		return NULL;
	napi_create_int32(env, process.wait_status, &result);
	return result;
}

static napi_value pair_of(napi_env env, const int *fds)
{
	napi_value array, number;

	napi_create_array_with_length(env, 2, &array);
	for (uint32_t i = 0; i < 2; i++) {
		napi_create_int32(env, fds[i], &number);
		napi_set_element(env, array, i, number);
	}
	return array;
}

static napi_value pipe_pair(napi_env env, napi_callback_info info)
{
	int fds[2], err;

	if (pipe2(fds, O_CLOEXEC))
		return sf_throw_errno(env, errno, "pipe2");
	/* Of this end's open file alone: the one that writes blocks, as programs expect of their stderr. */
	if (fcntl(fds[0], F_SETFL, O_NONBLOCK)) {
		err = errno;
		close(fds[0]);
		close(fds[1]);
		return sf_throw_errno(env, err, "fcntl");
	}
	err = sf_hold_pair(env, fds);
	if (err)
		return sf_throw_errno(env, err, "malloc");
	return pair_of(env, fds);
}

static napi_value open_pipe(napi_env env, napi_callback_info info)
{
	int fds[2];

	if (pipe2(fds, O_CLOEXEC))
		return sf_throw_errno(env, errno, "pipe2");
	return pair_of(env, fds);
}

static napi_value terminal_session(napi_env env, napi_callback_info info)
{
	napi_value arg, result;
	size_t argc = 1;
	int fd;
	pid_t session;

	napi_get_cb_info(env, info, &argc, &arg, NULL, NULL);
	if (argc < 1 || napi_get_value_int32(env, arg, &fd) != napi_ok) {
		napi_throw_type_error(env, NULL, "tcgetsid(fd)");
		return NULL;
	}
	session = tcgetsid(fd);
	if (session < 0)
		return sf_throw_errno(env, errno, "tcgetsid");
	napi_create_int32(env, session, &result);
	return result;
}

void sf_init_spawn(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "spawn", spawn_now);
	sf_set_function(env, exports, "spawnInThread", spawn_in_thread);
	sf_set_function(env, exports, "pidfdOpen", pidfd_open);
	sf_set_function(env, exports, "reap", reap);
	sf_set_function(env, exports, "waitStatus", wait_status);
	sf_set_function(env, exports, "pipe", pipe_pair);
	sf_set_function(env, exports, "openPipe", open_pipe);
	sf_set_function(env, exports, "tcgetsid", terminal_session);
}
