/*
 * Sets POSIX record locks on behalf of another process. The kernel knows them by the process that sets them, so the
 * call has to be made in there: the process is stopped with ptrace inside of a system call, made to call fcntl, and put
 * back into its own call.
 *
 * A process that is traced already, by a tracer that waits in a system call itself, is let go by that tracer for the
 * time: the tracer is made to call ptrace in the same way. CRIU traces the root of a tree that it restores as its
 * sibling, as container runtimes want it (criu/cr-restore.c, restore_root_task, CRIU v4.2).
 */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

struct record {
	int64_t fd, type, start, length;
};

struct locks_job {
	struct sf_job job;
	int32_t pid;
	const struct record *records;
	size_t n_records;
	/* What became of each: 0 or an errno. */
	int32_t *results;
};

#ifdef __x86_64__

#include <elf.h>
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>

/* The kernel's own, in no header of user space: a call that was broken off and goes on by itself. */
#define ERESTARTSYS 512
#define ERESTART_RESTARTBLOCK 516
/* Below the 128 bytes under the stack pointer that belong to the function that runs. */
#define BELOW_STACK 256
#define STOP_TIMEOUT_MS 5000
#define IS_SYSCALL(code) (((code)&0xffff) == 0x050f)

/* Polls: a process that does not stop must not hold a thread of libuv's pool for ever. */
static int await_stop(pid_t pid)
{
	const struct timespec pause = { .tv_nsec = 200000 };

	for (int polls = 0; polls < STOP_TIMEOUT_MS * 5; polls++) {
		int status;
		pid_t got = waitpid(pid, &status, __WALL | WNOHANG);

		if (got < 0)
			return errno;
		if (got == pid)
			return WIFSTOPPED(status) ? 0 : ESRCH;
		nanosleep(&pause, NULL);
	}
	return ETIMEDOUT;
}

static int go_on_to_stop(pid_t pid)
{
	return ptrace(PTRACE_SYSCALL, pid, 0, 0) < 0 ? errno : await_stop(pid);
}

/* Runs the system call instruction before `regs.rip`: one stop as the call begins, one as it ends. */
static int call(pid_t pid, struct user_regs_struct regs, const uint64_t words[5], int64_t *result)
{
	struct user_regs_struct after;
	int err;

	regs.rip -= 2;
	regs.rax = words[0];
	regs.orig_rax = -1;
	regs.rdi = words[1];
	regs.rsi = words[2];
	regs.rdx = words[3];
	regs.r10 = words[4];
	if (ptrace(PTRACE_SETREGS, pid, 0, &regs) < 0)
		return errno;
	err = go_on_to_stop(pid);
	if (!err)
		err = go_on_to_stop(pid);
	if (err)
		return err;
	if (ptrace(PTRACE_GETREGS, pid, 0, &after) < 0)
		return errno;
	*result = after.rax;
	return 0;
}

static int call_fcntl(pid_t pid, struct user_regs_struct regs, const struct record *record, int32_t *errnum)
{
	struct flock lock = {
		.l_type = record->type,
		.l_whence = SEEK_SET,
		.l_start = record->start,
		.l_len = record->length,
	};
	uint64_t at = regs.rsp - BELOW_STACK;
	struct iovec local = { &lock, sizeof(lock) }, remote = { (void *)at, sizeof(lock) };
	int64_t result = 0;
	int err;

	if (process_vm_writev(pid, &local, 1, &remote, 1, 0) != sizeof(lock))
		return errno;
	err = call(pid, regs, (uint64_t[5]){ SYS_fcntl, record->fd, F_SETLK, at, 0 }, &result);
	if (!err)
		*errnum = result < 0 ? -result : 0;
	return err;
}

/*
 * Back to the call that was broken off: by hand, since the kernel does so only on its way out of the stop that broke it
 * off.
 */
static int put_back(pid_t pid, struct user_regs_struct regs)
{
	int64_t rax = regs.rax;

	if ((int64_t)regs.orig_rax >= 0 && rax <= -ERESTARTSYS && rax >= -ERESTART_RESTARTBLOCK) {
		regs.rax = rax == -ERESTART_RESTARTBLOCK ? SYS_restart_syscall : regs.orig_rax;
		regs.rip -= 2;
	}
	regs.orig_rax = -1;
	return ptrace(PTRACE_SETREGS, pid, 0, &regs) < 0 ? errno : 0;
}

static int get_regs_in_call(pid_t pid, struct user_regs_struct *regs)
{
	long code;

	if (ptrace(PTRACE_GETREGS, pid, 0, regs) < 0)
		return errno;
	errno = 0;
	code = ptrace(PTRACE_PEEKTEXT, pid, regs->rip - 2, 0);
	if (errno)
		return errno;
	/* It computes, and is in no call whose instruction could be borrowed. */
	return IS_SYSCALL(code) ? 0 : EAGAIN;
}

static int set_all(struct locks_job *locks, struct user_regs_struct regs)
{
	uint8_t below[sizeof(struct flock)];
	struct iovec local = { below, sizeof(below) }, remote;
	pid_t pid = locks->pid;
	int err = 0, back;

	remote = (struct iovec){ (void *)(regs.rsp - BELOW_STACK), sizeof(below) };
	if (process_vm_readv(pid, &local, 1, &remote, 1, 0) != sizeof(below))
		return errno;
	for (size_t i = 0; i < locks->n_records && !err; i++)
		err = call_fcntl(pid, regs, &locks->records[i], &locks->results[i]);
	if (process_vm_writev(pid, &local, 1, &remote, 1, 0) != sizeof(below) && !err)
		err = errno;
	back = put_back(pid, regs);
	return err ? err : back;
}

