/*
 * What the parts of a scan share: scan.c is its face to JavaScript, scan-threads.c hands out the work, scan-dir.c does
 * it, scan-match.c tells which names were there before, and scan-found.c gathers what is told at the end.
 */
#ifndef STILLFRAME_SCAN_H
#define STILLFRAME_SCAN_H

#include "exclude.h"
#include "scan-match.h"
#include "walk.h"

#define SF_MAX_THREADS 16

struct sf_scan_list {
	uint32_t *items;
	uint32_t count, room;
};

/* When a file changed. */
struct sf_scan_hot {
	int64_t sec;
	uint32_t nsec, id;
};

/* The latest of those noted; up to twice as many as are wanted. */
struct sf_scan_hottest {
	struct sf_scan_hot *items;
	uint32_t count;
	int64_t since_sec;
};

/* An open directory that is being read, or whose children are still being looked at. */
struct sf_scan_dir {
	atomic_int refs;
	struct sf_scan *scan;
	int fd; /* or -1: it is not kept open */
	uint32_t id;
	uint8_t fs;
	uint32_t dev;
	struct sf_excluding excluding;
	bool known; /* its names are those of the last scan, and `fd` is -1 */
	struct sf_match match;
	uint32_t last; /* the last of its new list; 0 before the first */
};

enum sf_scan_work { SF_READ, SF_READ_ON, SF_LOOK };

struct sf_scan_item {
	enum sf_scan_work work;
	struct sf_scan_dir
		*dir; /* to go on reading, or of the entries to look at; of a directory to read its parent, NULL for the root */
	uint32_t id; /* READ: the directory */
	bool known; /* READ: nothing has happened to its names */
	struct sf_excluding excluding;
	uint32_t *ids; /* LOOK */
	uint32_t count;
};

struct sf_scan {
	struct sf_job job;
	struct sf_tree *tree;
	char *path;
	uint32_t threads;
	bool one_file_system;
	int64_t hot_since_sec;
	double still_since_ms;
	char *exclude_text;
	struct sf_excludes excludes;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	struct sf_scan_item *stack;
	uint32_t depth, room, busy;
	bool out_of_memory;
	_Atomic uint32_t open_dirs;

	bool told; /* what has changed is known */
	struct sf_inodes changes;
	struct sf_scan_list crossings, errors;
	struct sf_scan_hottest hottest;
	uint64_t bytes;
	uint32_t looks;
	_Atomic uint32_t unnoticed; /* one more than such an entry, whichever; 0 for none */
};

struct sf_scan_worker {
	struct sf_scan *scan;
	struct sf_walk walk;
	struct sf_scan_list crossings, errors;
	struct sf_scan_hottest hottest;
	uint64_t bytes;
	uint32_t looks;
	pthread_t thread;
	bool started;
};

/* scan-found.c. Memory that runs out ends the scan. */
bool sf_scan_push(struct sf_scan_list *list, uint32_t value);
void sf_scan_fail(struct sf_scan *scan);
void sf_scan_note(struct sf_scan_worker *worker, struct sf_scan_list *list, uint32_t value);
void sf_scan_note_error(struct sf_scan_worker *worker, uint32_t id, int err);
void sf_scan_note_hot(struct sf_scan_worker *worker, uint32_t id, const struct sf_entry *entry);
/* Both free what they take from. */
bool sf_scan_join_list(struct sf_scan_list *into, struct sf_scan_list *from);
bool sf_scan_join_hottest(struct sf_scan_hottest *into, struct sf_scan_hottest *from);

/* scan-threads.c */
struct sf_scan_dir *sf_scan_ref(struct sf_scan_dir *dir);
void sf_scan_unref(struct sf_scan_dir *dir);
/* Last in, first out: few directories are open at a time, however wide the tree is. */
void sf_scan_give(struct sf_scan *scan, struct sf_scan_item item);
/* All of it, from the root on. False when memory ran out. */
bool sf_scan_run(struct sf_scan *scan);

/* scan-dir.c. Looks at one name; `dir` is NULL for the root, `fd` is -1 or the directory's. */
void sf_scan_look(struct sf_scan_worker *worker, struct sf_scan_dir *dir, int fd, uint32_t id);
void sf_scan_read_on(struct sf_scan_worker *worker, struct sf_scan_dir *dir, int fd);
void sf_scan_read_dir(struct sf_scan_worker *worker, const struct sf_scan_item *item);

#endif
