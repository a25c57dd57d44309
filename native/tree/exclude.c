#include "exclude.h"
#include "../addon/addon.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_any_depth(const char *part)
{
	return strcmp(part, "**") == 0;
}

/* One character, however many bytes it has. */
static const char *next_char(const char *at)
{
	at++;
	while (((unsigned char)*at & 0xc0) == 0x80)
		at++;
	return at;
}

/* A set such as `[a-z]`, of bytes; `*end` is behind it. NULL for `end` where the bracket is not closed. */
static bool in_set(const char *at, unsigned char c, const char **end)
{
	bool negated = at[1] == '!' || at[1] == '^', found = false;

	at += negated ? 2 : 1;
	for (const char *first = at; *at && (*at != ']' || at == first); at++) {
		unsigned char from = (unsigned char)*at, to = from;
		if (at[1] == '-' && at[2] && at[2] != ']') {
			at += 2;
			to = (unsigned char)*at;
		}
		found |= from <= c && c <= to;
	}
	*end = *at ? at + 1 : NULL;
	return found != negated;
}

/* The length of the pattern's first step where it takes the name's first character; 0 where it does not. */
static size_t takes(const char *pattern, const char *name, const char **rest)
{
	const char *end = NULL;

	*rest = name + 1;
	if (*pattern == '?') {
		*rest = next_char(name);
		return 1;
	}
	if (*pattern == '[') {
		bool in = in_set(pattern, (unsigned char)*name, &end);
		if (end)
			return in ? (size_t)(end - pattern) : 0;
	}
	if (*pattern == '\\' && pattern[1])
		return pattern[1] == *name ? 2 : 0;
	return *pattern == *name ? 1 : 0;
}

/* Goes back to the last `*` only: linear in the name for each, whatever the pattern. */
static bool matches(const char *pattern, const char *name)
{
	const char *star = NULL, *retry = NULL, *rest;

	while (*name) {
		size_t step;
		if (*pattern == '*') {
			star = ++pattern;
			retry = name;
		} else if (*pattern && (step = takes(pattern, name, &rest)) > 0) {
			pattern += step;
			name = rest;
		} else if (star) {
			pattern = star;
			name = retry = next_char(retry);
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}

static void hold_against(const struct sf_excludes *excludes, struct sf_excluding *at, uint32_t part)
{
	/* `**` may be no part at all. */
	for (;; part++) {
		at->parts[part / 64] |= 1ull << part % 64;
		if (!is_any_depth(excludes->parts[part]) || excludes->is_last[part])
			return;
	}
}

bool sf_excludes_parse(struct sf_excludes *excludes, char *text, size_t len)
{
	uint32_t first = 0, patterns = 0;

	for (char *at = text, *end = at + len; at < end; first = excludes->count) {
		char *next = at + strlen(at) + 1, *save = NULL;
		for (char *part = strtok_r(at, "/", &save); part; part = strtok_r(NULL, "/", &save)) {
			if (excludes->count == SF_MAX_EXCLUDE_PARTS)
				return false;
			excludes->parts[excludes->count++] = part;
		}
		if (excludes->count > first) {
			excludes->is_last[excludes->count - 1] = true;
			excludes->pattern[excludes->count - 1] = (uint8_t)patterns++;
			hold_against(excludes, &excludes->root, first);
		}
		at = next;
	}
	return true;
}

bool sf_excluded(
	struct sf_excludes *excludes, const struct sf_excluding *at, const char *name, struct sf_excluding *below)
{
	bool excluded = false;

	*below = (struct sf_excluding){ 0 };
	for (uint32_t word = 0; word < SF_MAX_EXCLUDE_PARTS / 64; word++) {
		for (uint64_t rest = at->parts[word]; rest; rest &= rest - 1) {
			uint32_t part = word * 64 + (uint32_t)__builtin_ctzll(rest);
			bool any = is_any_depth(excludes->parts[part]);
			if (!any && !matches(excludes->parts[part], name))
				continue;
			if (excludes->is_last[part]) {
				/* Another pattern that means the name too is no useless one. */
				uint32_t pattern = excludes->pattern[part];
				excludes->hits[pattern / 32] |= 1u << pattern % 32;
				excluded = true;
			} else {
				hold_against(excludes, below, any ? part : part + 1);
			}
		}
	}
	return excluded;
}

/* excludeMatches(patterns, path): whether a path below the root is left out by itself or with a directory above it */
static napi_value exclude_matches(napi_env env, napi_callback_info info)
{
	size_t argc = 2, pattern_len, path_len;
	napi_value argv[2], result;
	void *patterns, *path;
	struct sf_excludes *excludes = calloc(1, sizeof(*excludes));
	char *text = NULL, *names = NULL, *save = NULL;
	bool found = false, ok = false;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (excludes && napi_get_buffer_info(env, argv[0], &patterns, &pattern_len) == napi_ok &&
		napi_get_buffer_info(env, argv[1], &path, &path_len) == napi_ok) {
		text = calloc(1, pattern_len + 1);
		names = calloc(1, path_len + 1);
		if (text && names) {
			if (pattern_len > 0)
				memcpy(text, patterns, pattern_len);
			if (path_len > 0)
				memcpy(names, path, path_len);
			ok = sf_excludes_parse(excludes, text, pattern_len);
		}
	}
	if (ok) {
		struct sf_excluding at = excludes->root, below;
		for (char *name = strtok_r(names, "/", &save); name && !found; name = strtok_r(NULL, "/", &save)) {
			found = sf_excluded(excludes, &at, name, &below);
			at = below;
		}
	}
	free(text);
	free(names);
	free(excludes);
	if (!ok)
		return sf_throw_errno(env, EINVAL, "excludeMatches");
	napi_get_boolean(env, found, &result);
	return result;
}

void sf_init_exclude(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "excludeMatches", exclude_matches);
}
