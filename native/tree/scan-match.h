/* Which entry of a directory a name was, the last time that the directory was read. */
#ifndef STILLFRAME_SCAN_MATCH_H
#define STILLFRAME_SCAN_MATCH_H

#include "tree.h"

/* The ids of names read before, found by place first and by hash when places have shifted. */
struct sf_match {
	uint32_t first; /* of the directory's list as it was */
	uint32_t expected; /* in that list; 0 at its end */
	uint32_t *table; /* freed by the owner */
	uint32_t mask;
};

/* 0 for a name that is new; memory running out makes a known name look new, which costs a copy. */
uint32_t sf_match_find(struct sf_tree *tree, struct sf_match *match, const char *name);

#endif
