/* What belongs to the process itself. */
#include "row.h"
#include <grp.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/personality.h>
#include <sys/resource.h>
#include <sys/syscall.h>

SET(nice)
{
	must(setpriority(PRIO_PROCESS, 0, 7));
}
GET(nice)
{
	say("%d", getpriority(PRIO_PROCESS, 0));
}
static void say_policy(void)
{
	struct {
		uint32_t size, policy;
		uint64_t flags;
		int32_t nice;
		uint32_t priority;
		uint64_t runtime, deadline, period;
		uint32_t min, max;
	} attributes = { .size = 56 };

	syscall(SYS_sched_getattr, 0, &attributes, 56, 0);
	say("policy %u flags %lx nice %d priority %u min %u max %u", attributes.policy, (long)attributes.flags,
		attributes.nice, attributes.priority, attributes.min, attributes.max);
}
SET(sched_batch)
{
	must(sched_setscheduler(0, SCHED_BATCH, &(struct sched_param){ 0 }));
}
GET(sched_batch)
{
	say_policy();
}
SET(sched_fifo)
{
	must(sched_setscheduler(0, SCHED_FIFO, &(struct sched_param){ 3 }));
}
GET(sched_fifo)
{
	say_policy();
}
SET(sched_reset_on_fork)
{
	must(sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &(struct sched_param){ 0 }));
}
GET(sched_reset_on_fork)
{
	say_policy();
}
SET(cpu_affinity)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(1, &set);
	must(sched_setaffinity(0, sizeof(set), &set));
}
GET(cpu_affinity)
{
	say_field("/proc/self/status", "Cpus_allowed:");
}
SET(io_priority)
{
	must(syscall(SYS_ioprio_set, 1, 0, (2 << 13) | 6));
}
GET(io_priority)
{
	say("%lx", syscall(SYS_ioprio_get, 1, 0));
}
static void write_file(const char *path, const char *text)
{
	int fd = must(open(path, O_WRONLY));

	must(write(fd, text, strlen(text)));
	close(fd);
}
SET(oom_score_adj)
{
	write_file("/proc/self/oom_score_adj", "321");
}
GET(oom_score_adj)
{
	say("%.*s", 3, contents("/proc/self/oom_score_adj"));
}
SET(coredump_filter)
{
	write_file("/proc/self/coredump_filter", "0x7f");
}
GET(coredump_filter)
{
	say("%.*s", 8, contents("/proc/self/coredump_filter"));
}
SET(autogroup)
{
	write_file("/proc/self/autogroup", "5");
}
GET(autogroup)
{
	char *nice_at = strstr(contents("/proc/self/autogroup"), "nice");

	say("%.*s", nice_at ? (int)strcspn(nice_at, "\n") : 0, nice_at ? nice_at : "");
}
SET(loginuid)
{
	int fd = open("/proc/self/loginuid", O_WRONLY);

	if (fd >= 0) {
		write(fd, "1234", 4);
		close(fd);
	}
}
GET(loginuid)
{
	say("%.10s", contents("/proc/self/loginuid"));
}
static volatile int thread_running;
static void *named_thread(void *unused)
{
	prctl(PR_SET_NAME, "a thread");
	setpriority(PRIO_PROCESS, syscall(SYS_gettid), 9);
	thread_running = 1;
	for (;;)
		pause();
	return unused;
}
SET(thread_name_and_nice)
{
	pthread_t thread;

	pthread_create(&thread, NULL, named_thread, NULL);
	while (!thread_running)
		usleep(1000);
}
GET(thread_name_and_nice)
{
	char *path;
	int tid = 0;

	for (int i = 1; i < 100 && !tid; i++) {
		if (asprintf(&path, "/proc/self/task/%d/comm", getpid() + i) > 0 && access(path, F_OK) == 0)
			tid = getpid() + i;
	}
	say("%.8s %d", tid ? contents(path) : "gone", tid ? getpriority(PRIO_PROCESS, tid) : 0);
}
SET(name)
{
	must(prctl(PR_SET_NAME, "renamed"));
}
GET(name)
{
	say("%.7s", contents("/proc/self/comm"));
}

