/*
 * Timers, and the signals that wait. Long ones only tell whether they are armed: how much is left differs from run to
 * run.
 */
#include "row.h"
#include <sys/signalfd.h>
#include <sys/time.h>
#include <sys/timerfd.h>

#define SPEC(value_ns, period_ns) \
	(&(struct itimerspec){ .it_value = { (value_ns) / 1000000000, (value_ns) % 1000000000 }, \
		.it_interval = { (period_ns) / 1000000000, (period_ns) % 1000000000 } })
#define SECOND 1000000000L

static void say_armed(const char *what, struct timespec left, struct timespec period)
{
	say("%s %s every %ld.%09ld", what,
		left.tv_sec > 900                 ? "long"
			: left.tv_sec || left.tv_nsec ? "armed"
										  : "off",
		(long)period.tv_sec, period.tv_nsec);
}

static int new_timerfd(clockid_t clock, int flags, struct itimerspec *spec)
{
	int fd = must(timerfd_create(clock, TFD_NONBLOCK | TFD_CLOEXEC));

	must(timerfd_settime(fd, flags, spec, NULL));
	return fd;
}

static void say_timerfd(int fd)
{
	struct itimerspec now;

	must(timerfd_gettime(fd, &now));
	say_armed("", now.it_value, now.it_interval);
}

static void say_fires(int fd)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	uint64_t ticks;
	int times = 0;

	while (times < 3 && poll(&poll_fd, 1, 2000) == 1 && read(fd, &ticks, sizeof(ticks)) == sizeof(ticks))
		times++;
	say("fires %d of 3", times);
}

static int tfd_long, tfd_fast, tfd_fast_abs, tfd_abs, tfd_off, tfd_unread, tfd_once, tfd_real, tfd_boot;

SET(timerfd)
{
	tfd_long = new_timerfd(CLOCK_MONOTONIC, 0, SPEC(2000 * SECOND, 7 * SECOND));
}
GET(timerfd)
{
	say_timerfd(tfd_long);
}
SET(timerfd_fast)
{
	tfd_fast = new_timerfd(CLOCK_MONOTONIC, 0, SPEC(500000, 500000));
	usleep(5000);
}
GET(timerfd_fast)
{
	say_fires(tfd_fast);
}
SET(timerfd_fast_absolute)
{
	struct timespec now;

	clock_gettime(CLOCK_REALTIME, &now);
	tfd_fast_abs = new_timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME, SPEC(now.tv_sec * SECOND + now.tv_nsec, 500000));
	usleep(5000);
}
GET(timerfd_fast_absolute)
{
	say_fires(tfd_fast_abs);
}
/* Fires when it should, to a quarter of a second: probed with what is left against what should be. */
static int64_t due_ns, due_real_ns;
static int tfd_abs_real;
static int64_t now_ns(clockid_t clock)
{
	struct timespec now;

	clock_gettime(clock, &now);
	return now.tv_sec * SECOND + now.tv_nsec;
}
/* The time that it was not there for comes on top. */
static void say_when(int fd, clockid_t clock, int64_t due)
{
	struct itimerspec left;

	must(timerfd_gettime(fd, &left));
	say(now_ns(clock) + left.it_value.tv_sec * SECOND + left.it_value.tv_nsec < due - SECOND / 1000 ? "early"
																									: "not early");
}
SET(timerfd_absolute)
{
	due_ns = now_ns(CLOCK_MONOTONIC) + 2000 * SECOND;
	tfd_abs = new_timerfd(CLOCK_MONOTONIC, TFD_TIMER_ABSTIME, SPEC(due_ns, 0L));
}
GET(timerfd_absolute)
{
	say_when(tfd_abs, CLOCK_MONOTONIC, due_ns);
}
SET(timerfd_absolute_realtime)
{
	due_real_ns = now_ns(CLOCK_REALTIME) + 2000 * SECOND;
	tfd_abs_real = new_timerfd(CLOCK_REALTIME, TFD_TIMER_ABSTIME, SPEC(due_real_ns, 0L));
}
GET(timerfd_absolute_realtime)
{
	struct itimerspec left;
	int64_t off;

	must(timerfd_gettime(tfd_abs_real, &left));
	off = now_ns(CLOCK_REALTIME) + left.it_value.tv_sec * SECOND + left.it_value.tv_nsec - due_real_ns;
	say(off > -SECOND / 1000 && off < SECOND / 1000 ? "at its time" : "at another time");
}
SET(timerfd_off)
{
	tfd_off = new_timerfd(CLOCK_MONOTONIC, 0, SPEC(0L, 0L));
}
GET(timerfd_off)
{
	say_timerfd(tfd_off);
}
SET(timerfd_off_with_period)
{
	tfd_off = new_timerfd(CLOCK_MONOTONIC, 0, SPEC(0L, 5000000L));
}
GET(timerfd_off_with_period)
{
	usleep(10000);
	say_timerfd(tfd_off);
}
SET(timerfd_unread)
{
	tfd_unread = new_timerfd(CLOCK_MONOTONIC, 0, SPEC(1000000L, 0L));
	usleep(10000);
}
GET(timerfd_unread)
{
	uint64_t ticks = 0;

	must(read(tfd_unread, &ticks, sizeof(ticks)));
	say("%" PRIu64, ticks);
}
SET(timerfd_once)
{
	tfd_once = new_timerfd(CLOCK_BOOTTIME, 0, SPEC(2000 * SECOND, 0L));
}
GET(timerfd_once)
{
	say_timerfd(tfd_once);
}
SET(timerfd_cancel_on_set)
{
	tfd_real = new_timerfd(
		CLOCK_REALTIME, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET, SPEC((time(NULL) + 2000) * SECOND, 0L));
}
GET(timerfd_cancel_on_set)
{
	char *path;

	if (asprintf(&path, "/proc/self/fdinfo/%d", tfd_real) > 0)
		say_field(path, "settime flags");
}
SET(timerfd_boottime_fast)
{
	tfd_boot = new_timerfd(CLOCK_BOOTTIME, 0, SPEC(1000000L, 1000000L));
	usleep(5000);
}
GET(timerfd_boottime_fast)
{
	say_fires(tfd_boot);
}

