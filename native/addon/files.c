/*
 * What extracting needs and Node.js lacks: the *at() calls, by which a path is resolved below a directory that
 * is held open and nowhere else; attributes; nanosecond times.
 * One function a syscall; paths are buffers, because Linux names are bytes.
 */
#include "addon.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#define MAX_ARGS 8
#define OPENAT2_ATTEMPTS 1000

struct args {
	napi_env env;
	napi_value at[MAX_ARGS];
	size_t count;
};

static bool get_args(napi_env env, napi_callback_info info, struct args *args, size_t wanted)
{
	args->env = env;
	args->count = MAX_ARGS;
	napi_get_cb_info(env, info, &args->count, args->at, NULL, NULL);
	if (args->count >= wanted)
		return true;
	napi_throw_type_error(env, NULL, "too few arguments");
	return false;
}

static int64_t number(const struct args *args, size_t i)
{
	int64_t value = 0;

	napi_get_value_int64(args->env, args->at[i], &value);
	return value;
}

struct bytes {
	uint8_t *data;
	size_t length;
};

static bool bytes_at(const struct args *args, size_t i, struct bytes *out)
{
	napi_typedarray_type type;
	napi_value array;
	size_t offset;
	bool is_typed = false;

	napi_is_typedarray(args->env, args->at[i], &is_typed);
	if (!is_typed ||
		napi_get_typedarray_info(args->env, args->at[i], &type, &out->length, (void **)&out->data, &array, &offset) !=
			napi_ok ||
		type != napi_uint8_array) {
		napi_throw_type_error(args->env, NULL, "a Buffer was expected");
		return false;
	}
	return true;
}

/* A path as a C string. PATH_MAX counts the terminating zero. */
struct cpath {
	char text[4096];
};

static bool path_at(const struct args *args, size_t i, struct cpath *path)
{
	struct bytes bytes;

	if (!bytes_at(args, i, &bytes))
		return false;
	if (bytes.length >= sizeof(path->text)) {
		sf_throw_errno(args->env, ENAMETOOLONG, "path");
		return false;
	}
	if (bytes.length > 0 && memchr(bytes.data, 0, bytes.length) != NULL) {
		sf_throw_errno(args->env, EINVAL, "path");
		return false;
	}
	if (bytes.length > 0)
		memcpy(path->text, bytes.data, bytes.length);
	path->text[bytes.length] = 0;
	return true;
}

static napi_value done(napi_env env, int result, const char *syscall)
{
	return result < 0 ? sf_throw_errno(env, errno, syscall) : NULL;
}

/* openat2(dirfd, path, flags, mode, resolve) -> fd */
static napi_value sf_openat2(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath path;
	napi_value result;
	int fd;

	if (!get_args(env, info, &args, 5) || !path_at(&args, 1, &path))
		return NULL;
	struct open_how how = {
		.flags = (uint64_t)number(&args, 2) | O_CLOEXEC,
		.mode = (uint64_t)number(&args, 3),
		.resolve = (uint64_t)number(&args, 4),
	};
	/*
	 * EAGAIN: a rename anywhere went between. Somebody who renames all the time must not hold the event loop for ever.
	 */
	int attempts = 0;
	do
		fd = (int)syscall(SYS_openat2, (int)number(&args, 0), path.text, &how, sizeof(how));
	while (fd < 0 && (errno == EINTR || (errno == EAGAIN && ++attempts < OPENAT2_ATTEMPTS)));
	if (fd < 0)
		return sf_throw_errno(env, errno, "openat2");
	napi_create_int32(env, fd, &result);
	return result;
}

static napi_value sf_mkdirat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath path;

	if (!get_args(env, info, &args, 3) || !path_at(&args, 1, &path))
		return NULL;
	return done(env, mkdirat((int)number(&args, 0), path.text, (mode_t)number(&args, 2)), "mkdirat");
}

/* mknodat(dirfd, path, mode, major, minor); the mode holds the type */
static napi_value sf_mknodat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath path;

	if (!get_args(env, info, &args, 5) || !path_at(&args, 1, &path))
		return NULL;
	dev_t dev = makedev((unsigned)number(&args, 3), (unsigned)number(&args, 4));
	return done(env, mknodat((int)number(&args, 0), path.text, (mode_t)number(&args, 2), dev), "mknodat");
}

/* readlinkat(dirfd, path) -> Buffer; an empty path is the link that dirfd is, opened with O_PATH | O_NOFOLLOW */
static napi_value sf_readlinkat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath path;
	char target[4096];
	napi_value result;

	if (!get_args(env, info, &args, 2) || !path_at(&args, 1, &path))
		return NULL;
	ssize_t length = readlinkat((int)number(&args, 0), path.text, target, sizeof(target));
	if (length < 0)
		return sf_throw_errno(env, errno, "readlinkat");
	napi_create_buffer_copy(env, (size_t)length, target, NULL, &result);
	return result;
}

