/*
 * Memory in pages, most of which may be in a file. The first pages stay where they are for good; of the others a few
 * are in memory, those used last, and the file has the rest. What is in a page is read and written by copying, never by
 * pointer: so any thread may use any page at any time.
 *
 * The file is read and written by calls, not mapped: what a disk does wrong is an error to be told, not a SIGBUS.
 */
#ifndef STILLFRAME_STORE_H
#define STILLFRAME_STORE_H

#include "../addon/addon.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#define SF_PAGE_BITS 16
#define SF_PAGE_BYTES (1u << SF_PAGE_BITS)
/* 128 GiB. */
#define SF_MAX_PAGES (1u << 21)

struct sf_page {
	uint8_t *at; /* NULL while it is in the file only, or nowhere: then it is zeros */
	uint32_t used; /* the clock's time of the last use */
	bool fixed, dirty, stored;
};

struct sf_store {
	pthread_mutex_t lock;
	struct sf_page *pages; /* never moves */
	_Atomic uint32_t n_pages; /* may go past the end, where there are none */
	uint32_t n_fixed, max_fixed;
	uint32_t *cached; /* numbers of the other pages in memory */
	uint32_t n_cached, max_cached;
	uint32_t clock;
	int fd; /* -1: there is no file, and all pages are fixed */
	bool closed;
	int err; /* the first failure: from then on nothing that is read here is to be believed */
	uint32_t users; /* of the memory, on the main thread */
};

/* A new page, of zeros. False when memory or numbers run out. */
bool sf_store_add(struct sf_store *store, uint32_t *page);

void sf_store_read_cached(struct sf_store *store, uint32_t page, uint32_t at, void *out, size_t len);
void sf_store_write_cached(struct sf_store *store, uint32_t page, uint32_t at, const void *in, size_t len);

/* Where a page is that never moves; NULL for any other. */
static inline const uint8_t *sf_store_fixed(const struct sf_store *store, uint32_t page)
{
	return store->pages[page].fixed ? store->pages[page].at : NULL;
}

/* Bytes of one page. Zeros after a failure, which `sf_store_error` tells. */
static inline void sf_store_read(struct sf_store *store, uint32_t page, uint32_t at, void *out, size_t len)
{
	const struct sf_page *p = &store->pages[page];

	if (p->fixed)
		memcpy(out, p->at + at, len);
	else
		sf_store_read_cached(store, page, at, out, len);
}

static inline void sf_store_write(struct sf_store *store, uint32_t page, uint32_t at, const void *in, size_t len)
{
	const struct sf_page *p = &store->pages[page];

	if (p->fixed)
		memcpy(p->at + at, in, len);
	else
		sf_store_write_cached(store, page, at, in, len);
}

/* 0, or the errno of the first failure. */
int sf_store_error(struct sf_store *store);

struct sf_job;
/* Makes the first failure the job's: what the job made of what it read here is not to be believed. */
void sf_store_tell(struct sf_store *store, struct sf_job *job);

/* How an error of the store says that it is one, in the place of a system call's name. */
#define SF_STORE_SYSCALL "scratch"

struct sf_store *sf_store_of(napi_env env, napi_value value);
struct sf_store *sf_store_use(struct sf_store *store);
void sf_store_release(struct sf_store *store);

/* Zeros that take memory only where they are written to; NULL when there is no room. Freed with munmap. */
void *sf_reserve(size_t bytes);

#endif
