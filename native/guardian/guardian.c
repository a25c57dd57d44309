/*
 * stillframe-guardian: started by stillframe before it freezes anything, on a socket as descriptor 3.
 *
 * The owner sends records that end with a NUL byte (paths may hold any other):
 *   owner PID              cgroup VERSION PATH    found thawed|frozen
 *   remove PATH            forget PATH            home PATH            home-of PID STARTTIME PATH
 *   journal PATH           log PATH               place PATH           bounds CRIU_MS THAW_MS
 *   criu PID STARTTIME     window open|closed     new-cgroup PATH
 *   thaw-by MS, on CLOCK_MONOTONIC, or 0 for never
 *   tree PID STARTTIME     new PATH               destination DEVICE INODE PATH
 *   made-cgroup PATH       expect PID...          keep                 finished-by PATH
 *   mind PID STARTTIME
 *   replace DEVICE INODE DEVICE INODE HIDDEN/KEPT/PATH
 *   ready?                 disarm
 * `ready?` and `window open` are answered: `ok`, or `error ERRNO RECORD` for the first record that failed.
 *
 * A window that is still open at `thaw-by` is closed by the guardian, however the owner is; what it did then it tells
 * the owner, too, in lines that are no answers.
 *
 * After `mind` the owner may end as it likes: everything is put right when that process has ended, a copy's pid 1.
 *
 * After `disarm` it ends. When the socket closes without it, or the owner dies although somebody still holds
 * the socket, it puts everything right, writes what it did to the socket (a `recover` listens), to the system
 * log and to the log file, and ends: status 0 when all is right, 1 when the journal was left for `recover`.
 */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static struct guard guard;
static int first_error;
static char failed_record[PATH_MAX + 64];

static int copy_path(char *to, const char *path)
{
	if (path[0] != '/')
		return EINVAL;
	if (strlen(path) >= PATH_MAX)
		return ENAMETOOLONG;
	strcpy(to, path);
	return 0;
}

static int set_cgroup(struct guard *g, int version, const char *path)
{
	int err = copy_path(g->cgroup_path, path);

	if (err != 0 || version < 1 || version > 2)
		return err != 0 ? err : EINVAL;
	g->cgroup = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (g->cgroup < 0)
		return errno;
	g->version = version;
	return 0;
}

int split_path(const char *path, char *directory, const char **name)
{
	const char *slash = strrchr(path, '/');
	int err = copy_path(directory, path);

	if (err != 0)
		return err;
	directory[slash == path ? 1 : slash - path] = '\0';
	*name = slash + 1;
	return strlen(*name) > NAME_MAX ? ENAMETOOLONG : 0;
}

static int split_own_path(const char *path, char *directory, const char **name)
{
	int err = split_path(path, directory, name);

	return err == 0 && !is_our_name(*name) ? EPERM : err;
}

static int add_removal(struct guard *g, const char *path)
{
	static char directory[PATH_MAX];
	const char *name;
	int err = split_own_path(path, directory, &name);

	if (err != 0)
		return err;
	for (unsigned i = 0; i < MAX_REMOVALS; i++) {
		struct removal *r = &g->removals[i];

		if (r->name[0] != '\0')
			continue;
		r->parent = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
		if (r->parent < 0)
			return errno;
		strcpy(r->name, name);
		return 0;
	}
	return ENOSPC;
}

/* By its name alone: the names are unguessable, and the directory may have been renamed. */
static int forget_removal(struct guard *g, const char *path)
{
	static char directory[PATH_MAX];
	const char *name;
	int err = split_own_path(path, directory, &name);

	if (err != 0)
		return err;
	for (unsigned i = 0; i < MAX_REMOVALS; i++) {
		struct removal *r = &g->removals[i];

		if (strcmp(r->name, name) != 0)
			continue;
		close(r->parent);
		r->name[0] = '\0';
	}
	return 0;
}

