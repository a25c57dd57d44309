/*
 * What an archive says of an entry beyond its stat: path, link target, extended attributes, data ranges; and a
 * small file's data, since opening it once for all halves its cost. Most files are small and have nothing odd
 * about them: of those the whole member is made here. The stat is taken again after the rest was read, until it
 * is the one from before: then all belongs together.
 */
#include "member.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>
#include <unistd.h>

#define TRIES 5
#define STATUS_GONE 1
#define STATUS_UNSETTLED 2

struct bytes {
	char *at;
	size_t len, room;
	bool failed;
};

/* Files up to this size come with their data, as long as the caller's room lasts. */
#define INLINE_BYTES (32 * 1024)
#define INLINE_MORE (SF_HEADER_MAX + SF_BLOCK)

/*
 * One record, 8-byte aligned: this, then data ranges (two doubles each), path, link target, attributes. What was
 * read of a file is apart, at `data_at`: HOLDS_DATA, its contents; HOLDS_MEMBER, the member with header and padding,
 * and then the record has no path.
 */
#define HOLDS_DATA 1
#define HOLDS_MEMBER 2
struct record {
	uint32_t length, id;
	int32_t status; /* 0, STATUS_..., or -errno */
	uint32_t mode, uid, gid, nlink, fs, dev, rdev, mtime_nsec, ctime_nsec, path_len, link_len, n_xattrs, n_ranges, sparse, holds, header_len, unused;
	double size, mtime_sec, ctime_sec, data_at;
	uint64_t ino;
	unsigned char digest[32]; /* of what was read, where the call asks for it */
};

struct describe {
	napi_async_work work;
	napi_deferred deferred;
	napi_ref keep_tree, keep_ids, keep_data;
	struct sf_tree *tree;
	uint32_t *ids;
	size_t count;
	bool hash;
	char *prefix; /* of member names; NULL when members are not to be made */
	size_t prefix_len;
	EVP_MD_CTX *digest;
	struct bytes out; /* the records */
	char *data; /* the caller's: what was read */
	size_t data_len, data_room;
	char *list, *value; /* room for attribute names, and for one value */
};

#define XATTR_BYTES 65536

static bool reserve(struct bytes *bytes, size_t more)
{
	if (bytes->len + more > bytes->room) {
		size_t room = (bytes->len + more) * 2 + 4096;
		char *at = realloc(bytes->at, room);
		if (!at) {
			bytes->failed = true;
			return false;
		}
		bytes->at = at;
		bytes->room = room;
	}
	return true;
}

static void append(struct bytes *bytes, const void *data, size_t len)
{
	if (!reserve(bytes, len))
		return;
	memcpy(bytes->at + bytes->len, data, len);
	bytes->len += len;
}

/* Where the data lies in a file that has holes. 0, or an errno. */
static int append_ranges(struct describe *job, int fd, uint64_t size, uint32_t *count)
{
	off_t at = 0;

	while ((uint64_t)at < size) {
		off_t data = lseek(fd, at, SEEK_DATA);
		if (data < 0)
			return errno == ENXIO ? 0 : errno; /* ENXIO: no data from here on */
		off_t hole = lseek(fd, data, SEEK_HOLE);
		if (hole < 0)
			return errno;
		double range[2] = { (double)data, (double)(hole - data) };
		append(&job->out, range, sizeof(range));
		(*count)++;
		at = hole;
	}
	return 0;
}

/* Where attributes are read from: an open file; or a path, followed only where it is the root's link in /proc. */
struct place {
	int fd; /* or -1 */
	const char *path;
	bool follow;
};

static ssize_t list_xattrs(const struct place *place, char *list)
{
	if (place->fd >= 0)
		return flistxattr(place->fd, list, XATTR_BYTES);
	return place->follow ? listxattr(place->path, list, XATTR_BYTES) : llistxattr(place->path, list, XATTR_BYTES);
}

static ssize_t get_xattr(const struct place *place, const char *name, char *value)
{
	if (place->fd >= 0)
		return fgetxattr(place->fd, name, value, XATTR_BYTES);
	return place->follow ? getxattr(place->path, name, value, XATTR_BYTES) : lgetxattr(place->path, name, value, XATTR_BYTES);
}