/* prctl(2): what can be set by one number and asked back. */
#define PRCTL(row, set_number, get_number, value) \
	SET(row) \
	{ \
		prctl(set_number, (unsigned long)(value), 0, 0, 0); \
	} \
	GET(row) \
	{ \
		say("%d", prctl(get_number, 0, 0, 0, 0)); \
	}
#define PRCTL_POINTER(row, set_number, get_number, value) \
	SET(row) \
	{ \
		prctl(set_number, (unsigned long)(value), 0, 0, 0); \
	} \
	GET(row) \
	{ \
		int now = -1; \
\
		prctl(get_number, &now, 0, 0, 0); \
		say("%d", now); \
	}
/* In a child: its parent comes back with it. */
static pid_t orphan_to_be;
static int death_answer[2], death_ask;
SET(parent_death_signal)
{
	int ask[2];

	must(pipe(ask));
	must(pipe(death_answer));
	orphan_to_be = must(fork());
	if (orphan_to_be == 0) {
		char byte;
		int now = -1;

		must(prctl(PR_SET_PDEATHSIG, SIGUSR1));
		must(write(death_answer[1], "r", 1));
		must(read(ask[0], &byte, 1));
		must(prctl(PR_GET_PDEATHSIG, &now));
		must(write(death_answer[1], &now, sizeof(now)));
		_exit(0);
	}
	death_ask = ask[1];
	must(read(death_answer[0], &(char){ 0 }, 1));
}
GET(parent_death_signal)
{
	int now = -1;

	must(write(death_ask, "?", 1));
	must(read(death_answer[0], &now, sizeof(now)));
	say("%d", now);
}
/* In the root of the tree, whose parent at its restore is CRIU, which ends. */
PRCTL_POINTER(parent_death_signal_of_root, PR_SET_PDEATHSIG, PR_GET_PDEATHSIG, SIGUSR1)
PRCTL_POINTER(child_subreaper, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER, 1)
PRCTL(not_dumpable, PR_SET_DUMPABLE, PR_GET_DUMPABLE, 0)
PRCTL(timer_slack, PR_SET_TIMERSLACK, PR_GET_TIMERSLACK, 123456)
PRCTL(thp_disable, PR_SET_THP_DISABLE, PR_GET_THP_DISABLE, 1)
PRCTL(no_new_privileges, PR_SET_NO_NEW_PRIVS, PR_GET_NO_NEW_PRIVS, 1)
PRCTL(keep_capabilities, PR_SET_KEEPCAPS, PR_GET_KEEPCAPS, 1)
PRCTL(secure_bits, PR_SET_SECUREBITS, PR_GET_SECUREBITS, 5)
PRCTL_POINTER(time_stamp_counter, PR_SET_TSC, PR_GET_TSC, PR_TSC_SIGSEGV)
PRCTL(io_flusher, 57, 58, 1)
PRCTL(memory_merge, 67, 68, 1)
PRCTL(deny_write_execute, 65, 66, 1)
SET(mce_kill)
{
	prctl(PR_MCE_KILL, PR_MCE_KILL_SET, PR_MCE_KILL_EARLY, 0, 0);
}
GET(mce_kill)
{
	say("%d", prctl(PR_MCE_KILL_GET, 0, 0, 0, 0));
}
SET(speculation)
{
	prctl(PR_SET_SPECULATION_CTRL, 0, PR_SPEC_DISABLE, 0, 0);
}
GET(speculation)
{
	say_field("/proc/self/status", "Speculation_Store_Bypass:");
}
SET(core_scheduling)
{
	prctl(62, 1, 0, 0, 0);
}
GET(core_scheduling)
{
	uint64_t cookie = 0;

	say("%d %d", prctl(62, 0, 0, 0, &cookie) == 0, cookie != 0);
}
SET(umask)
{
	umask(0137);
}
GET(umask)
{
	say_field("/proc/self/status", "Umask:");
}
SET(working_directory)
{
	must(mkdir(path_of("cwd"), 0700));
	must(chdir(path_of("cwd")));
}
GET(working_directory)
{
	char path[512] = "";

	say("%s", strrchr(getcwd(path, sizeof(path)) ?: "/none", '/'));
}
SET(root_directory)
{
	must(mkdir(path_of("root"), 0700));
	must(symlink("/", path_of("root/top")));
	must(chdir(path_of("root")));
}
GET(root_directory)
{
	char path[512] = "";

	must(readlink("/proc/self/root", path, sizeof(path) - 1) > 0 ? 0 : -1);
	say("%s", path);
}
SET(personality)
{
	must(personality(ADDR_NO_RANDOMIZE | UNAME26));
}
GET(personality)
{
	say("%x", personality(0xffffffff));
}
SET(resource_limits)
{
	must(setrlimit(RLIMIT_NOFILE, &(struct rlimit){ 300, 400 }));
	must(setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 12345 }));
	must(setrlimit(RLIMIT_STACK, &(struct rlimit){ 1 << 20, 1 << 22 }));
}
GET(resource_limits)
{
	struct rlimit now;

	for (int i = 0; i < RLIM_NLIMITS; i++) {
		getrlimit(i, &now);
		say("%lx/%lx ", (long)now.rlim_cur, (long)now.rlim_max);
	}
}
SET(groups)
{
	must(setgroups(3, (gid_t[]){ 11, 22, 33 }));
}
GET(groups)
{
	say_field("/proc/self/status", "Groups:");
}
SET(capabilities)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];

	must(syscall(SYS_capget, &header, data));
	data[0].effective &= ~(1u << CAP_NET_RAW);
	data[0].inheritable |= 1u << CAP_CHOWN;
	must(syscall(SYS_capset, &header, data));
	must(prctl(PR_CAPBSET_DROP, CAP_MKNOD, 0, 0, 0));
	must(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_CHOWN, 0, 0));
}
GET(capabilities)
{
	for (const char *const *key = (const char *const[]){ "CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:", NULL };
		 *key; key++)
		say_field("/proc/self/status", *key);
}
SET(seccomp_filter)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getcpu, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | 77),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	must(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_LOG, &(struct sock_fprog){ 4, code }));
}
GET(seccomp_filter)
{
	say("%d ", syscall(SYS_getcpu, NULL, NULL, NULL) < 0 ? errno : 0);
	say_field("/proc/self/status", "Seccomp_filters:");
}
static long keyring_id, key_id;
SET(keyring)
{
	keyring_id = must(syscall(SYS_keyctl, 1 /* JOIN_SESSION_KEYRING */, "state"));
	key_id = must(syscall(SYS_add_key, "user", "state", "secret", 6, -3 /* session */));
}
GET(keyring)
{
	char text[8] = "";
	long got =
		syscall(SYS_keyctl, 11 /* READ */, syscall(SYS_keyctl, 10 /* SEARCH */, -3, "user", "state", 0), text, 7);

	say("%ld %s", got, got > 0 ? text : "");
}
static char stack[65536] __attribute__((aligned(16)));
static int child_main(void *unused)
{
	(void)unused;
	for (;;)
		pause();
	return 0;
}
static pid_t zombie, stopped, odd;
SET(zombie)
{
	zombie = must(fork());
	if (zombie == 0)
		_exit(33);
	usleep(10000);
}
GET(zombie)
{
	int status = 0;

	say("%d %d", waitpid(zombie, &status, WNOHANG) == zombie, WEXITSTATUS(status));
}
static pid_t killed;
SET(zombie_killed)
{
	killed = must(fork());
	if (killed == 0) {
		setrlimit(RLIMIT_CORE, &(struct rlimit){ 0, 0 });
		raise(SIGKILL);
	}
	usleep(10000);
}
GET(zombie_killed)
{
	int status = 0;

	say("%d %d", waitpid(killed, &status, WNOHANG) == killed, WTERMSIG(status));
}
SET(child_stopped)
{
	stopped = must(fork());
	if (stopped == 0) {
		raise(SIGSTOP);
		_exit(5);
	}
	must(waitpid(stopped, NULL, WUNTRACED));
}
GET(child_stopped)
{
	char *path;
	int status = 0;

	if (asprintf(&path, "/proc/%d/status", stopped) > 0)
		say_field(path, "State:");
	kill(stopped, SIGCONT);
	waitpid(stopped, &status, 0);
	say(" %d", WEXITSTATUS(status));
}
/* The parent of a stopped child that has not asked yet. */
static pid_t unasked;
SET(child_stopped_unasked)
{
	unasked = must(fork());
	if (unasked == 0) {
		raise(SIGSTOP);
		_exit(5);
	}
	usleep(20000);
}
GET(child_stopped_unasked)
{
	int status = 0;

	say("%d", waitpid(unasked, &status, WUNTRACED | WNOHANG) == unasked);
}
SET(child_exit_signal)
{
	signal(SIGUSR2, SIG_IGN);
	odd = must(clone(child_main, stack + sizeof(stack), SIGUSR2, NULL));
}
/* Such a child is not found without __WCLONE. */
GET(child_exit_signal)
{
	int status;

	kill(odd, SIGKILL);
	usleep(20000);
	say("%d ", waitpid(odd, &status, WNOHANG) == odd);
	say("%d", waitpid(odd, &status, WNOHANG | __WCLONE) == odd);
}
SET(cpu_time)
{
	for (volatile long i = 0; clock() < CLOCKS_PER_SEC / 5; i++)
		;
}
GET(cpu_time)
{
	struct timespec used;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
	say("%s", used.tv_nsec + used.tv_sec * 1000000000L > 190000000 ? "kept" : "begins anew");
}
SET(priority_inheritance_futex)
{
	static pthread_mutex_t robust;
	pthread_mutexattr_t attributes;

	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT);
	pthread_mutex_init(&robust, &attributes);
	pthread_mutex_lock(&robust);
}
GET(priority_inheritance_futex)
{
	void *head = NULL;
	size_t length = 0;

	say("%ld %d %zu", syscall(SYS_get_robust_list, 0, &head, &length), head != NULL, length);
}
SET(rseq)
{
}
/* glibc registers each thread; the kernel keeps the CPU's number up to date for who is registered. */
GET(rseq)
{
	extern const ptrdiff_t __rseq_offset __attribute__((weak));
	volatile uint32_t *cpu;
	cpu_set_t set;

	if (!&__rseq_offset) {
		say("unsupported");
		return;
	}
	cpu = (void *)((char *)__builtin_thread_pointer() + __rseq_offset);
	for (int i = 0; i < 2; i++) {
		CPU_ZERO(&set);
		CPU_SET(i, &set);
		sched_setaffinity(0, sizeof(set), &set);
		say("%u ", cpu[1]);
	}
}
SET(membarrier)
{
	must(syscall(SYS_membarrier, 16 /* REGISTER_PRIVATE_EXPEDITED */, 0, 0));
}
GET(membarrier)
{
	say("%ld", syscall(SYS_membarrier, 8 /* PRIVATE_EXPEDITED */, 0, 0));
}

