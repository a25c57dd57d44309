#include "scan-match.h"

#include <stdlib.h>
#include <string.h>

static uint32_t hash_name(const char *name)
{
	uint32_t hash = 2166136261u;

	for (; *name; name++)
		hash = (hash ^ (uint8_t)*name) * 16777619u;
	return hash ^ hash >> 15;
}

static bool same_name(const struct sf_tree *tree, uint32_t id, const char *name)
{
	return sf_bit(tree->before, id) && strcmp(sf_name_of(&tree->records, id), name) == 0;
}

/*
 * All ids of the list as it was, by the hash of their names. It is still whole: what differs is what comes next. After
 * a scan that failed in the middle it may be a ring, and is not followed for ever.
 */
static bool build_table(struct sf_tree *tree, struct sf_match *match)
{
	uint32_t count = 0, size = 16;

	for (uint32_t id = match->first; id != 0 && count < tree->records.count; id = sf_node_of(&tree->records, id)->next)
		count++;
	while (size < count + count / 2)
		size *= 2;
	match->table = calloc(size, sizeof(*match->table));
	if (!match->table)
		return false;
	match->mask = size - 1;
	for (uint32_t id = match->first; id != 0 && count > 0; count--) {
		uint32_t at = hash_name(sf_name_of(&tree->records, id)) & match->mask;
		while (match->table[at] != 0)
			at = (at + 1) & match->mask;
		match->table[at] = id;
		id = sf_node_of(&tree->records, id)->next;
	}
	return true;
}

/* 0 for a name that is new; memory running out makes a known name look new, which costs a copy. */
uint32_t sf_match_find(struct sf_tree *tree, struct sf_match *match, const char *name)
{
	uint32_t id = match->expected;

	if (id == 0 || !same_name(tree, id, name)) {
		if (match->first == 0 || (!match->table && !build_table(tree, match)))
			return 0;
		uint32_t at = hash_name(name) & match->mask;
		while ((id = match->table[at]) != 0 && !same_name(tree, id, name))
			at = (at + 1) & match->mask;
	}
	if (id != 0)
		match->expected = sf_node_of(&tree->records, id)->next;
	return id;
}
