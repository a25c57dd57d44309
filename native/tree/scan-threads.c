#include "scan.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void sf_scan_unref(struct sf_scan_dir *dir)
{
	if (dir && atomic_fetch_sub(&dir->refs, 1) == 1) {
		free(dir->match.table);
		if (dir->fd >= 0) {
			close(dir->fd);
			atomic_fetch_sub(&dir->scan->open_dirs, 1);
		}
		free(dir);
	}
}

struct sf_scan_dir *sf_scan_ref(struct sf_scan_dir *dir)
{
	if (dir)
		atomic_fetch_add(&dir->refs, 1);
	return dir;
}

/* Last in, first out: few directories are open at a time, however wide the tree is. */
void sf_scan_give(struct sf_scan *scan, struct sf_scan_item item)
{
	pthread_mutex_lock(&scan->lock);
	if (scan->depth == scan->room) {
		uint32_t room = scan->room ? scan->room * 2 : 64;
		struct sf_scan_item *stack = realloc(scan->stack, room * sizeof(*stack));
		if (!stack) {
			scan->out_of_memory = true;
			pthread_mutex_unlock(&scan->lock);
			free(item.ids);
			sf_scan_unref(item.dir);
			return;
		}
		scan->stack = stack;
		scan->room = room;
	}
	scan->stack[scan->depth++] = item;
	pthread_cond_signal(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
}

static void *run_worker(void *arg)
{
	struct sf_scan_worker *worker = arg;
	struct sf_scan *scan = worker->scan;

	pthread_mutex_lock(&scan->lock);
	for (;;) {
		while (scan->depth == 0 && scan->busy > 0 && !scan->out_of_memory)
			pthread_cond_wait(&scan->wake, &scan->lock);
		if (scan->depth == 0 || scan->out_of_memory || sf_tree_cancelled(scan->tree))
			break;
		struct sf_scan_item item = scan->stack[--scan->depth];
		scan->busy++;
		pthread_mutex_unlock(&scan->lock);

		if (item.work == SF_LOOK)
			for (uint32_t i = 0; i < item.count; i++)
				sf_scan_look(worker, item.dir, -1, item.ids[i]);
		else if (item.work == SF_READ_ON)
			sf_scan_read_on(worker, item.dir, item.dir->fd);
		else
			sf_scan_read_dir(worker, &item);
		free(item.ids);
		sf_scan_unref(item.dir);

		pthread_mutex_lock(&scan->lock);
		scan->busy--;
		if (scan->busy == 0 && scan->depth == 0)
			pthread_cond_broadcast(&scan->wake);
	}
	pthread_cond_broadcast(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
	return NULL;
}

bool sf_scan_run(struct sf_scan *scan)
{
	struct sf_scan_worker workers[SF_MAX_THREADS];
	bool ok = true;

	memset(workers, 0, sizeof(workers));
	for (uint32_t i = 0; i < scan->threads; i++) {
		workers[i].scan = scan;
		sf_walk_begin(&workers[i].walk, scan->tree);
		workers[i].hottest.since_sec = scan->hot_since_sec;
	}
	sf_scan_look(&workers[0], NULL, -1, SF_ROOT);
	/* A single file needs no thread. One that cannot be started is done without. */
	for (uint32_t i = 1; scan->depth > 0 && i < scan->threads; i++)
		workers[i].started = pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]) == 0;
	run_worker(&workers[0]);
	for (uint32_t i = 0; i < scan->threads; i++) {
		if (workers[i].started)
			pthread_join(workers[i].thread, NULL);
		ok = sf_scan_join_list(&scan->crossings, &workers[i].crossings) && ok;
		ok = sf_scan_join_list(&scan->errors, &workers[i].errors) && ok;
		ok = sf_scan_join_hottest(&scan->hottest, &workers[i].hottest) && ok;
		scan->bytes += workers[i].bytes;
		scan->looks += workers[i].looks;
		sf_walk_end(&workers[i].walk);
	}
	for (uint32_t i = 0; i < scan->depth; i++) {
		free(scan->stack[i].ids);
		sf_scan_unref(scan->stack[i].dir);
	}
	return ok && !scan->out_of_memory;
}