static int append_xattrs(struct describe *job, const struct place *place, uint32_t *count)
{
	ssize_t len = list_xattrs(place, job->list);

	if (len < 0)
		return errno == ENOTSUP || errno == ENOSYS ? 0 : errno;
	for (const char *name = job->list; name < job->list + len; name += strlen(name) + 1) {
		ssize_t value_len = get_xattr(place, name, job->value);
		if (value_len < 0) {
			if (errno == ENODATA)
				continue;
			return errno;
		}
		uint32_t lengths[2] = { (uint32_t)strlen(name), (uint32_t)value_len };
		append(&job->out, lengths, sizeof(lengths));
		append(&job->out, name, lengths[0]);
		append(&job->out, job->value, lengths[1]);
		(*count)++;
	}
	return 0;
}

static bool vanished(int err)
{
	return err == ENOENT || err == ENOTDIR || err == ELOOP || err == ESTALE;
}

/* Everything but the stat. 0, or an errno. */
static int append_details(struct describe *job, struct sf_walk *walk, uint32_t id, struct record *record)
{
	struct sf_tree *tree = job->tree;
	struct sf_entry *entry = sf_entry_at(tree, id);
	char name[256], proc[320];

	if (S_ISREG(entry->mode) && entry->sparse) {
		int fd = sf_walk_open(walk, id);
		if (fd < 0)
			return -fd;
		int err = append_ranges(job, fd, entry->size, &record->n_ranges);
		close(fd);
		if (err)
			return err;
		record->sparse = 1;
	}
	int len = sf_tree_path(tree, id, job->value, XATTR_BYTES);
	if (len < 0)
		return ENAMETOOLONG;
	record->path_len = (uint32_t)len;
	append(&job->out, job->value, record->path_len);
	if (id == SF_ROOT) {
		snprintf(proc, sizeof(proc), "/proc/self/fd/%d", tree->root_fd);
		return append_xattrs(job, &(struct place){ .fd = -1, .path = proc, .follow = true }, &record->n_xattrs);
	}
	int dir = sf_walk_parent(walk, id);
	if (dir < 0)
		return -dir;
	sf_entry_name(tree, id, name);
	if (S_ISLNK(entry->mode)) {
		ssize_t link = readlinkat(dir, name, job->value, XATTR_BYTES);
		if (link < 0)
			return errno == EINVAL ? ENOENT : errno;
		record->link_len = (uint32_t)link;
		append(&job->out, job->value, record->link_len);
	}
	snprintf(proc, sizeof(proc), "/proc/self/fd/%d/%s", dir, name);
	return append_xattrs(job, &(struct place){ .fd = -1, .path = proc }, &record->n_xattrs);
}

/* Takes the stat again. 0 when it is as before, STATUS_UNSETTLED when not, STATUS_GONE, or -errno. */
static int settle(struct sf_tree *tree, struct sf_walk *walk, uint32_t id)
{
	struct sf_entry *entry = sf_entry_at(tree, id);
	struct statx st;
	char name[256];
	int rc;

	if (id == SF_ROOT) {
		rc = statx(tree->root_fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st);
	} else {
		int dir = sf_walk_parent(walk, id);
		if (dir < 0)
			return vanished(-dir) ? STATUS_GONE : dir;
		sf_entry_name(tree, id, name);
		rc = statx(dir, name, AT_SYMLINK_NOFOLLOW | AT_NO_AUTOMOUNT, STATX_BASIC_STATS, &st);
	}
	if (rc != 0)
		return vanished(errno) ? STATUS_GONE : -errno;
	/* A directory that is none any more, or the other way round, is for the next scan to sort out. */
	if (S_ISDIR(st.stx_mode) != S_ISDIR(entry->mode))
		return STATUS_GONE;
	return sf_entry_update(entry, &st) ? STATUS_UNSETTLED : 0;
}

static int stat_open(struct sf_entry *entry, int fd)
{
	struct statx st;

	if (statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) != 0)
		return -errno;
	if (!S_ISREG(st.stx_mode))
		return STATUS_GONE;
	return sf_entry_update(entry, &st) ? STATUS_UNSETTLED : 0;
}