static struct row task_rows[] = {
	ROW(nice),
	ROW(sched_batch),
	ROW(sched_fifo),
	ROW(sched_reset_on_fork),
	ROW(cpu_affinity),
	ROW(io_priority),
	ROW(oom_score_adj),
	ROW(coredump_filter),
	ROW(autogroup),
	ROW(loginuid),
	ROW(thread_name_and_nice),
	ROW(name),
	ROW(parent_death_signal),
	ROW(parent_death_signal_of_root),
	ROW(child_subreaper),
	ROW(not_dumpable),
	ROW(timer_slack),
	ROW(thp_disable),
	ROW(no_new_privileges),
	ROW(keep_capabilities),
	ROW(secure_bits),
	ROW(time_stamp_counter),
	ROW(io_flusher),
	ROW(memory_merge),
	ROW(deny_write_execute),
	ROW(mce_kill),
	ROW(speculation),
	ROW(core_scheduling),
	ROW(umask),
	ROW(working_directory),
	ROW(root_directory),
	ROW(personality),
	ROW(resource_limits),
	ROW(groups),
	ROW(capabilities),
	ROW(seccomp_filter),
	ROW(keyring),
	ROW(zombie),
	ROW(zombie_killed),
	ROW(child_stopped),
	ROW(child_stopped_unasked),
	ROW(child_exit_signal),
	ROW(cpu_time),
	ROW(priority_inheritance_futex),
	ROW(rseq),
	ROW(membarrier),
};
