/*
 * One step of a walk along a path, in a thread that can be left behind: the server of a file (FUSE, NFS) may not
 * answer. A link is opened itself, and what it says is read.
 */
#include "job.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/limits.h>
#include <linux/magic.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

struct opened {
	int64_t fd;
	uint64_t dev; /* as makedev(3) has it */
	uint64_t ino;
	uint64_t mode;
	uint64_t uid;
	uint64_t of_proc; /* a link of procfs: where it leads only the kernel knows */
};

struct open_entry {
	struct sf_job job;
	/* Its own: nobody else shares what it uses. */
	struct sf_group group;
	int dir; /* its own, or AT_FDCWD */
	char *name;
	bool follow;
	struct opened opened;
	char link[PATH_MAX];
	size_t link_len;
};

/* An automounter's directory is mounted only for those who ask for a directory. */
static int open_path(const struct open_entry *entry)
{
	int flags = O_PATH | O_CLOEXEC | (entry->follow ? 0 : O_NOFOLLOW);
	int fd = openat(entry->dir, entry->name, flags | O_DIRECTORY);

	return fd < 0 && errno == ENOTDIR ? openat(entry->dir, entry->name, flags) : fd;
}

/* 0, or an errno. */
static int read_link(struct open_entry *entry, int fd)
{
	struct statfs fs;
	ssize_t len = readlinkat(fd, "", entry->link, sizeof(entry->link));

	if (len < 0 || fstatfs(fd, &fs) != 0)
		return errno;
	entry->link_len = (size_t)len;
	entry->opened.of_proc = fs.f_type == PROC_SUPER_MAGIC;
	return 0;
}

static void run(struct sf_job *job)
{
	struct open_entry *entry = (struct open_entry *)job;
	int fd = open_path(entry);
	struct statx st;

	job->syscall = "openat";
	entry->opened.fd = fd;
	if (fd < 0 || statx(fd, "", AT_EMPTY_PATH | AT_STATX_DONT_SYNC, STATX_BASIC_STATS, &st) != 0) {
		job->err = errno;
		return;
	}
	entry->opened.dev = makedev(st.stx_dev_major, st.stx_dev_minor);
	entry->opened.ino = st.stx_ino;
	entry->opened.mode = st.stx_mode;
	entry->opened.uid = st.stx_uid;
	if (S_ISLNK(st.stx_mode))
		job->err = read_link(entry, fd);
}

static napi_value result(napi_env env, struct sf_job *job)
{
	struct open_entry *entry = (struct open_entry *)job;
	napi_value value;
	char *bytes;

	napi_create_buffer(env, sizeof(entry->opened) + entry->link_len, (void **)&bytes, &value);
	memcpy(bytes, &entry->opened, sizeof(entry->opened));
	memcpy(bytes + sizeof(entry->opened), entry->link, entry->link_len);
	/* From here on it is the caller's. */
	entry->opened.fd = -1;
	return value;
}

static void release(struct sf_job *job)
{
	struct open_entry *entry = (struct open_entry *)job;

	if (entry->opened.fd >= 0)
		close((int)entry->opened.fd);
	if (entry->dir >= 0)
		close(entry->dir);
	sf_group_end(&entry->group);
	free(entry->name);
	free(entry);
}

/*
 * openEntry(dirfd, name: Buffer, follow): a promise of descriptor (O_PATH), device, inode, mode, owner, and 1 for a
 * link of procfs, 64 bits each, and of what a link says. It does not keep the process alive.
 */
static napi_value start(napi_env env, napi_callback_info info)
{
	size_t argc = 3, length = 0;
	struct open_entry *entry = calloc(1, sizeof(*entry));
	int dir = AT_FDCWD;
	char *name = NULL;
	napi_value argv[3];

	if (!entry)
		return sf_throw_errno(env, ENOMEM, "openEntry");
	entry->job = (struct sf_job){ .run = run, .result = result, .release = release, .background = true };
	entry->opened.fd = -1;
	entry->dir = AT_FDCWD;
	sf_group_begin(&entry->group);
	napi_get_cb_info(env, info, &argc, argv, NULL, NULL);
	if (napi_get_value_int32(env, argv[0], &dir) != napi_ok ||
		napi_get_buffer_info(env, argv[1], (void **)&name, &length) != napi_ok || length == 0 ||
		memchr(name, '\0', length) || napi_get_value_bool(env, argv[2], &entry->follow) != napi_ok) {
		release(&entry->job);
		napi_throw_type_error(env, NULL, "openEntry(dirfd, name, follow)");
		return NULL;
	}
	/* Its own: the caller may close the directory while a thread that is held up still uses it. */
	if (dir != AT_FDCWD && (entry->dir = fcntl(dir, F_DUPFD_CLOEXEC, 0)) < 0) {
		int err = errno;
		release(&entry->job);
		return sf_throw_errno(env, err, "dup");
	}
	entry->name = strndup(name, length);
	if (!entry->name) {
		release(&entry->job);
		return sf_throw_errno(env, ENOMEM, "openEntry");
	}
	return sf_job_start_apart(env, &entry->group, &entry->job, "stillframe:openEntry", NULL, 0);
}

void sf_init_open_entry(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "openEntry", start);
}