static void say_itimer(int which)
{
	struct itimerval now;

	must(getitimer(which, &now));
	say("%s every %ld.%06ld",
		now.it_value.tv_sec > 900                         ? "long"
			: now.it_value.tv_sec || now.it_value.tv_usec ? "armed"
														  : "off",
		(long)now.it_interval.tv_sec, now.it_interval.tv_usec);
}
static void set_itimer(int which, long seconds)
{
	must(setitimer(which, &(struct itimerval){ { 3, 5 }, { seconds, 0 } }, NULL));
}
SET(itimer_real)
{
	set_itimer(ITIMER_REAL, 2000);
}
GET(itimer_real)
{
	say_itimer(ITIMER_REAL);
}
SET(itimer_virtual)
{
	set_itimer(ITIMER_VIRTUAL, 2000);
}
GET(itimer_virtual)
{
	say_itimer(ITIMER_VIRTUAL);
}
SET(itimer_prof)
{
	set_itimer(ITIMER_PROF, 2000);
}
GET(itimer_prof)
{
	say_itimer(ITIMER_PROF);
}
SET(alarm)
{
	alarm(2000);
}
GET(alarm)
{
	say("%s", alarm(0) > 900 ? "long" : "off");
}

static volatile sig_atomic_t alarms;
static void on_alarm(int signum)
{
	(void)signum;
	alarms++;
}
static void say_goes_on(void)
{
	sig_atomic_t before = alarms;

	for (int i = 0; i < 200 && alarms < before + 3; i++)
		usleep(10000);
	say(alarms >= before + 3 ? "goes on" : "stands still");
}
SET(itimer_real_fast)
{
	signal(SIGALRM, on_alarm);
	must(setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 500 }, { 0, 500 } }, NULL));
}
GET(itimer_real_fast)
{
	say_goes_on();
}