/* symlinkat(target, dirfd, path) */
static napi_value sf_symlinkat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath target, path;

	if (!get_args(env, info, &args, 3) || !path_at(&args, 0, &target) || !path_at(&args, 2, &path))
		return NULL;
	return done(env, symlinkat(target.text, (int)number(&args, 1), path.text), "symlinkat");
}

/* linkat(olddirfd, oldpath, newdirfd, newpath, flags) */
static napi_value sf_linkat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath from, to;

	if (!get_args(env, info, &args, 5) || !path_at(&args, 1, &from) || !path_at(&args, 3, &to))
		return NULL;
	return done(
		env, linkat((int)number(&args, 0), from.text, (int)number(&args, 2), to.text, (int)number(&args, 4)), "linkat");
}

/* unlinkat(dirfd, path, flags) */
static napi_value sf_unlinkat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath path;

	if (!get_args(env, info, &args, 3) || !path_at(&args, 1, &path))
		return NULL;
	return done(env, unlinkat((int)number(&args, 0), path.text, (int)number(&args, 2)), "unlinkat");
}

/* renameat2(olddirfd, oldpath, newdirfd, newpath, flags), which musl before 1.2.6 has no function for */
static napi_value sf_renameat2(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath from, to;

	if (!get_args(env, info, &args, 5) || !path_at(&args, 1, &from) || !path_at(&args, 3, &to))
		return NULL;
	return done(env,
		(int)syscall(SYS_renameat2, (int)number(&args, 0), from.text, (int)number(&args, 2), to.text,
			(unsigned)number(&args, 4)),
		"renameat2");
}

/* fchownat(dirfd, path, uid, gid, flags) */
static napi_value sf_fchownat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath path;

	if (!get_args(env, info, &args, 5) || !path_at(&args, 1, &path))
		return NULL;
	return done(env,
		fchownat(
			(int)number(&args, 0), path.text, (uid_t)number(&args, 2), (gid_t)number(&args, 3), (int)number(&args, 4)),
		"fchownat");
}

/* fchmodat(dirfd, path, mode, flags); glibc does AT_SYMLINK_NOFOLLOW where the kernel cannot */
static napi_value sf_fchmodat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath path;

	if (!get_args(env, info, &args, 4) || !path_at(&args, 1, &path))
		return NULL;
	return done(
		env, fchmodat((int)number(&args, 0), path.text, (mode_t)number(&args, 2), (int)number(&args, 3)), "fchmodat");
}

/* utimensat(dirfd, path, mtime seconds, nanoseconds, flags): the access time stays. An empty path is dirfd itself. */
static napi_value sf_utimensat(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath path;

	if (!get_args(env, info, &args, 5) || !path_at(&args, 1, &path))
		return NULL;
	struct timespec times[2] = {
		{ .tv_nsec = UTIME_OMIT },
		{ .tv_sec = (time_t)number(&args, 2), .tv_nsec = (long)number(&args, 3) },
	};
	int fd = (int)number(&args, 0);
	int flags = (int)number(&args, 4);
	return done(env, path.text[0] == 0 ? futimens(fd, times) : utimensat(fd, path.text, times, flags), "utimensat");
}

/* fsetxattr(fd, name, value) */
static napi_value sf_fsetxattr(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath name;
	struct bytes value;

	if (!get_args(env, info, &args, 3) || !path_at(&args, 1, &name) || !bytes_at(&args, 2, &value))
		return NULL;
	return done(env, fsetxattr((int)number(&args, 0), name.text, value.data, value.length, 0), "fsetxattr");
}

/*
 * setxattrPathFd(fd, name, value): the same for what can only be opened with O_PATH (symbolic links, FIFOs,
 * devices), by way of /proc/self/fd, whose link leads to the very file and no further.
 */
static napi_value sf_setxattr_path_fd(napi_env env, napi_callback_info info)
{
	struct args args;
	struct cpath name;
	struct bytes value;
	char link[64];

	if (!get_args(env, info, &args, 3) || !path_at(&args, 1, &name) || !bytes_at(&args, 2, &value))
		return NULL;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", (int)number(&args, 0));
	return done(env, setxattr(link, name.text, value.data, value.length, 0), "setxattr");
}

void sf_init_files(napi_env env, napi_value exports)
{
	sf_set_function(env, exports, "openat2", sf_openat2);
	sf_set_function(env, exports, "mkdirat", sf_mkdirat);
	sf_set_function(env, exports, "mknodat", sf_mknodat);
	sf_set_function(env, exports, "readlinkat", sf_readlinkat);
	sf_set_function(env, exports, "symlinkat", sf_symlinkat);
	sf_set_function(env, exports, "linkat", sf_linkat);
	sf_set_function(env, exports, "unlinkat", sf_unlinkat);
	sf_set_function(env, exports, "renameat2", sf_renameat2);
	sf_set_function(env, exports, "fchownat", sf_fchownat);
	sf_set_function(env, exports, "fchmodat", sf_fchmodat);
	sf_set_function(env, exports, "utimensat", sf_utimensat);
	sf_set_function(env, exports, "fsetxattr", sf_fsetxattr);
	sf_set_function(env, exports, "setxattrPathFd", sf_setxattr_path_fd);
}
