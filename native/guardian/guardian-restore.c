/* A restore that its owner did not live to finish: the tree ends, and what was extracted for it goes. */
#include "guardian.h"
#include "../remove/remove.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define END_BOUND_MS 5000
#define MAX_CGROUP_DEPTH 32
/* include/linux/threads.h: PID_MAX_LIMIT on 64 bits. */
#define PID_LIMIT (4 << 20)

/* One bit a pid. */
static uint8_t marked[PID_LIMIT / 8];
static uint8_t expected[PID_LIMIT / 8];

static bool is_in(const uint8_t *set, pid_t pid)
{
	return pid > 0 && pid < PID_LIMIT && (set[pid / 8] >> (pid % 8) & 1) != 0;
}

static bool is_marked(pid_t pid)
{
	return is_in(marked, pid);
}

/* Stopped first, so that it makes no more children while they are looked for. */
static void mark(pid_t pid)
{
	if (pid <= 1 || pid >= PID_LIMIT || pid == getpid())
		return;
	kill(pid, SIGSTOP);
	marked[pid / 8] |= (uint8_t)(1 << pid % 8);
}

typedef bool each_pid_fn(pid_t pid);

/* How many processes the function said true of. */
static unsigned for_each_process(each_pid_fn *act)
{
	_Alignas(struct dir_entry) char buffer[4096];
	int directory = open("/proc", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	unsigned count = 0;
	long n;

	if (directory < 0)
		return 0;
	while ((n = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n; at += ((struct dir_entry *)(buffer + at))->bytes) {
			pid_t pid = (pid_t)strtol(((struct dir_entry *)(buffer + at))->name, NULL, 10);

			if (pid > 0 && act(pid))
				count++;
		}
	}
	close(directory);
	return count;
}

static bool mark_child(pid_t pid)
{
	if (is_marked(pid) || !is_marked(parent_of(pid)))
		return false;
	mark(pid);
	return true;
}

static bool end_marked(pid_t pid)
{
	return is_marked(pid) && kill(pid, SIGKILL) == 0;
}

static bool lives_marked(pid_t pid)
{
	uint64_t start_time;
	char state = is_marked(pid) ? process_state(pid, &start_time) : 0;

	return state != 0 && state != 'Z' && state != 'X';
}

int add_tree(struct guard *g, char *rest)
{
	char *end;
	struct tree *tree = &g->trees[g->tree_count];

	if (g->tree_count == MAX_TREES)
		return ENOSPC;
	tree->pid = (pid_t)strtol(rest, &end, 10);
	tree->start_time = strtoull(end, &end, 10);
	if (tree->pid <= 1 || *end != '\0')
		return EINVAL;
	g->tree_count++;
	return 0;
}

int expect_pids(struct guard *g, char *rest)
{
	for (char *end; *rest != '\0'; rest = end) {
		long pid = strtol(rest, &end, 10);

		if (end == rest || pid <= 1 || pid >= PID_LIMIT)
			return EINVAL;
		expected[pid / 8] |= (uint8_t)(1 << pid % 8);
	}
	g->expects_pids = true;
	return 0;
}

/*
 * The pids were free when the restore began: who has one now, and was born after CRIU, and in the restore's cgroup, is
 * CRIU's.
 */
static void mark_expected(const struct guard *g, pid_t pid)
{
	uint64_t start_time = 0;
	char state = is_in(expected, pid) && !is_marked(pid) ? process_state(pid, &start_time) : 0;

	if (state != 0 && state != 'Z' && start_time >= g->criu_start_time)
		mark(pid);
}

static void mark_in_cgroup(const struct guard *g, int directory, unsigned depth);

static void mark_in_cgroups_below(const struct guard *g, int directory, unsigned depth)
{
	_Alignas(struct dir_entry) char buffer[2048];
	long n;

	while (depth < MAX_CGROUP_DEPTH && (n = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n; at += ((struct dir_entry *)(buffer + at))->bytes) {
			const struct dir_entry *entry = (const struct dir_entry *)(buffer + at);
			int child;

			if (entry->type != DT_DIR || entry->name[0] == '.')
				continue;
			child = openat(directory, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (child < 0)
				continue;
			mark_in_cgroup(g, child, depth + 1);
			close(child);
		}
	}
}

static void mark_in_cgroup(const struct guard *g, int directory, unsigned depth)
{
	int procs = openat(directory, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	char buffer[1024];
	pid_t pid = 0;
	ssize_t n;

	while (procs >= 0 && (n = read(procs, buffer, sizeof(buffer))) > 0) {
		for (ssize_t i = 0; i < n; i++) {
			if (buffer[i] == '\n') {
				mark_expected(g, pid);
				pid = 0;
			} else {
				pid = pid * 10 + (buffer[i] - '0');
			}
		}
	}
	if (procs >= 0)
		close(procs);
	mark_in_cgroups_below(g, directory, depth);
}

/* What CRIU had made before it could tell us, when it was killed, too. */
static void mark_what_criu_left(const struct guard *g)
{
	int directory;

	if (!g->expects_pids || g->criu_start_time == 0 || g->version == 0)
		return;
	directory = openat(g->cgroup, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return;
	mark_in_cgroup(g, directory, 0);
	close(directory);
}

void end_trees(struct guard *g)
{
	unsigned ended;

	for (unsigned i = 0; i < g->tree_count; i++) {
		uint64_t start_time = 0;

		char state = process_state(g->trees[i].pid, &start_time);

		if (state == 0 || state == 'Z' || start_time != g->trees[i].start_time)
			continue;
		mark(g->trees[i].pid);
	}
	mark_what_criu_left(g);
	if (for_each_process(lives_marked) == 0)
		return;
	while (for_each_process(mark_child) > 0) {
	}
	ended = for_each_process(end_marked);
	tell(g, "killed %u processes of a restore that was not finished", ended);
}

/* After the thaw: what v1 holds frozen dies only then. */
void await_trees(struct guard *g)
{
	uint64_t deadline = now_ms() + END_BOUND_MS;

	while (for_each_process(lives_marked) > 0) {
		if (now_ms() >= deadline) {
			tell_failure(g, ETIMEDOUT, "processes of a restore do not end although killed");
			return;
		}
		sleep_ms(2);
	}
}

/* Only directories can be removed from a cgroup: those that the restore may have made, from the innermost on. */
static void remove_cgroups_below(int directory, unsigned depth)
{
	_Alignas(struct dir_entry) char buffer[2048];
	long n;

	while (depth < MAX_CGROUP_DEPTH && (n = syscall(SYS_getdents64, directory, buffer, sizeof(buffer))) > 0) {
		for (long at = 0; at < n; at += ((struct dir_entry *)(buffer + at))->bytes) {
			const struct dir_entry *entry = (const struct dir_entry *)(buffer + at);
			int child;

			if (entry->type != DT_DIR || entry->name[0] == '.')
				continue;
			child = openat(directory, entry->name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
			if (child < 0)
				continue;
			remove_cgroups_below(child, depth + 1);
			close(child);
			unlinkat(directory, entry->name, AT_REMOVEDIR);
		}
	}
}

void remove_made_cgroup(struct guard *g)
{
	uint64_t deadline = now_ms() + 2000;
	int directory;

	if (g->made_cgroup[0] == '\0')
		return;
	directory = open(g->made_cgroup, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	/* A task that is just ending keeps its cgroup for an instant. */
	while (directory >= 0) {
		lseek(directory, 0, SEEK_SET);
		remove_cgroups_below(directory, 0);
		if (rmdir(g->made_cgroup) == 0) {
			tell(g, "removed cgroup %s", g->made_cgroup);
			break;
		}
		if (errno != EBUSY || now_ms() >= deadline) {
			if (errno != ENOENT)
				tell_failure(g, errno, "cannot remove cgroup %s", g->made_cgroup);
			break;
		}
		sleep_ms(5);
	}
	if (directory >= 0)
		close(directory);
}

/* Said before it is made, of a name that nothing has: an empty directory or a file is removed by it, nothing else. */
int add_new_name(struct guard *g, const char *path)
{
	static char directory[PATH_MAX];
	struct new_name *n = &g->new_names[g->new_name_count];
	const char *name;
	int err = split_path(path, directory, &name);

	if (err != 0)
		return err;
	if (g->new_name_count == MAX_DESTINATIONS)
		return ENOSPC;
	n->parent = open(directory, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (n->parent < 0)
		return errno == ENOENT ? 0 : errno; /* then nothing will be made in it */
	strcpy(n->name, name);
	g->new_name_count++;
	return 0;
}

/*
 * A directory that was empty, and that is held from now on: what is put into it is removed by descriptor, wherever its
 * name leads by then.
 */
int add_destination(struct guard *g, char *rest)
{
	char *end;
	unsigned long long device = strtoull(rest, &end, 10), inode = strtoull(end, &end, 10);
	struct stat info;
	int directory;

	if (*end != ' ' || end[1] != '/')
		return EINVAL;
	if (g->destination_count == MAX_DESTINATIONS)
		return ENOSPC;
	directory = open(end + 1, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (directory < 0)
		return errno == ENOENT ? 0 : errno;
	if (fstat(directory, &info) != 0 || info.st_dev != device || info.st_ino != inode) {
		tell(g, "%s is another directory now, and was left", end + 1);
		close(directory);
		return 0;
	}
	g->destinations[g->destination_count++] = directory;
	return 0;
}

/* Nothing of a restore that is finished dies with its owner. */
static void keep_tree(struct guard *g)
{
	while (g->destination_count > 0)
		close(g->destinations[--g->destination_count]);
	while (g->new_name_count > 0)
		close(g->new_names[--g->new_name_count].parent);
	g->tree_count = 0;
	g->expects_pids = false;
	if (g->criu_pidfd >= 0)
		close(g->criu_pidfd);
	g->criu_pidfd = -1;
	g->criu = 0;
}

/* The restore is finished: all that it made stays. */
void keep_restored(struct guard *g)
{
	keep_tree(g);
	g->is_restored = true;
	g->made_cgroup[0] = '\0';
}

int mind_copy(struct guard *g, char *rest)
{
	char *end;
	pid_t pid = (pid_t)strtol(rest, &end, 10);
	uint64_t wanted = strtoull(end, &end, 10), found = 0;

	if (pid <= 1 || *end != '\0')
		return EINVAL;
	keep_tree(g);
	g->minds = true;
	g->copy = pid;
	g->copy_pidfd = open_pidfd(pid);
	if (g->copy_pidfd < 0)
		return errno == ESRCH ? 0 : errno; /* it has ended already */
	if (process_state(pid, &found) != 0 && found == wanted)
		return 0;
	close(g->copy_pidfd);
	g->copy_pidfd = -1;
	return 0;
}

void await_copy(struct guard *g)
{
	struct pollfd ended = { .fd = g->copy_pidfd, .events = POLLIN };

	if (!g->minds)
		return;
	while (g->copy_pidfd >= 0 && poll(&ended, 1, -1) <= 0) {
	}
	tell(g, "copy %d has ended", (int)g->copy);
}

/* A container runtime goes on without us, and records the container last of all. */
void keep_if_finished(struct guard *g)
{
	if (g->finished_by[0] == '\0' || access(g->finished_by, F_OK) != 0)
		return;
	tell(g, "the restore was finished: %s", g->finished_by);
	keep_restored(g);
}

void remove_destinations(struct guard *g)
{
	for (unsigned i = 0; i < g->destination_count; i++) {
		int err = remove_below(g->destinations[i], NULL);

		if (err != 0)
			tell_failure(g, err, "cannot empty a restore's destination");
		else
			tell(g, "emptied a restore's destination");
	}
	for (unsigned i = 0; i < g->new_name_count; i++) {
		const struct new_name *n = &g->new_names[i];

		if (unlinkat(n->parent, n->name, 0) == 0 ||
			((errno == EISDIR || errno == EPERM) && unlinkat(n->parent, n->name, AT_REMOVEDIR) == 0))
			tell(g, "removed %s", n->name);
		else if (errno != ENOENT)
			tell_failure(g, errno, "cannot remove %s", n->name);
	}
}
