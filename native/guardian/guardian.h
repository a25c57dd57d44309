/*
 * The guardian: a process that outlives the one it watches and puts right what that one leaves behind.
 * It allocates nothing: everything it may need is reserved in `struct guard`, whose untouched pages cost nothing.
 */
#ifndef STILLFRAME_GUARDIAN_H
#define STILLFRAME_GUARDIAN_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define MAX_REMOVALS 256
#define MAX_HOMES 512
#define MAX_TREES 16
#define MAX_DESTINATIONS 256
#define MAX_REPORT 4096

enum window { WINDOW_NEVER, WINDOW_OPEN, WINDOW_CLOSED };

/* A directory or file of ours, named by its parent (held open, so that no rename redirects us) and its name there. */
struct removal {
	int parent;
	char name[NAME_MAX + 1];
};

/* Where one process of an adopted tree came from. */
struct home {
	pid_t pid;
	uint64_t start_time;
	char path[PATH_MAX];
};

/* The root of a tree that a restore has made, or a daemon of its own. */
struct tree {
	pid_t pid;
	uint64_t start_time;
};

/* A file or directory that a restore makes. */
struct new_name {
	int parent;
	char name[NAME_MAX + 1];
};

struct file_id {
	dev_t device;
	ino_t inode;
};

/* Files that a restore puts others in the place of: guardian-replace.c. */
struct replacement {
	int parent;
	char name[NAME_MAX + 1];
	char hidden[NAME_MAX + 1]; /* where the new ones were made, and the old ones are */
	char kept[NAME_MAX + 1]; /* what the old ones are called in the end; '' when they are to go */
	struct file_id fresh;
	struct file_id old;
};

struct guard {
	int version; /* 1 or 2; 0 while no cgroup is known */
	int cgroup; /* O_PATH */
	char cgroup_path[PATH_MAX];
	bool found_frozen;
	enum window window;
	uint64_t thaw_by_ms; /* when an open window is to be closed although the owner lives, by now_ms(); 0: never */

	pid_t criu;
	uint64_t criu_start_time;
	int criu_pidfd;
	unsigned criu_bound_ms;
	unsigned thaw_bound_ms;

	struct removal removals[MAX_REMOVALS];
	struct home homes[MAX_HOMES];
	unsigned home_count;
	char home[PATH_MAX]; /* '' when the tree was not adopted */
	char new_cgroup[PATH_MAX]; /* about to be made for an adoption; nothing is in it while no cgroup is known */

	/* A restore that is not finished. */
	struct tree trees[MAX_TREES];
	unsigned tree_count;
	bool expects_pids;
	int destinations[MAX_DESTINATIONS];
	unsigned destination_count;
	struct new_name new_names[MAX_DESTINATIONS];
	unsigned new_name_count;
	char made_cgroup[PATH_MAX]; /* the outermost that it made */
	char finished_by[PATH_MAX]; /* what another program writes when it has finished the restore; '' when none does */

	/* Of a copy that runs: its pid 1, -1 once that has ended. With its end all that was made for it goes. */
	bool minds;
	pid_t copy;
	int copy_pidfd;

	/* Of a restore, finished or not. */
	struct replacement replacements[MAX_DESTINATIONS];
	unsigned replacement_count;
	bool is_restored;

	char journal[PATH_MAX];
	char log[PATH_MAX];
	pid_t owner;

	bool failed; /* something could not be put right */
	char report[MAX_REPORT];
	size_t report_bytes;
};

#define SOCKET 3

/* man 2 getdents64: struct linux_dirent64. */
struct dir_entry {
	uint64_t inode;
	int64_t offset;
	unsigned short bytes;
	unsigned char type;
	char name[];
};

uint64_t now_ms(void);
void sleep_ms(unsigned ms);
bool starts_with(const char *text, const char *prefix);

/* /proc/PID/stat: the state's letter, and the time of start in ticks since boot. 0 when there is no such process. */
char process_state(pid_t pid, uint64_t *start_time);
/* Its process group and session. False when there is no such process. */
bool ids_of(pid_t pid, pid_t *group, pid_t *session);
/* 0 when there is no such process. */
pid_t parent_of(pid_t pid);
int open_pidfd(pid_t pid);

/*
 * Waits until the given CRIU has ended; continues one that is stopped, and kills it past the bound. Then ends the
 * children that a killed one leaves waiting.
 */
void await_criu(struct guard *g);
/* Puts the cgroup back to what it was before us and waits until the kernel says so. */
void restore_freezer(struct guard *g);
/* Does that for an owner that lives and has not done it in time: it hangs, is busy, or is stopped. */
void thaw_late(struct guard *g);
/* Moves an adopted tree back where it came from, and removes the cgroup that was made for it. */
void give_tree_back(struct guard *g);
/* Removes the cgroup of an adoption that came no further than that. */
void remove_new_cgroup(struct guard *g);
/*
 * Splits a path into the directory, which has PATH_MAX bytes, and the name, of at most NAME_MAX. Returns 0 or an errno.
 */
int split_path(const char *path, char *directory, const char **name);

/* What a restore has made so far. Each returns 0 or an errno. */
int add_tree(struct guard *g, char *rest);
int expect_pids(struct guard *g, char *rest);
int add_new_name(struct guard *g, const char *path);
int add_destination(struct guard *g, char *rest);
/* It is finished: all that stays. */
void keep_restored(struct guard *g);
/* A copy is finished, and runs: all that stays until its pid 1 has ended. Returns 0 or an errno. */
int mind_copy(struct guard *g, char *rest);
void await_copy(struct guard *g);
/* The same, if the program that restores has come to its end after all. */
void keep_if_finished(struct guard *g);
/* Kills its processes, with their children. */
void end_trees(struct guard *g);
/* Waits for their end, which a frozen cgroup holds up. */
void await_trees(struct guard *g);
void remove_made_cgroup(struct guard *g);
void remove_destinations(struct guard *g);
/* What a restore put others in the place of. Returns 0 or an errno. */
int add_replacement(struct guard *g, char *rest);
/* Puts it back, or, when the restore was finished, keeps or removes it as it would have. */
void settle_replacements(struct guard *g);
/* Removes what was named, and only what bears our name and is ours. Returns 0 or an errno. */
int remove_tree(int parent, const char *name);
bool is_our_name(const char *name);

/* Notes what was done (or could not be): for the owner's socket, the system log and the log file. */
void tell(struct guard *g, const char *format, ...) __attribute__((format(printf, 2, 3)));
void tell_failure(struct guard *g, int err, const char *format, ...) __attribute__((format(printf, 3, 4)));
void write_logs(struct guard *g);

#endif