static timer_t ptimer, ptimer_fast, ptimer_cpu, ptimer_thread, ptimer_none, ptimer_blocked;
static void new_timer(clockid_t clock, struct sigevent *event, timer_t *timer, struct itimerspec *spec)
{
	must(timer_create(clock, event, timer));
	must(timer_settime(*timer, 0, spec, NULL));
}
static void say_timer(timer_t timer)
{
	struct itimerspec now;

	must(timer_gettime(timer, &now));
	say_armed("", now.it_value, now.it_interval);
}
static struct sigevent *event_of(int notify, int signum, int value)
{
	static struct sigevent event;

	event = (struct sigevent){ .sigev_notify = notify, .sigev_signo = signum, .sigev_value.sival_int = value };
#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif
	event.sigev_notify_thread_id = syscall(SYS_gettid);
	return &event;
}
SET(posix_timer)
{
	new_timer(CLOCK_MONOTONIC, event_of(SIGEV_SIGNAL, SIGRTMIN + 3, 42), &ptimer, SPEC(2000 * SECOND, 3 * SECOND));
}
GET(posix_timer)
{
	say_timer(ptimer);
	/* The number, the notification and its value. */
	say_field("/proc/self/timers", "signal: ");
	say(strstr(contents("/proc/self/timers"), "notify: signal/pid.") ? " to the process" : "");
}
SET(posix_timer_fast)
{
	signal(SIGRTMIN + 4, on_alarm);
	new_timer(CLOCK_MONOTONIC, event_of(SIGEV_SIGNAL, SIGRTMIN + 4, 1), &ptimer_fast, SPEC(500000L, 500000L));
}
GET(posix_timer_fast)
{
	say_goes_on();
}
SET(posix_timer_cpu)
{
	new_timer(CLOCK_PROCESS_CPUTIME_ID, event_of(SIGEV_SIGNAL, SIGRTMIN + 5, 1), &ptimer_cpu, SPEC(2000 * SECOND, 0L));
}
GET(posix_timer_cpu)
{
	say_timer(ptimer_cpu);
}
SET(posix_timer_thread)
{
	new_timer(CLOCK_MONOTONIC, event_of(SIGEV_THREAD_ID, SIGRTMIN + 6, 1), &ptimer_thread, SPEC(2000 * SECOND, 0L));
}
GET(posix_timer_thread)
{
	say_timer(ptimer_thread);
}
SET(posix_timer_none)
{
	new_timer(CLOCK_REALTIME, event_of(SIGEV_NONE, 0, 0), &ptimer_none, SPEC(2000 * SECOND, 5 * SECOND));
}
GET(posix_timer_none)
{
	say_timer(ptimer_none);
}
SET(posix_timer_pending)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 7);
	sigprocmask(SIG_BLOCK, &set, NULL);
	new_timer(CLOCK_MONOTONIC, event_of(SIGEV_SIGNAL, SIGRTMIN + 7, 77), &ptimer_blocked, SPEC(1000000L, 1000000L));
	usleep(20000);
}
/* One signal, however often it fired; the overruns tell how often. It goes on once that one is taken. */
GET(posix_timer_pending)
{
	const struct timespec soon = { 2, 0 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 7);
	for (int i = 0; i < 2; i++) {
		if (sigtimedwait(&set, &info, &soon) < 0)
			say("[none]");
		else
			say("[code %d value %d]", info.si_code, info.si_value.sival_int);
	}
}
SET(posix_timer_overrun)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 8);
	sigprocmask(SIG_BLOCK, &set, NULL);
	new_timer(CLOCK_MONOTONIC, event_of(SIGEV_SIGNAL, SIGRTMIN + 8, 77), &ptimer_blocked, SPEC(100000L, 100000L));
	usleep(100000);
	must(timer_settime(ptimer_blocked, 0, SPEC(2000 * SECOND, 0L), NULL));
}
GET(posix_timer_overrun)
{
	say("%d", timer_getoverrun(ptimer_blocked) > 0);
}

