#include "links.h"

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gzip.h"

struct linked {
	dev_t dev;
	ino_t ino;
	nlink_t missing;
	char *path; /* NULL: the slot is free */
};

static struct linked *table;
static size_t slots, used;

static struct linked *slot_of(dev_t dev, ino_t ino)
{
	uint64_t hash = ((uint64_t)ino ^ ((uint64_t)dev << 32)) * UINT64_C(0x9e3779b97f4a7c15);
	size_t at = (size_t)(hash >> 20) & (slots - 1);

	while (table[at].path && (table[at].ino != ino || table[at].dev != dev))
		at = (at + 1) & (slots - 1);
	return &table[at];
}

static void make_room(void)
{
	struct linked *old = table;
	size_t old_slots = slots;

	if (2 * used < slots)
		return;
	slots = slots ? 2 * slots : 256;
	table = calloc(slots, sizeof(*table));
	if (!table)
		fail(errno, "no memory", "links");
	for (size_t i = 0; i < old_slots; i++)
		if (old[i].path)
			*slot_of(old[i].dev, old[i].ino) = old[i];
	free(old);
}

const char *first_link(const struct stat *st, const char *path)
{
	struct linked *slot;

	make_room();
	slot = slot_of(st->st_dev, st->st_ino);
	if (slot->path) {
		slot->missing--;
		return slot->path;
	}
	slot->dev = st->st_dev;
	slot->ino = st->st_ino;
	slot->missing = st->st_nlink - 1;
	slot->path = strdup(path);
	if (!slot->path)
		fail(errno, "no memory", path);
	used++;
	return NULL;
}

void warn_of_missing_links(void)
{
	for (size_t i = 0; i < slots; i++)
		if (table[i].path && table[i].missing > 0)
			fprintf(stderr, "tar: Missing links to '%s'.\n", table[i].path);
}
