/*
 * What an archive says of an entry beyond its stat: path, link target, extended attributes, data ranges; and a
 * small file's data, since opening it once for all halves its cost. Most files are small and have nothing odd
 * about them: of those the whole member is made here, with its digests. The stat is taken again after the rest was
 * read, until it is the one from before: then all belongs together.
 */
#include "details.h"
#include "digest.h"
#include "../addon/job.h"
#include "member.h"
#include "../tree/walk.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define TRIES 5
#define STATUS_GONE 1
#define STATUS_UNSETTLED 2

/* Files up to this size come with their data. */
#define INLINE_BYTES (32 * 1024)
#define INLINE_MORE (SF_HEADER_MAX + SF_BLOCK)

/* A member that only needs to be written: header, data, padding, at `data_at`. */
struct ready {
	uint32_t id, header_len, data_len, fs;
	double data_at, ctime_ms;
	uint64_t ino;
};

/*
 * Any other entry, 8-byte aligned: this, then data ranges (two doubles each), path, path of the asked-for other name,
 * link target, attributes.
 */
struct record {
	uint32_t length, id;
	int32_t status; /* 0, STATUS_..., or -errno */
	uint32_t mode, uid, gid, nlink, fs, dev, rdev, mtime_nsec, path_len, link_len, n_xattrs, n_ranges, sparse;
	uint32_t n_ready; /* how many ready members come before it */
	uint32_t other, other_len; /* the entry whose path is told, too, or its own id */
	uint32_t unused;
	double size, mtime_sec, ctime_ms;
	double data_at; /* where its contents are in `data`, or -1 */
	uint64_t ino;
};

struct describe {
	struct sf_job job;
	struct sf_tree *tree;
	uint32_t *ids;
	uint32_t *others; /* for each an entry whose path is to be told, too, or itself; NULL where it is always itself */
	uint32_t other; /* of the current one */
	size_t count;
	bool hash;
	char *prefix; /* of member names; NULL when members are not to be made */
	size_t prefix_len;
	struct sf_digest *digest;
	/*
	 * How many are ready, and how many were left without data (a word each), then the records; the caller's memory
	 * while they fit.
	 */
	struct sf_bytes out;
	char *data; /* the caller's: what was read */
	size_t data_len, data_room;
	struct ready *ready; /* the caller's, like the digests: room for one of each id */
	unsigned char *digests;
	uint32_t n_ready, n_left; /* the latter: small files for whose data there was no room */
	struct sf_path *near;
	char *list, *value; /* room for attribute names, and for one value or path */
};

static bool vanished(int err)
{
	return err == ENOENT || err == ENOTDIR || err == ELOOP || err == ESTALE;
}

/* A path below the root, into the records. 0, or an errno. */
static int append_path(struct describe *job, uint32_t id, uint32_t *path_len)
{
	int len = sf_path_near(&job->tree->records, job->near, id, job->value, SF_XATTR_BYTES);

	if (len < 0)
		return ENAMETOOLONG;
	*path_len = (uint32_t)len;
	sf_bytes_append(&job->out, job->value, (size_t)len);
	return 0;
}

/* The entry's path, and that of the other one that was asked for with it. 0, or an errno. */
static int append_paths(struct describe *job, uint32_t id, struct record *record)
{
	int err = append_path(job, id, &record->path_len);

	return err || job->other == id ? err : append_path(job, job->other, &record->other_len);
}

static int append_xattrs(struct describe *job, const struct sf_place *place, struct record *record)
{
	return sf_append_xattrs(&job->out, place, job->list, job->value, &record->n_xattrs);
}

/* Everything but the stat. 0, or an errno. */
static int append_details(
	struct describe *job, struct sf_walk *walk, uint32_t id, const struct sf_entry *entry, struct record *record)
{
	char proc[320];

	if (S_ISREG(entry->mode) && entry->sparse) {
		int fd = sf_walk_open(walk, id);
		if (fd < 0)
			return -fd;
		/* To look for holes moves the offset, which the holder of a lease shares: then all of it is data. */
		int err = walk->shared ? 0 : sf_append_ranges(&job->out, fd, entry->size, &record->n_ranges);
		close(fd);
		if (err)
			return err;
		record->sparse = !walk->shared;
	}
	int err = append_paths(job, id, record);
	if (err)
		return err;
	if (id == SF_ROOT) {
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", job->tree->root_fd);
		return append_xattrs(job, &(struct sf_place){ .fd = -1, .path = proc, .follow = true }, record);
	}
	int dir = sf_walk_parent(walk, id);
	if (dir < 0)
		return -dir;
	const char *name = sf_name_of(&job->tree->records, id);
	if (S_ISLNK(entry->mode)) {
		ssize_t link = readlinkat(dir, name, job->value, SF_XATTR_BYTES);
		if (link < 0)
			return errno == EINVAL ? ENOENT : errno;
		record->link_len = (uint32_t)link;
		sf_bytes_append(&job->out, job->value, record->link_len);
	}
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", dir, name);
	return append_xattrs(job, &(struct sf_place){ .fd = -1, .path = proc }, record);
}

