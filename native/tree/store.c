#include "store.h"

#include "../addon/job.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

static const napi_type_tag store_tag = { 0x83d1b6c05e9f4a27ULL, 0xc47a02e8d9615bf3ULL };

void *sf_reserve(size_t bytes)
{
	void *at = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	return at == MAP_FAILED ? NULL : at;
}

/*
 * The number of a page that nobody else has; without the lock, which may be held while the file is read. False when
 * there is none left.
 */
static bool take_number(struct sf_store *store, uint32_t *page)
{
	if (atomic_load(&store->n_pages) >= SF_MAX_PAGES)
		return false;
	*page = atomic_fetch_add(&store->n_pages, 1);
	return *page < SF_MAX_PAGES;
}

bool sf_store_add(struct sf_store *store, uint32_t *page)
{
	bool ok = true;

	if (!take_number(store, page))
		return false;
	pthread_mutex_lock(&store->lock);
	struct sf_page *p = &store->pages[*page];
	if (store->fd < 0 || store->n_fixed < store->max_fixed) {
		p->at = calloc(1, SF_PAGE_BYTES);
		p->fixed = ok = p->at != NULL;
		store->n_fixed += ok;
	}
	pthread_mutex_unlock(&store->lock);
	return ok;
}

static void fail(struct sf_store *store, int err)
{
	if (store->err == 0)
		store->err = err;
}

static void put(struct sf_store *store, uint32_t page, const uint8_t *bytes)
{
	off_t offset = (off_t)page << SF_PAGE_BITS;

	for (size_t done = 0; done < SF_PAGE_BYTES;) {
		ssize_t wrote = pwrite(store->fd, bytes + done, SF_PAGE_BYTES - done, offset + (off_t)done);
		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote <= 0) {
			fail(store, wrote < 0 ? errno : EIO);
			return;
		}
		done += (size_t)wrote;
	}
}

static void get(struct sf_store *store, uint32_t page, uint8_t *bytes)
{
	off_t offset = (off_t)page << SF_PAGE_BITS;

	for (size_t done = 0; done < SF_PAGE_BYTES;) {
		ssize_t got = pread(store->fd, bytes + done, SF_PAGE_BYTES - done, offset + (off_t)done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0) {
			fail(store, got < 0 ? errno : EIO);
			memset(bytes, 0, SF_PAGE_BYTES);
			return;
		}
		done += (size_t)got;
	}
}

/* Memory for one more page: fresh, or that of the page whose last use is the longest ago. NULL after a failure. */
static uint8_t *make_room(struct sf_store *store, uint32_t page)
{
	if (store->n_cached < store->max_cached) {
		uint8_t *at = malloc(SF_PAGE_BYTES);
		if (at)
			store->cached[store->n_cached++] = page;
		else
			fail(store, ENOMEM);
		return at;
	}
	uint32_t slot = 0;
	for (uint32_t i = 1; i < store->n_cached; i++)
		if ((int32_t)(store->pages[store->cached[i]].used - store->pages[store->cached[slot]].used) < 0)
			slot = i;
	struct sf_page *oldest = &store->pages[store->cached[slot]];
	if (oldest->dirty) {
		put(store, store->cached[slot], oldest->at);
		oldest->dirty = false;
		oldest->stored = true;
	}
	uint8_t *at = oldest->at;
	oldest->at = NULL;
	store->cached[slot] = page;
	return at;
}

/* The page, in memory; NULL after a failure. */
static struct sf_page *bring(struct sf_store *store, uint32_t page)
{
	struct sf_page *p = &store->pages[page];

	if (store->closed)
		fail(store, EBADF);
	if (store->err)
		return NULL;
	if (!p->at) {
		p->at = make_room(store, page);
		if (!p->at)
			return NULL;
		if (p->stored)
			get(store, page, p->at);
		else
			memset(p->at, 0, SF_PAGE_BYTES);
	}
	p->used = ++store->clock;
	return p;
}

void sf_store_read_cached(struct sf_store *store, uint32_t page, uint32_t at, void *out, size_t len)
{
	pthread_mutex_lock(&store->lock);
	struct sf_page *p = bring(store, page);
	if (p)
		memcpy(out, p->at + at, len);
	else
		memset(out, 0, len);
	pthread_mutex_unlock(&store->lock);
}

void sf_store_write_cached(struct sf_store *store, uint32_t page, uint32_t at, const void *in, size_t len)
{
	pthread_mutex_lock(&store->lock);
	struct sf_page *p = bring(store, page);
	if (p) {
		memcpy(p->at + at, in, len);
		p->dirty = true;
	}
	pthread_mutex_unlock(&store->lock);
}

int sf_store_error(struct sf_store *store)
{
	pthread_mutex_lock(&store->lock);
	int err = store->err;
	pthread_mutex_unlock(&store->lock);
	return err;
}

