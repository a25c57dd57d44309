/* The freezer, and an adopted tree: what the guardian puts right once CRIU has ended, in this order. */
#include "guardian.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#define REWRITE_MS 250
#define RMDIR_BOUND_MS 2000
#define MAX_ANCESTORS 64

/* A control file's first bytes, from its front: also what re-arms the kernel's notification. */
static int read_control(int file, char *text, size_t size)
{
	ssize_t n = pread(file, text, size - 1, 0);

	if (n < 0)
		return errno;
	text[n] = '\0';
	return 0;
}

static int write_wish(const struct guard *g, bool frozen)
{
	const char *value = g->version == 1 ? (frozen ? "FROZEN" : "THAWED") : (frozen ? "1" : "0");
	int file = openat(g->cgroup, g->version == 1 ? "freezer.state" : "cgroup.freeze", O_WRONLY | O_CLOEXEC);
	int err = 0;

	if (file < 0)
		return errno;
	if (write(file, value, strlen(value)) < 0)
		err = errno;
	close(file);
	return err;
}

static int is_fact(const struct guard *g, int fact, bool frozen, bool *reached)
{
	char text[256];
	int err = read_control(fact, text, sizeof(text));

	if (err != 0)
		return err;
	if (g->version == 1)
		*reached = starts_with(text, frozen ? "FROZEN" : "THAWED"); /* FREEZING is neither */
	else
		*reached = (strstr(text, "frozen 1") != NULL) == frozen;
	return 0;
}

static bool first_byte_is_1(int directory, const char *name)
{
	char text[8] = "";
	int file = openat(directory, name, O_RDONLY | O_CLOEXEC);

	if (file < 0)
		return false;
	if (read_control(file, text, sizeof(text)) != 0)
		text[0] = '\0';
	close(file);
	return text[0] == '1';
}

static bool ancestor_is_frozen(const struct guard *g)
{
	int directory;
	bool frozen = false;

	if (g->version == 1)
		return first_byte_is_1(g->cgroup, "freezer.parent_freezing");
	directory = openat(g->cgroup, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);
	/* The root of the hierarchy, and what is above the mount, have no cgroup.freeze. */
	while (directory >= 0 && !frozen && faccessat(directory, "cgroup.freeze", F_OK, 0) == 0) {
		int parent = openat(directory, "..", O_PATH | O_DIRECTORY | O_CLOEXEC);

		frozen = first_byte_is_1(directory, "cgroup.freeze");
		close(directory);
		directory = parent;
	}
	if (directory >= 0)
		close(directory);
	return frozen;
}

static bool cgroup_is_gone(int err)
{
	return err == ENOENT || err == ENODEV;
}

/* Writes the wish again and again: CRIU, or whoever else, may have written another in between. */
static int wish_until_fact(struct guard *g, bool wish, bool *held_by_ancestor)
{
	uint64_t deadline = now_ms() + g->thaw_bound_ms;
	int fact = openat(g->cgroup, g->version == 1 ? "freezer.state" : "cgroup.events", O_RDONLY | O_CLOEXEC);
	int err = fact < 0 ? errno : 0;

	for (bool reached = false; err == 0 && !reached;) {
		uint64_t rewrite = now_ms() + REWRITE_MS;

		err = write_wish(g, wish);
		while (err == 0 && now_ms() < rewrite) {
			struct pollfd changed = { .fd = fact, .events = POLLPRI };

			err = is_fact(g, fact, wish, &reached);
			if (err != 0 || reached)
				break;
			/* The notification is v2's own; v1 is asked again after the time-out. */
			poll(&changed, g->version == 2, g->version == 2 ? 20 : 2);
		}
		if (err != 0 || reached)
			break;
		if (!wish && (*held_by_ancestor = ancestor_is_frozen(g)))
			break;
		if (now_ms() >= deadline)
			err = ETIMEDOUT;
	}
	if (fact >= 0)
		close(fact);
	return err;
}

void restore_freezer(struct guard *g)
{
	bool held_by_ancestor = false;
	int err;

	if (g->version == 0 || g->window != WINDOW_OPEN)
		return;
	err = wish_until_fact(g, g->found_frozen, &held_by_ancestor);
	if (cgroup_is_gone(err))
		tell(g, "cgroup %s is gone", g->cgroup_path);
	else if (err != 0)
		tell_failure(g, err, "cannot %s cgroup %s", g->found_frozen ? "leave frozen" : "thaw", g->cgroup_path);
	else if (held_by_ancestor)
		tell(g, "thawed cgroup %s, which an ancestor keeps frozen", g->cgroup_path);
	else
		tell(g, "%s cgroup %s", g->found_frozen ? "left frozen, as found," : "thawed", g->cgroup_path);
}