/* The member's header, when all that is known of the file by now fits one of the usual kind. */
static void append_header(struct describe *job, const struct sf_entry *entry, struct record *record)
{
	size_t name_len = job->prefix_len + record->path_len;
	char name[SF_NAME_MAX];

	if (!job->prefix || record->n_xattrs > 0 || entry->nlink != 1 || record->id == SF_ROOT || name_len > sizeof(name))
		return;
	memcpy(name, job->prefix, job->prefix_len);
	memcpy(name + job->prefix_len, job->out.at + job->out.len - record->path_len, record->path_len);
	record->header_len = (uint32_t)sf_member_header(entry, name, name_len, job->data + job->data_len);
	if (record->header_len == 0)
		return;
	job->data_len += record->header_len;
	job->out.len -= record->path_len;
	record->path_len = 0;
	record->holds = HOLDS_MEMBER;
}

/* The file's contents, behind a header where one was made, and its digest. */
static int append_data(struct describe *job, const struct sf_entry *entry, int fd, struct record *record)
{
	size_t size = entry->size, done = 0;

	record->holds = HOLDS_DATA;
	record->data_at = (double)job->data_len;
	append_header(job, entry, record);
	char *data = job->data + job->data_len;
	while (done < size) {
		ssize_t got = pread(fd, data + done, size - done, (off_t)done);
		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return -errno;
		if (got == 0)
			return STATUS_UNSETTLED;
		done += (size_t)got;
	}
	job->data_len += size;
	if (record->holds == HOLDS_MEMBER) {
		size_t padding = (SF_BLOCK - size % SF_BLOCK) % SF_BLOCK;
		memset(data + size, 0, padding);
		job->data_len += padding;
	}
	if (job->hash) {
		EVP_DigestInit_ex(job->digest, NULL, NULL);
		EVP_DigestUpdate(job->digest, data, size);
		EVP_DigestFinal_ex(job->digest, record->digest, NULL);
	}
	return 0;
}

/* Path, attributes and data of a small file that is open. Its status. */
static int append_open(struct describe *job, uint32_t id, int fd, struct record *record)
{
	struct sf_entry *entry = sf_entry_at(job->tree, id);
	int len = sf_tree_path(job->tree, id, job->value, XATTR_BYTES);

	if (len < 0)
		return -ENAMETOOLONG;
	record->path_len = (uint32_t)len;
	append(&job->out, job->value, record->path_len);
	int err = append_xattrs(job, &(struct place){ .fd = fd }, &record->n_xattrs);
	int read = err ? -err : append_data(job, entry, fd, record);
	/* The stat from before is the scan's. Should this be another file now, the errors are that file's. */
	int status = stat_open(entry, fd);
	return status != 0 ? status : read;
}

static int append_inline(struct describe *job, struct sf_walk *walk, uint32_t id, struct record *record)
{
	int fd = sf_walk_open(walk, id);

	if (fd < 0)
		return vanished(-fd) || fd == -ENXIO ? STATUS_GONE : fd;
	int status = append_open(job, id, fd, record);
	close(fd);
	return status;
}

static void describe_one(struct describe *job, struct sf_walk *walk, uint32_t id)
{
	struct sf_entry *entry = sf_entry_at(job->tree, id);
	size_t start = job->out.len, data_start = job->data_len;
	struct record record;

	for (int tries = 0; tries < TRIES; tries++) {
		memset(&record, 0, sizeof(record));
		record.id = id;
		job->out.len = start;
		job->data_len = data_start;
		append(&job->out, &record, sizeof(record));
		if (S_ISREG(entry->mode) && !entry->sparse && entry->size <= INLINE_BYTES && job->data_len + entry->size + INLINE_MORE <= job->data_room) {
			record.status = append_inline(job, walk, id, &record);
			if (record.status != STATUS_UNSETTLED)
				break;
			continue;
		}
		int err = append_details(job, walk, id, &record);
		record.status = settle(job->tree, walk, id);
		if (record.status == 0 && err)
			record.status = vanished(err) ? STATUS_GONE : -err;
		if (record.status != STATUS_UNSETTLED)
			break;
	}
	if (!reserve(&job->out, 8))
		return;
	while (job->out.len % 8 != 0)
		job->out.at[job->out.len++] = '\0';
	record.length = (uint32_t)(job->out.len - start);
	record.mode = entry->mode;
	record.uid = entry->uid;
	record.gid = entry->gid;
	record.nlink = entry->nlink;
	record.fs = entry->fs;
	record.dev = entry->dev;
	record.rdev = entry->rdev;
	record.mtime_nsec = entry->mtime_nsec;
	record.ctime_nsec = entry->ctime_nsec;
	record.size = (double)entry->size;
	record.mtime_sec = (double)entry->mtime_sec;
	record.ctime_sec = (double)entry->ctime_sec;
	record.ino = entry->ino;
	memcpy(job->out.at + start, &record, sizeof(record));
}