void sf_store_tell(struct sf_store *store, struct sf_job *job)
{
	int err = sf_store_error(store);

	if (!err)
		return;
	job->err = err;
	job->syscall = SF_STORE_SYSCALL;
}

struct sf_store *sf_store_use(struct sf_store *store)
{
	store->users++;
	return store;
}

void sf_store_release(struct sf_store *store)
{
	if (!store || --store->users > 0)
		return;
	for (uint32_t i = 0; store->pages && i < store->n_pages && i < SF_MAX_PAGES; i++)
		free(store->pages[i].at);
	if (store->pages)
		munmap(store->pages, SF_MAX_PAGES * sizeof(*store->pages));
	free(store->cached);
	pthread_mutex_destroy(&store->lock);
	free(store);
}

static void free_store(napi_env env, void *data, void *hint)
{
	sf_store_release(data);
}

struct sf_store *sf_store_of(napi_env env, napi_value value)
{
	bool is_store = false;
	void *data = NULL;

	if (napi_check_object_type_tag(env, value, &store_tag, &is_store) != napi_ok || !is_store ||
		napi_unwrap(env, value, &data) != napi_ok) {
		napi_throw_type_error(env, NULL, "not a store");
		return NULL;
	}
	return data;
}

/* storeCreate(fd, fixedPages, cachedPages): without a file (-1) everything stays in memory. */
static napi_value store_create(napi_env env, napi_callback_info info)
{
	size_t argc = 3;
	napi_value argv[3], object;
	struct sf_store *store = calloc(1, sizeof(*store));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!store)
		return sf_throw_errno(env, ENOMEM, "storeCreate");
	pthread_mutex_init(&store->lock, NULL);
	store->users = 1;
	napi_get_value_int32(env, argv[0], &store->fd);
	napi_get_value_uint32(env, argv[1], &store->max_fixed);
	napi_get_value_uint32(env, argv[2], &store->max_cached);
	if (store->max_cached < 1)
		store->max_cached = 1;
	store->pages = sf_reserve(SF_MAX_PAGES * sizeof(*store->pages));
	store->cached = calloc(store->max_cached, sizeof(*store->cached));
	if (!store->pages || !store->cached) {
		sf_store_release(store);
		return sf_throw_errno(env, ENOMEM, "storeCreate");
	}
	napi_create_object(env, &object);
	napi_wrap(env, object, store, free_store, NULL, NULL);
	napi_type_tag_object(env, object, &store_tag);
	return object;
}

/*
 * storePlace(store): the number of a page that is the caller's to read and write, at this many times 64 KiB of the
 * file.
 */
static napi_value store_place(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value argv[1], value;
	uint32_t page = 0;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_store *store = sf_store_of(env, argv[0]);
	if (!store)
		return NULL;
	if (!take_number(store, &page))
		return sf_throw_errno(env, EFBIG, SF_STORE_SYSCALL);
	napi_create_uint32(env, page, &value);
	return value;
}

struct settle {
	struct sf_job job;
	struct sf_store *store;
	int fd;
};

/* Without waiting for what is not yet on its way to the disk: that is in memory, and as it should be. */
static void settle_run(struct sf_job *job)
{
	struct settle *settle = (struct settle *)job;

	job->syscall = SF_STORE_SYSCALL;
	sf_store_tell(settle->store, job);
	if (!job->err && settle->fd >= 0 && sync_file_range(settle->fd, 0, 0, SYNC_FILE_RANGE_WAIT_BEFORE) != 0)
		job->err = errno;
}

static void settle_release(struct sf_job *job)
{
	free(job);
}

/* storeSettle(store): a promise that all that was ever read back was what had been written. */
static napi_value store_settle(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value argv[1];
	struct settle *settle = calloc(1, sizeof(*settle));

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!settle)
		return sf_throw_errno(env, ENOMEM, SF_STORE_SYSCALL);
	settle->job = (struct sf_job){ .run = settle_run, .release = settle_release };
	settle->store = sf_store_of(env, argv[0]);
	if (!settle->store) {
		free(settle);
		return NULL;
	}
	settle->fd = settle->store->fd;
	return sf_job_start(env, &settle->job, "stillframe:settle", argv, 1);
}

/* storeClose(store): before its file is closed. What is in memory for good can still be read. */
static napi_value store_close(napi_env env, napi_callback_info info)
{
	size_t argc = 1;
	napi_value argv[1];

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	struct sf_store *store = sf_store_of(env, argv[0]);
	if (!store)
		return NULL;
	pthread_mutex_lock(&store->lock);
	store->closed = true;
	pthread_mutex_unlock(&store->lock);
	return NULL;
}

void sf_init_store(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "storeCreate", store_create);
	sf_set_function(env, exports, "storePlace", store_place);
	sf_set_function(env, exports, "storeSettle", store_settle);
	sf_set_function(env, exports, "storeClose", store_close);
}