void thaw_late(struct guard *g)
{
	g->thaw_by_ms = 0;
	if (g->version == 0 || g->window != WINDOW_OPEN || g->found_frozen)
		return;
	tell(g, "owner %d did not thaw in time", (int)g->owner);
	restore_freezer(g);
	write_logs(g);
	/* At the owner's death everything is tried, and told, anew. */
	g->failed = false;
	g->report_bytes = 0;
}

/* Its own, or that of the nearest ancestor that has one: it was forked since. */
static const char *home_of(const struct guard *g, pid_t pid)
{
	uint64_t start_time = 0;

	for (unsigned depth = 0; g->home_count > 0 && pid > 1 && depth < MAX_ANCESTORS; depth++, pid = parent_of(pid)) {
		for (unsigned i = 0; i < g->home_count; i++) {
			if (g->homes[i].pid == pid && process_state(pid, &start_time) != 0 && start_time == g->homes[i].start_time)
				return g->homes[i].path;
		}
	}
	return g->home;
}

static int move_to(const char *home, pid_t pid)
{
	char digits[24], *p = digits + sizeof(digits);
	int directory = open(home, O_PATH | O_DIRECTORY | O_CLOEXEC);
	int procs = directory < 0 ? -1 : openat(directory, "cgroup.procs", O_WRONLY | O_CLOEXEC);
	int err = procs < 0 ? errno : 0;

	for (pid_t rest = pid; rest > 0; rest /= 10)
		*--p = (char)('0' + rest % 10);
	if (procs >= 0 && write(procs, p, (size_t)(digits + sizeof(digits) - p)) < 0)
		err = errno == ESRCH ? 0 : errno; /* it ended meanwhile */
	if (procs >= 0)
		close(procs);
	if (directory >= 0)
		close(directory);
	return err;
}

/* The first page of the list; what does not fit comes in the next round. Returns the number found, or -errno. */
static int move_some(struct guard *g)
{
	char text[4096], *p = text, *end;
	int procs = openat(g->cgroup, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	int err = procs < 0 ? errno : read_control(procs, text, sizeof(text));
	int found = 0;

	if (procs >= 0)
		close(procs);
	/* Only whole lines: the last pid may have been cut. */
	while (err == 0 && (end = strchr(p, '\n')) != NULL) {
		pid_t pid = (pid_t)strtol(p, NULL, 10);

		err = pid > 0 ? move_to(home_of(g, pid), pid) : 0;
		/* Its own home was removed meanwhile. */
		if (cgroup_is_gone(err))
			err = move_to(g->home, pid);
		found++;
		p = end + 1;
	}
	return err != 0 ? -err : found;
}

void give_tree_back(struct guard *g)
{
	uint64_t deadline;
	int moved = 0, found, err = 0;

	if (g->version == 0 || g->home[0] == '\0')
		return;
	deadline = now_ms() + g->thaw_bound_ms;
	/* Until none is left: tasks fork while they are moved. */
	for (; (found = move_some(g)) > 0 && now_ms() < deadline; sleep_ms(1))
		moved += found;
	if (found < 0 && !cgroup_is_gone(-found)) {
		tell_failure(g, -found, "cannot move the tree from %s back to %s", g->cgroup_path, g->home);
		return;
	}
	if (moved > 0)
		tell(g, "moved %d processes back to %s", moved, g->home);
	/* A task that is just ending keeps its cgroup for an instant. */
	for (deadline = now_ms() + RMDIR_BOUND_MS; rmdir(g->cgroup_path) != 0; sleep_ms(5)) {
		err = errno;
		if (err == ENOENT)
			return;
		if (now_ms() >= deadline) {
			tell_failure(g, err, "cannot remove cgroup %s", g->cgroup_path);
			return;
		}
	}
	tell(g, "removed cgroup %s", g->cgroup_path);
}

void remove_new_cgroup(struct guard *g)
{
	const char *name = strrchr(g->new_cgroup, '/');

	/* Once the cgroup is known, giving the tree back removes it. */
	if (name == NULL || g->version != 0)
		return;
	if (!starts_with(name + 1, "stillframe-"))
		tell_failure(g, EPERM, "cgroup %s does not have our name", g->new_cgroup);
	else if (rmdir(g->new_cgroup) == 0)
		tell(g, "removed cgroup %s", g->new_cgroup);
	else if (errno != ENOENT)
		tell_failure(g, errno, "cannot remove cgroup %s", g->new_cgroup);
}