static void block(int signum)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signum);
	sigprocmask(SIG_BLOCK, &set, NULL);
}
static void say_taken(int signum)
{
	const struct timespec none = { 0, 0 };
	siginfo_t info;
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, signum);
	while (sigtimedwait(&set, &info, &none) >= 0)
		say("[%d code %d value %d from %s]", signum == SIGUSR1 ? 1 : signum - SIGRTMIN, info.si_code,
			info.si_value.sival_int, info.si_pid == getpid() ? "me" : "another");
}
SET(signal_pending)
{
	block(SIGUSR1);
	must(kill(getpid(), SIGUSR1));
}
GET(signal_pending)
{
	say_taken(SIGUSR1);
}
SET(signal_queue)
{
	block(SIGRTMIN + 9);
	for (int i = 0; i < 5; i++)
		must(sigqueue(getpid(), SIGRTMIN + 9, (union sigval){ .sival_int = i * 11 }));
}
GET(signal_queue)
{
	say_taken(SIGRTMIN + 9);
}
SET(signal_thread)
{
	block(SIGRTMIN + 10);
	must(syscall(SYS_tgkill, getpid(), syscall(SYS_gettid), SIGRTMIN + 10));
}
GET(signal_thread)
{
	say_field("/proc/thread-self/status", "SigPnd:");
	say_taken(SIGRTMIN + 10);
}
SET(signal_mask_and_handlers)
{
	struct sigaction action = { .sa_flags = SA_RESTART | SA_SIGINFO | SA_NODEFER | SA_ONSTACK | SA_NOCLDWAIT };

	action.sa_handler = on_alarm;
	sigaddset(&action.sa_mask, SIGUSR2);
	block(SIGPIPE);
	must(sigaction(SIGURG, &action, NULL));
	signal(SIGWINCH, SIG_IGN);
}
GET(signal_mask_and_handlers)
{
	struct sigaction action;

	must(sigaction(SIGURG, NULL, &action));
	say("flags %x mask %d ", action.sa_flags & ~0x04000000, sigismember(&action.sa_mask, SIGUSR2));
	say_field("/proc/self/status", "SigBlk:");
	say_field("/proc/self/status", "SigIgn:");
	say_field("/proc/self/status", "SigCgt:");
}
static char alternate[65536];
SET(signal_stack)
{
	must(sigaltstack(&(stack_t){ .ss_sp = alternate, .ss_size = sizeof(alternate) }, NULL));
}
GET(signal_stack)
{
	stack_t now;

	must(sigaltstack(NULL, &now));
	say("%d %zu %d", now.ss_sp == alternate, now.ss_size, now.ss_flags);
}
static int sfd;
SET(signalfd)
{
	sigset_t set;

	block(SIGRTMIN + 11);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 11);
	sfd = must(signalfd(-1, &set, SFD_NONBLOCK));
	must(sigqueue(getpid(), SIGRTMIN + 11, (union sigval){ .sival_int = 5 }));
}
GET(signalfd)
{
	struct signalfd_siginfo info = { 0 };
	ssize_t got = read(sfd, &info, sizeof(info));

	say("%zd %d", got, info.ssi_int);
}

static struct row time_rows[] = {
	ROW(timerfd),
	ROW(timerfd_fast),
	ROW(timerfd_fast_absolute),
	ROW(timerfd_boottime_fast),
	ROW(timerfd_absolute),
	ROW(timerfd_absolute_realtime),
	ROW(timerfd_off),
	ROW(timerfd_off_with_period),
	ROW(timerfd_unread),
	ROW(timerfd_once),
	ROW(timerfd_cancel_on_set),
	ROW(itimer_real),
	ROW(itimer_virtual),
	ROW(itimer_prof),
	ROW(alarm),
	ROW(itimer_real_fast),
	ROW(posix_timer),
	ROW(posix_timer_fast),
	ROW(posix_timer_cpu),
	ROW(posix_timer_thread),
	ROW(posix_timer_none),
	ROW(posix_timer_pending),
	ROW(posix_timer_overrun),
	ROW(signal_pending),
	ROW(signal_queue),
	ROW(signal_thread),
	ROW(signal_mask_and_handlers),
	ROW(signal_stack),
	ROW(signalfd),
};
