#include "scan.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* So many of the files that changed last are told in the order of their change. */
#define MAX_HOT 16384

bool sf_scan_push(struct sf_scan_list *list, uint32_t value)
{
	if (list->count == list->room) {
		uint32_t room = list->room ? list->room * 2 : 256;
		uint32_t *items = realloc(list->items, room * sizeof(*items));
		if (!items)
			return false;
		list->items = items;
		list->room = room;
	}
	list->items[list->count++] = value;
	return true;
}

void sf_scan_fail(struct sf_scan *scan)
{
	pthread_mutex_lock(&scan->lock);
	scan->out_of_memory = true;
	pthread_cond_broadcast(&scan->wake);
	pthread_mutex_unlock(&scan->lock);
}

void sf_scan_note(struct sf_scan_worker *worker, struct sf_scan_list *list, uint32_t value)
{
	if (!sf_scan_push(list, value))
		sf_scan_fail(worker->scan);
}

void sf_scan_note_error(struct sf_scan_worker *worker, uint32_t id, int err)
{
	/* Gone, or another kind of file now: not an error of a tree that lives. */
	if (err == ENOENT || err == ENOTDIR || err == ELOOP || err == ESTALE)
		return;
	sf_scan_note(worker, &worker->errors, id);
	sf_scan_note(worker, &worker->errors, (uint32_t)err);
}

static int latest_first(const void *a, const void *b)
{
	const struct sf_scan_hot *x = a, *y = b;

	if (x->sec != y->sec)
		return x->sec > y->sec ? -1 : 1;
	if (x->nsec != y->nsec)
		return x->nsec > y->nsec ? -1 : 1;
	return x->id > y->id ? -1 : x->id < y->id;
}

/* Keeps the latest MAX_HOT, and from then on nothing that is older. */
static void thin_out(struct sf_scan_hottest *hottest)
{
	if (hottest->count > 1)
		qsort(hottest->items, hottest->count, sizeof(*hottest->items), latest_first);
	if (hottest->count <= MAX_HOT)
		return;
	hottest->count = MAX_HOT;
	hottest->since_sec = hottest->items[MAX_HOT - 1].sec;
}

void sf_scan_note_hot(struct sf_scan_worker *worker, uint32_t id, const struct sf_entry *entry)
{
	struct sf_scan_hottest *hottest = &worker->hottest;

	if (entry->ctime_sec < hottest->since_sec)
		return;
	if (!hottest->items && !(hottest->items = malloc(2 * MAX_HOT * sizeof(*hottest->items)))) {
		sf_scan_fail(worker->scan);
		return;
	}
	hottest->items[hottest->count++] =
		(struct sf_scan_hot){ .sec = entry->ctime_sec, .nsec = entry->ctime_nsec, .id = id };
	if (hottest->count == 2 * MAX_HOT)
		thin_out(hottest);
}

bool sf_scan_join_list(struct sf_scan_list *into, struct sf_scan_list *from)
{
	for (uint32_t i = 0; i < from->count; i++)
		if (!sf_scan_push(into, from->items[i]))
			return false;
	free(from->items);
	return true;
}

bool sf_scan_join_hottest(struct sf_scan_hottest *into, struct sf_scan_hottest *from)
{
	bool ok = true;

	if (from->count > 0) {
		thin_out(from);
		struct sf_scan_hot *items = realloc(into->items, (into->count + from->count) * sizeof(*items));
		ok = items != NULL;
		if (ok) {
			memcpy(items + into->count, from->items, from->count * sizeof(*items));
			into->items = items;
			into->count += from->count;
			thin_out(into);
		}
	}
	free(from->items);
	return ok;
}