/* Takes the stat again. 0 when it is as before, STATUS_UNSETTLED when not, STATUS_GONE, or -errno. */
static int settle(struct sf_tree *tree, struct sf_walk *walk, uint32_t id, struct sf_entry *entry)
{
	struct statx st;
	int rc;

	if (id == SF_ROOT) {
		rc = statx(tree->root_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st);
	} else {
		int dir = sf_walk_parent(walk, id);
		if (dir < 0)
			return vanished(-dir) ? STATUS_GONE : dir;
		rc = statx(dir, sf_name_of(&tree->records, id), AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st);
	}
	if (rc != 0)
		return vanished(errno) ? STATUS_GONE : -errno;
	/* A directory that is none any more, or the other way round, is for the next scan to sort out. */
	if (S_ISDIR(st.stx_mode) != S_ISDIR(entry->mode))
		return STATUS_GONE;
	return sf_entry_update(entry, &st) ? STATUS_UNSETTLED : 0;
}

static int settle_open(struct sf_entry *entry, int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) != 0)
		return -errno;
	if (!S_ISREG(st.stx_mode))
		return STATUS_GONE;
	return sf_entry_update(entry, &st) ? STATUS_UNSETTLED : 0;
}

/*
 * Length of the member's header, now in `data`, when all that is known of the file fits one of the usual kind; else 0.
 */
static size_t make_header(struct describe *job, const struct sf_entry *entry, const struct record *record)
{
	size_t name_len = job->prefix_len + record->path_len;
	char name[SF_NAME_MAX];

	if (!job->prefix || entry->nlink != 1 || record->id == SF_ROOT || name_len > sizeof(name) || job->out.failed)
		return 0;
	memcpy(name, job->prefix, job->prefix_len);
	memcpy(name + job->prefix_len, job->out.at + job->out.len - record->other_len - record->path_len, record->path_len);
	return sf_member_header(entry, name, name_len, job->data + job->data_len);
}

