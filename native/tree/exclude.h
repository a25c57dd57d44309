/* Which entries of a tree are left out: patterns for paths below its root, one component against one. */
#pragma once
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of all patterns together. */
#define SF_MAX_EXCLUDE_PARTS 256

/* Where in the patterns a directory is: the parts that the names in it are held against. */
struct sf_excluding {
	uint64_t parts[SF_MAX_EXCLUDE_PARTS / 64];
};

struct sf_excludes {
	char *parts[SF_MAX_EXCLUDE_PARTS];
	bool is_last[SF_MAX_EXCLUDE_PARTS]; /* of its pattern */
	uint8_t pattern[SF_MAX_EXCLUDE_PARTS]; /* the number of the one that it ends */
	uint32_t count;
	_Atomic uint32_t hits[SF_MAX_EXCLUDE_PARTS / 32]; /* a bit for each pattern that has left something out */
	struct sf_excluding root; /* for the names in the root */
};

/*
 * Each pattern in `text` ends in a NUL and is cut at its slashes. A part may have `*`, `?` (one character of UTF-8),
 * `[a-z]`, `[!a-z]`, and `\` before what stands for itself; `**` is any number of parts, none among them. False: too
 * many parts.
 */
bool sf_excludes_parse(struct sf_excludes *excludes, char *text, size_t len);

/* No name below can be left out. */
static inline bool sf_excluding_nothing(const struct sf_excluding *at)
{
	for (size_t i = 0; i < SF_MAX_EXCLUDE_PARTS / 64; i++)
		if (at->parts[i])
			return false;
	return true;
}

/* Whether this name is left out, with all below it; else `*below` is for the names in it. For any thread. */
bool sf_excluded(
	struct sf_excludes *excludes, const struct sf_excluding *at, const char *name, struct sf_excluding *below);