static int seize(pid_t pid)
{
	if (ptrace(PTRACE_SEIZE, pid, 0, PTRACE_O_TRACESYSGOOD) < 0)
		return errno;
	if (ptrace(PTRACE_INTERRUPT, pid, 0, 0) < 0)
		return errno;
	return await_stop(pid);
}

/*
 * Stopped or not: a tracee that did not stop in time is let go when this thread ends, which libuv's do with the
 * process.
 */
static void release_tracee(pid_t pid)
{
	ptrace(PTRACE_DETACH, pid, 0, 0);
}

/*
 * A process that was let go a moment ago may not have run since then: it is still about to make the call in which it
 * waits.
 */
static int seize_in_call(pid_t pid, struct user_regs_struct *regs)
{
	const struct timespec pause = { .tv_nsec = 1000000 };

	for (int tries = 1;; tries++) {
		int err = seize(pid);

		if (!err)
			err = get_regs_in_call(pid, regs);
		if (err != EAGAIN || tries == STOP_TIMEOUT_MS)
			return err;
		release_tracee(pid);
		nanosleep(&pause, NULL);
	}
}

/* Makes a process, while it waits in a call of its own, make these. A call's `want` is what it has to return. */
struct remote_call {
	uint64_t words[5];
	int64_t want;
};

static int make_calls(pid_t pid, const struct remote_call *calls, size_t count)
{
	struct user_regs_struct regs;
	int err = seize_in_call(pid, &regs), back;

	if (!err) {
		for (size_t i = 0; i < count && !err; i++) {
			int64_t result = 0;

			err = call(pid, regs, calls[i].words, &result);
			if (!err && result != calls[i].want)
				err = result < 0 ? -result : ECHILD;
		}
		back = put_back(pid, regs);
		err = err ? err : back;
	}
	release_tracee(pid);
	return err;
}

static int let_go(pid_t tracer, pid_t pid)
{
	const struct remote_call calls[] = {
		{ { SYS_ptrace, PTRACE_INTERRUPT, pid, 0, 0 }, 0 },
		{ { SYS_wait4, pid, 0, __WALL, 0 }, pid },
		{ { SYS_ptrace, PTRACE_DETACH, pid, 0, 0 }, 0 },
	};

	return make_calls(tracer, calls, sizeof(calls) / sizeof(*calls));
}

static int take_again(pid_t tracer, pid_t pid)
{
	const struct remote_call calls[] = { { { SYS_ptrace, PTRACE_SEIZE, pid, 0, 0 }, 0 } };

	return make_calls(tracer, calls, 1);
}

/* 0: nobody traces it. */
static pid_t tracer_of(pid_t pid)
{
	char path[40], line[128];
	int tracer = 0;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	FILE *status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status))
		if (sscanf(line, "TracerPid: %d", &tracer) == 1)
			break;
	if (status)
		fclose(status);
	return tracer;
}

static void run(struct sf_job *job)
{
	struct locks_job *locks = (struct locks_job *)job;
	pid_t tracer = tracer_of(locks->pid);
	int err = tracer == 0 ? 0 : let_go(tracer, locks->pid), again;

	if (!err) {
		struct user_regs_struct regs;

		err = seize_in_call(locks->pid, &regs);
		if (!err)
			err = set_all(locks, regs);
		release_tracee(locks->pid);
		again = tracer == 0 ? 0 : take_again(tracer, locks->pid);
		err = err ? err : again;
	}
	job->err = err;
}

#else

static void run(struct sf_job *job)
{
	job->err = ENOSYS;
}

#endif

static void release(struct sf_job *job)
{
	free(job);
}

static napi_value set_posix_locks(napi_env env, napi_callback_info info)
{
	napi_value at[3], array;
	size_t count = 3, length, offset;
	napi_typedarray_type type;
	struct locks_job *locks;
	void *records, *results;

	napi_get_cb_info(env, info, &count, at, NULL, NULL);
	locks = calloc(1, sizeof(*locks));
	if (!locks)
		return sf_throw_errno(env, ENOMEM, "ptrace");
	if (count < 3 || napi_get_value_int32(env, at[0], &locks->pid) != napi_ok ||
		napi_get_typedarray_info(env, at[1], &type, &length, &records, &array, &offset) != napi_ok ||
		type != napi_bigint64_array || length % 4 != 0 ||
		napi_get_typedarray_info(env, at[2], &type, &count, &results, &array, &offset) != napi_ok ||
		type != napi_int32_array || count != length / 4) {
		free(locks);
		napi_throw_type_error(env, NULL, "a pid, four numbers for each lock, and room for a result each");
		return NULL;
	}
	locks->records = records;
	locks->n_records = count;
	locks->results = results;
	locks->job.run = run;
	locks->job.release = release;
	return sf_job_start(env, &locks->job, "ptrace", at + 1, 2);
}

void sf_init_locks(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "setPosixLocks", set_posix_locks);
}