/* The file's contents into `data`, behind a header of this length. 0, STATUS_UNSETTLED at an early end, or -errno. */
static int read_data(struct describe *job, int fd, size_t header_len, size_t size)
{
	char *data = job->data + job->data_len + header_len;

	for (size_t done = 0; done < size;) {
		ssize_t got = pread(fd, data + done, size - done, (off_t)done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			return got < 0 ? -errno : STATUS_UNSETTLED;
		done += (size_t)got;
	}
	return 0;
}

/* The member whose header and data were just read, as one that only needs to be written. */
static void finish_member(struct describe *job, const struct sf_entry *entry, uint32_t id, size_t header_len)
{
	size_t size = entry->size, padding = (SF_BLOCK - size % SF_BLOCK) % SF_BLOCK;
	char *header = job->data + job->data_len, *data = header + header_len;
	unsigned char *digests = job->digests + SF_MEMBER_DIGESTS * job->n_ready;

	memset(data + size, 0, padding);
	if (job->hash) {
		sf_digest_of(job->digest, header, header_len, data + size, padding, digests);
		sf_digest_of(job->digest, data, size, NULL, 0, digests + SF_DIGEST);
	}
	job->ready[job->n_ready++] = (struct ready){
		.id = id,
		.header_len = (uint32_t)header_len,
		.data_len = (uint32_t)size,
		.fs = entry->fs,
		.data_at = (double)job->data_len,
		.ctime_ms = sf_entry_ctime_ms(entry),
		.ino = entry->ino,
	};
	job->data_len += header_len + size + padding;
}

/* Path, attributes and data of a small file. Its status; `*header_len` is 0 where the record has to tell the rest. */
static int describe_small(struct describe *job, struct sf_walk *walk, uint32_t id, struct sf_entry *entry,
	struct record *record, size_t *header_len)
{
	int fd = sf_walk_open(walk, id);

	*header_len = 0;
	if (fd < 0)
		return vanished(-fd) || fd == -ENXIO ? STATUS_GONE : fd;
	int status = -append_paths(job, id, record);
	/* Made of the path, and so before attributes follow it in the records: with attributes it is of no use. */
	if (status == 0)
		*header_len = make_header(job, entry, record);
	if (status == 0)
		status = -append_xattrs(job, &(struct sf_place){ .fd = fd }, record);
	if (record->n_xattrs > 0)
		*header_len = 0;
	if (status == 0)
		status = read_data(job, fd, *header_len, entry->size);
	/* The stat from before is the scan's. Should this be another file now, the errors are that file's. */
	int settled = settle_open(entry, fd);
	close(fd);
	return settled != 0 ? settled : status;
}

/* Of what becomes a link to another name nobody wants the data. */
static bool is_small(const struct describe *job, uint32_t id, const struct sf_entry *entry)
{
	return S_ISREG(entry->mode) && !entry->sparse && entry->size <= INLINE_BYTES && job->other == id;
}

static bool has_room(const struct describe *job, const struct sf_entry *entry)
{
	return job->data_len + entry->size + INLINE_MORE <= job->data_room;
}

/* Completes the record whose details are in place from `start` on. */
static void finish_record(struct describe *job, const struct sf_entry *entry, size_t start, struct record *record)
{
	static const char zeros[8];

	sf_bytes_append(&job->out, zeros, (8 - job->out.len % 8) % 8);
	if (job->out.failed)
		return;
	record->length = (uint32_t)(job->out.len - start);
	record->n_ready = job->n_ready;
	record->mode = entry->mode;
	record->uid = entry->uid;
	record->gid = entry->gid;
	record->nlink = entry->nlink;
	record->fs = entry->fs;
	record->dev = entry->dev;
	record->rdev = entry->rdev;
	record->mtime_nsec = entry->mtime_nsec;
	record->size = (double)entry->size;
	record->mtime_sec = (double)entry->mtime_sec;
	record->ctime_ms = sf_entry_ctime_ms(entry);
	record->ino = entry->ino;
	memcpy(job->out.at + start, record, sizeof(*record));
}

static void describe_one(struct describe *job, struct sf_walk *walk, uint32_t id)
{
	const struct sf_entry before = *sf_entry_of(&job->tree->records, id);
	struct sf_entry entry = before;
	size_t start = job->out.len;
	struct record record;
	bool left = false;

	for (int tries = 0; tries < TRIES; tries++) {
		record = (struct record){ .id = id, .other = job->other, .data_at = -1 };
		job->out.len = start;
		sf_bytes_append(&job->out, &record, sizeof(record));
		left = is_small(job, id, &entry) && !has_room(job, &entry);
		if (is_small(job, id, &entry) && !left) {
			size_t size = entry.size, header_len;
			record.status = describe_small(job, walk, id, &entry, &record, &header_len);
			if (record.status == STATUS_UNSETTLED)
				continue;
			if (record.status == 0 && header_len > 0) {
				job->out.len = start;
				finish_member(job, &entry, id, header_len);
				break;
			}
			record.data_at = (double)job->data_len;
			job->data_len += size;
			break;
		}
		int err = append_details(job, walk, id, &entry, &record);
		record.status = settle(job->tree, walk, id, &entry);
		if (record.status == 0 && err)
			record.status = vanished(err) ? STATUS_GONE : -err;
		if (record.status != STATUS_UNSETTLED)
			break;
	}
	job->n_left += left;
	if (memcmp(&entry, &before, sizeof(entry)) != 0)
		*sf_entry_of(&job->tree->records, id) = entry;
	if (job->out.len > start)
		finish_record(job, &entry, start, &record);
}

static void run(struct sf_job *base)
{
	struct describe *job = (struct describe *)base;
	uint32_t head[2] = { 0, 0 };
	struct sf_walk walk;

	job->list = malloc(SF_XATTR_BYTES);
	job->value = malloc(SF_XATTR_BYTES);
	job->near = malloc(sizeof(*job->near));
	job->digest = sf_digest_new();
	sf_bytes_append(&job->out, head, sizeof(head));
	if (!job->near || !job->list || !job->value || !job->digest || job->out.failed) {
		base->err = ENOMEM;
		return;
	}
	job->near->dir = SF_ROOT;
	job->near->len = 0;
	sf_walk_begin(&walk, job->tree);
	for (size_t i = 0; i < job->count && !job->out.failed && !sf_tree_cancelled(job->tree); i++) {
		job->other = job->others ? job->others[i] : job->ids[i];
		if (job->ids[i] < job->tree->records.count && job->other < job->tree->records.count)
			describe_one(job, &walk, job->ids[i]);
	}
	sf_walk_end(&walk);
	if (job->out.failed)
		base->err = ENOMEM;
	else
		memcpy(job->out.at, (uint32_t[]){ job->n_ready, job->n_left }, sizeof(head));
	if (sf_tree_cancelled(job->tree))
		base->err = ECANCELED;
}

static void free_bytes(napi_env env, void *data, void *hint)
{
	free(data);
}

static napi_value result(napi_env env, struct sf_job *base)
{
	struct describe *job = (struct describe *)base;
	napi_value value;

	if (job->out.borrowed) {
		napi_create_uint32(env, (uint32_t)job->out.len, &value);
		return value;
	}
	/* The bytes themselves, not a copy; where that is not allowed, a copy. */
	if (napi_create_external_buffer(env, job->out.len, job->out.at, free_bytes, NULL, &value) == napi_ok)
		job->out.at = NULL;
	else
		napi_create_buffer_copy(env, job->out.len, job->out.at, NULL, &value);
	return value;
}

static void release(struct sf_job *base)
{
	struct describe *job = (struct describe *)base;

	sf_digest_free(job->digest);
	if (!job->out.borrowed)
		free(job->out.at);
	if (job->tree)
		sf_tree_job_done(job->tree);
	free(job->near);
	free(job->list);
	free(job->value);
	free(job->prefix);
	free(job);
}

/*
 * treeDescribe(tree, ids: Uint32Array, hash, data: Buffer, ready: Buffer, digests: Buffer, records: Buffer, prefix?:
 * Buffer, others?: Uint32Array): a promise of the length of the records, or of the records themselves where they do not
 * fit.
 */
static napi_value tree_describe(napi_env env, napi_callback_info info)
{
	size_t argc = 9, ready_room, digests_room, n_others;
	napi_value argv[9];
	struct describe *job = calloc(1, sizeof(*job));
	bool wants_members = false, wants_others = false;
	void *prefix;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!job)
		return sf_throw_errno(env, ENOMEM, "describe");
	job->job = (struct sf_job){ .run = run, .result = result, .release = release };
	job->out.borrowed = true;
	job->tree = sf_tree_of(env, argv[0]);
	if (!job->tree ||
		napi_get_typedarray_info(env, argv[1], NULL, &job->count, (void **)&job->ids, NULL, NULL) != napi_ok ||
		napi_get_buffer_info(env, argv[3], (void **)&job->data, &job->data_room) != napi_ok ||
		napi_get_buffer_info(env, argv[4], (void **)&job->ready, &ready_room) != napi_ok ||
		napi_get_buffer_info(env, argv[5], (void **)&job->digests, &digests_room) != napi_ok ||
		napi_get_buffer_info(env, argv[6], (void **)&job->out.at, &job->out.room) != napi_ok) {
		release(&job->job);
		return NULL;
	}
	napi_get_value_bool(env, argv[2], &job->hash);
	napi_is_typedarray(env, argv[8], &wants_others);
	if (wants_others &&
		(napi_get_typedarray_info(env, argv[8], NULL, &n_others, (void **)&job->others, NULL, NULL) != napi_ok ||
			n_others < job->count)) {
		release(&job->job);
		return sf_throw_errno(env, EINVAL, "describe");
	}
	napi_is_buffer(env, argv[7], &wants_members);
	if (wants_members) {
		napi_get_buffer_info(env, argv[7], &prefix, &job->prefix_len);
		job->prefix = malloc(job->prefix_len + 1);
		/* An empty one has no bytes to point to. */
		if (job->prefix && job->prefix_len > 0)
			memcpy(job->prefix, prefix, job->prefix_len);
	}
	if ((wants_members && !job->prefix) || ready_room < job->count * sizeof(*job->ready) ||
		digests_room < job->count * SF_MEMBER_DIGESTS) {
		int err = wants_members && !job->prefix ? ENOMEM : EINVAL;
		release(&job->job);
		return sf_throw_errno(env, err, "describe");
	}
	napi_value keeps[] = { argv[0], argv[1], argv[3], argv[4], argv[5], argv[6], argv[8] };
	return sf_job_start_apart(env, &job->tree->jobs, &job->job, "stillframe:describe", keeps, wants_others ? 7 : 6);
}

void sf_init_describe(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "treeDescribe", tree_describe);
}