static void execute(napi_env env, void *data)
{
	struct describe *job = data;
	struct sf_walk walk;

	job->list = malloc(XATTR_BYTES);
	job->value = malloc(XATTR_BYTES);
	job->digest = EVP_MD_CTX_new();
	reserve(&job->out, job->count * 256);
	if (!job->list || !job->value || !job->digest || EVP_DigestInit_ex(job->digest, EVP_sha256(), NULL) != 1) {
		job->out.failed = true;
		return;
	}
	sf_walk_begin(&walk, job->tree);
	for (size_t i = 0; i < job->count && !job->out.failed; i++)
		if (job->ids[i] < job->tree->n_entries)
			describe_one(job, &walk, job->ids[i]);
	sf_walk_end(&walk);
}

static void free_bytes(napi_env env, void *data, void *hint)
{
	free(data);
}

static void free_job(struct describe *job)
{
	EVP_MD_CTX_free(job->digest);
	free(job->out.at);
	free(job->list);
	free(job->value);
	free(job->prefix);
	free(job);
}

static void complete(napi_env env, napi_status status, void *data)
{
	struct describe *job = data;
	napi_value result;

	if (status != napi_ok || job->out.failed) {
		napi_reject_deferred(env, job->deferred, sf_errno_error(env, status != napi_ok ? ECANCELED : ENOMEM, "describe"));
	} else {
		/* The bytes themselves: a copy of some megabytes costs mostly page faults. Where that is not allowed, a copy. */
		if (job->out.len > 0 && napi_create_external_buffer(env, job->out.len, job->out.at, free_bytes, NULL, &result) == napi_ok)
			job->out.at = NULL;
		else
			napi_create_buffer_copy(env, job->out.len, job->out.at, NULL, &result);
		napi_resolve_deferred(env, job->deferred, result);
	}
	napi_delete_reference(env, job->keep_tree);
	napi_delete_reference(env, job->keep_ids);
	napi_delete_reference(env, job->keep_data);
	napi_delete_async_work(env, job->work);
	free_job(job);
}

/* treeDescribe(tree, ids: Uint32Array, hash, data: Buffer, prefix?: Buffer): a promise of one record for each id; what was read goes into `data`. */
static napi_value tree_describe(napi_env env, napi_callback_info info)
{
	size_t argc = 5;
	napi_value argv[5], promise, name;
	struct describe *job = calloc(1, sizeof(*job));
	bool wants_members = false;
	void *prefix;

	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (!job)
		return sf_throw_errno(env, ENOMEM, "describe");
	job->tree = sf_tree_of(env, argv[0]);
	if (!job->tree || napi_get_typedarray_info(env, argv[1], NULL, &job->count, (void **)&job->ids, NULL, NULL) != napi_ok ||
	    napi_get_buffer_info(env, argv[3], (void **)&job->data, &job->data_room) != napi_ok) {
		free_job(job);
		return NULL;
	}
	napi_get_value_bool(env, argv[2], &job->hash);
	napi_is_buffer(env, argv[4], &wants_members);
	if (wants_members) {
		napi_get_buffer_info(env, argv[4], &prefix, &job->prefix_len);
		job->prefix = malloc(job->prefix_len + 1);
		if (!job->prefix) {
			free_job(job);
			return sf_throw_errno(env, ENOMEM, "describe");
		}
		memcpy(job->prefix, prefix, job->prefix_len);
	}
	napi_create_promise(env, &job->deferred, &promise);
	napi_create_reference(env, argv[0], 1, &job->keep_tree);
	napi_create_reference(env, argv[1], 1, &job->keep_ids);
	napi_create_reference(env, argv[3], 1, &job->keep_data);
	napi_create_string_utf8(env, "stillframe:describe", NAPI_AUTO_LENGTH, &name);
	napi_create_async_work(env, NULL, name, execute, complete, job, &job->work);
	napi_queue_async_work(env, job->work);
	return promise;
}

void sf_init_describe(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "treeDescribe", tree_describe);
}