/* A service manager kills whole cgroups: the guardian can stand in another one. "0" moves the writer itself. */
static int place_in(const char *path)
{
	int directory = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int procs = directory < 0 ? -1 : openat(directory, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	int err = procs < 0 || write(procs, "0", 1) != 1 ? errno : 0;

	if (procs >= 0)
		close(procs);
	if (directory >= 0)
		close(directory);
	return err;
}

static int add_home(struct guard *g, char *rest)
{
	char *end;
	struct home *home = &g->homes[g->home_count];

	if (g->home_count == MAX_HOMES)
		return ENOSPC;
	home->pid = (pid_t)strtol(rest, &end, 10);
	home->start_time = strtoull(end, &end, 10);
	if (*end != ' ')
		return EINVAL;
	g->home_count++;
	return copy_path(home->path, end + 1);
}

/* The descriptor is taken first and the time of start compared after: from then on it can mean no other process. */
static int set_criu(struct guard *g, char *rest)
{
	char *end;
	pid_t pid = (pid_t)strtol(rest, &end, 10);
	uint64_t wanted = strtoull(end, &end, 10), found = 0;

	if (pid <= 0 || *end != '\0')
		return EINVAL;
	if (g->criu_pidfd >= 0)
		close(g->criu_pidfd);
	g->criu_pidfd = open_pidfd(pid);
	g->criu = pid;
	g->criu_start_time = wanted;
	if (g->criu_pidfd < 0)
		return errno == ESRCH ? 0 : errno; /* it ended already: nothing to wait for */
	if (process_state(pid, &found) != 0 && found == wanted)
		return 0;
	close(g->criu_pidfd);
	g->criu_pidfd = -1;
	return 0;
}

static int set_bounds(struct guard *g, char *rest)
{
	char *end;

	g->criu_bound_ms = (unsigned)strtoul(rest, &end, 10);
	g->thaw_bound_ms = (unsigned)strtoul(end, &end, 10);
	return *end == '\0' ? 0 : EINVAL;
}

static void set_owner(struct guard *g, pid_t pid, int *owner_pidfd)
{
	g->owner = pid;
	/* Only while it is our parent is the pid sure to be its own; if it died already, the socket says so. */
	if (getppid() == pid)
		*owner_pidfd = open_pidfd(pid);
}

static void answer(void)
{
	static char text[sizeof(failed_record) + 32];
	int bytes = 3;

	if (first_error == 0)
		strcpy(text, "ok");
	else
		bytes = 1 + snprintf(text, sizeof(text), "error %d %s", first_error, failed_record);
	if (write(SOCKET, text, (size_t)bytes) < 0) {
		/* The owner is gone, which the next read tells. */
	}
	first_error = 0;
}

static void obey(struct guard *g, char *record, int *owner_pidfd)
{
	char *rest = strchr(record, ' ');
	int err = 0;

	rest = rest == NULL ? record + strlen(record) : rest + 1;
	if (strcmp(record, "disarm") == 0)
		_exit(0);
	else if (strcmp(record, "ready?") == 0)
		answer();
	else if (strcmp(record, "window open") == 0) {
		g->window = WINDOW_OPEN;
		answer();
	} else if (starts_with(record, "thaw-by "))
		g->thaw_by_ms = strtoull(rest, NULL, 10);
	else if (strcmp(record, "window closed") == 0)
		g->window = WINDOW_CLOSED;
	else if (starts_with(record, "criu "))
		err = set_criu(g, rest);
	else if (starts_with(record, "remove "))
		err = add_removal(g, rest);
	else if (starts_with(record, "forget "))
		err = forget_removal(g, rest);
	else if (starts_with(record, "cgroup ") && rest[0] != '\0' && rest[1] == ' ')
		err = set_cgroup(g, rest[0] - '0', rest + 2);
	else if (starts_with(record, "found "))
		g->found_frozen = strcmp(rest, "frozen") == 0;
	else if (starts_with(record, "home-of "))
		err = add_home(g, rest);
	else if (starts_with(record, "new-cgroup "))
		err = copy_path(g->new_cgroup, rest);
	else if (starts_with(record, "home "))
		err = copy_path(g->home, rest);
	else if (starts_with(record, "tree "))
		err = add_tree(g, rest);
	else if (starts_with(record, "expect "))
		err = expect_pids(g, rest);
	else if (starts_with(record, "new "))
		err = add_new_name(g, rest);
	else if (starts_with(record, "destination "))
		err = add_destination(g, rest);
	else if (starts_with(record, "replace "))
		err = add_replacement(g, rest);
	else if (starts_with(record, "made-cgroup "))
		err = copy_path(g->made_cgroup, rest);
	else if (starts_with(record, "finished-by "))
		err = copy_path(g->finished_by, rest);
	else if (strcmp(record, "keep") == 0)
		keep_restored(g);
	else if (starts_with(record, "mind "))
		err = mind_copy(g, rest);
	else if (starts_with(record, "journal "))
		err = copy_path(g->journal, rest);
	else if (starts_with(record, "log "))
		err = copy_path(g->log, rest);
	else if (starts_with(record, "place "))
		err = place_in(rest);
	else if (starts_with(record, "bounds "))
		err = set_bounds(g, rest);
	else if (starts_with(record, "owner "))
		set_owner(g, (pid_t)strtol(rest, NULL, 10), owner_pidfd);
	else
		err = ENOSYS;
	if (err != 0 && first_error == 0) {
		first_error = err;
		snprintf(failed_record, sizeof(failed_record), "%s", record);
	}
}

/* One read's worth of records. False at the end of the stream, or when nothing waits and `flags` forbid to wait. */
static bool read_records(struct guard *g, int *owner_pidfd, bool may_wait)
{
	static char buffer[2 * PATH_MAX];
	static size_t held;
	struct pollfd readable = { .fd = SOCKET, .events = POLLIN };
	ssize_t n;

	if (!may_wait && poll(&readable, 1, 0) <= 0)
		return false;
	/* A record longer than the buffer is none of ours: the owner is not what we think. */
	if (held == sizeof(buffer))
		return false;
	n = read(SOCKET, buffer + held, sizeof(buffer) - held);
	if (n < 0 && errno == EINTR)
		return true;
	if (n <= 0)
		return false;
	held += (size_t)n;
	for (char *end; (end = memchr(buffer, '\0', held)) != NULL;) {
		size_t bytes = (size_t)(end - buffer) + 1;

		obey(g, buffer, owner_pidfd);
		held -= bytes;
		memmove(buffer, buffer + bytes, held);
	}
	return true;
}

/* Until the window has to be closed, for poll. */
static int patience_ms(const struct guard *g)
{
	uint64_t now = now_ms();

	if (g->thaw_by_ms == 0 || g->window != WINDOW_OPEN)
		return -1;
	if (g->thaw_by_ms <= now)
		return 0;
	return g->thaw_by_ms - now > INT_MAX ? INT_MAX : (int)(g->thaw_by_ms - now);
}

/* Returns when the owner is gone: `disarm` ends the process itself. */
static void watch(struct guard *g)
{
	struct pollfd watched[2] = { { .fd = SOCKET, .events = POLLIN }, { .fd = -1, .events = POLLIN } };

	for (;;) {
		int ready = poll(watched, 2, patience_ms(g));

		/* What the owner has said counts first: it may have thawed. */
		if (ready == 0 && patience_ms(g) == 0)
			thaw_late(g);
		if (ready <= 0)
			continue;
		if (watched[0].revents != 0 && !read_records(g, &watched[1].fd, true))
			return;
		if (watched[1].revents != 0) {
			/* Dead, though a process that it forked still holds the socket. What it said last still counts. */
			while (read_records(g, &watched[1].fd, false)) {
			}
			return;
		}
	}
}

static void put_right(struct guard *g)
{
	tell(g, "owner %d is gone", (int)g->owner);
	await_copy(g);
	/* Before its CRIU, which sees that and ends, or has become the leader of the tree's session and would never. */
	end_trees(g);
	await_criu(g);
	keep_if_finished(g);
	end_trees(g);
	restore_freezer(g);
	await_trees(g);
	give_tree_back(g);
	remove_new_cgroup(g);
	remove_made_cgroup(g);
	remove_destinations(g);
	settle_replacements(g);
	for (unsigned i = 0; i < MAX_REMOVALS; i++) {
		struct removal *r = &g->removals[i];
		int err = r->name[0] == '\0' ? ENOENT : remove_tree(r->parent, r->name);

		if (err == 0)
			tell(g, "removed %s", r->name);
		else if (err != ENOENT)
			tell_failure(g, err, "cannot remove %s", r->name);
	}
	/* Left behind, the journal lets `stillframe recover` try again. */
	if (!g->failed && g->journal[0] != '\0' && unlink(g->journal) != 0 && errno != ENOENT)
		tell_failure(g, errno, "cannot remove the journal %s", g->journal);
	write_logs(g);
}

static void leave_everything_behind(void)
{
	/* SIGTERM too: a service manager sends it to all of a service, and the owner, which may be busy with the
	 * window, still needs us. We end when the owner does. */
	static const int ignored[] = { SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGPIPE, SIGALRM, SIGUSR1, SIGUSR2, SIGTSTP,
		SIGTTIN, SIGTTOU };
	int score;

	for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++)
		signal(ignored[i], SIG_IGN);
	setsid(); /* fails when we lead one already, which is as good */
	syscall(SYS_close_range, SOCKET + 1, ~0u, 0);
	if (chdir("/") != 0)
		_exit(1);
	/* The out-of-memory killer often follows the death of what we watch. Needs CAP_SYS_RESOURCE: try. */
	score = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
	if (score >= 0) {
		if (write(score, "-1000", 5) != 5) {
			/* Not allowed. */
		}
		close(score);
	}
}

int main(void)
{
	guard.cgroup = -1;
	guard.criu_pidfd = -1;
	guard.copy_pidfd = -1;
	guard.criu_bound_ms = 10000;
	guard.thaw_bound_ms = 30000;
	leave_everything_behind();
	watch(&guard);
	put_right(&guard);
	return guard.failed ? 1 : 0;
}
