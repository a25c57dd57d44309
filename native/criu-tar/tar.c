/*
 * The `tar` that CRIU finds while it dumps for Stillframe: it has one started for each tmpfs of the tree, which stands
 * still meanwhile, and GNU tar starts a shell and a gzip besides. It understands the arguments that CRIU gives it for a
 * dump; with any others it becomes the tar that $STILLFRAME_TAR names.
 *
 * The archive holds what GNU tar's holds with these arguments, for GNU tar to extract, and the parts of a second of the
 * times. As there, a socket is left out with a warning, and a file that changes while it is read is a failure.
 *
 * Source: tmpfs_dump, criu/filesystems.c, CRIU v4.2; src/create.c, GNU tar 1.34.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gzip.h"
#include "links.h"
#include "member.h"

#define OPEN_FLAGS (O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC)

/*
 * A directory on the way to where we are. Only the innermost one is open: a tree can be deeper than descriptors reach.
 */
struct level {
	struct level *up;
	char *names; /* one after the other, each with its zero byte */
	size_t names_used, names_done;
	size_t path_length;
	struct stat st;
};

static char *path; /* of the member at hand: "./a/b" */
static size_t path_room;
static bool has_changed;

void fail(int err, const char *what, const char *which)
{
	fprintf(stderr, "tar: %s: %s%s%s\n", which, what, err ? ": " : "", err ? strerror(err) : "");
	exit(2);
}

static void warn(const char *what)
{
	fprintf(stderr, "tar: %s: %s\n", path, what);
}

static void *grown(void *memory, size_t bytes)
{
	memory = realloc(memory, bytes);
	if (!memory)
		fail(errno, "no memory", path ? path : ".");
	return memory;
}

static void set_path(size_t length, const char *name)
{
	size_t added = strlen(name) + 1;

	if (length + added > path_room) {
		path_room = 2 * (length + added) + PATH_MAX;
		path = grown(path, path_room);
	}
	memcpy(path + length, name, added);
}

/* GNU tar's exit status is 1 then, and CRIU's dump fails. */
static void check_same(const struct stat *before, const struct stat *now)
{
	if (before->st_ctim.tv_sec == now->st_ctim.tv_sec && before->st_ctim.tv_nsec == now->st_ctim.tv_nsec &&
		before->st_size == now->st_size && before->st_ino == now->st_ino && before->st_dev == now->st_dev)
		return;
	warn("file changed as we read it");
	has_changed = true;
}

/* Without changing its access time, where that may be asked for. */
static int open_entry(int dirfd, const char *name, int flags)
{
	int fd = openat(dirfd, name, OPEN_FLAGS | O_NOATIME | flags);

	if (fd < 0 && errno == EPERM)
		fd = openat(dirfd, name, OPEN_FLAGS | flags);
	if (fd < 0)
		fail(errno, "cannot open", path);
	return fd;
}

static void put_content(int fd, off_t start, off_t length)
{
	off_t left = length;

	while (left > 0) {
		size_t room;
		void *to = gzip_room(&room);
		ssize_t count = pread(fd, to, (off_t)room < left ? room : (size_t)left, start);

		if (count < 0 && errno == EINTR)
			continue;
		if (count < 0)
			fail(errno, "cannot read", path);
		if (count == 0)
			fail(0, "file shrank as we read it", path);
		gzip_filled((size_t)count);
		start += count;
		left -= count;
	}
	put_padding(length);
}

/*
 * The parts of a file that hold data, and an empty one at its end when that is a hole. 0 when it has no holes, or some
 * that do not end where a block of tar's does.
 */
static size_t find_extents(int fd, const struct stat *st, struct extent **extents)
{
	size_t count = 0, room = 0;
	off_t at = 0;

	if ((off_t)st->st_blocks * 512 >= st->st_size)
		return 0;
	while (at < st->st_size) {
		off_t start = lseek(fd, at, SEEK_DATA), end;

		if (start < 0 && errno != ENXIO)
			return 0;
		if (start < 0 || start > st->st_size)
			start = st->st_size;
		end = start == st->st_size ? start : lseek(fd, start, SEEK_HOLE);
		if (end < start)
			return 0;
		if (end > st->st_size)
			end = st->st_size;
		if ((start % 512 != 0 || end % 512 != 0) && end != st->st_size)
			return 0;
		if (count == room) {
			room = 2 * room + 16;
			*extents = grown(*extents, room * sizeof(**extents));
		}
		(*extents)[count++] = (struct extent){ start, end - start };
		at = end;
	}
	return count == 1 && (*extents)[0].start == 0 && (*extents)[0].length > 0 ? 0 : count;
}

static void put_file(int dirfd, const char *name)
{
	struct extent *extents = NULL;
	struct stat st, after;
	int fd = open_entry(dirfd, name, 0);
	size_t count;

	if (fstat(fd, &st))
		fail(errno, "cannot stat", path);
	if (!S_ISREG(st.st_mode))
		fail(0, "is no file any more", path);
	count = find_extents(fd, &st, &extents);
	if (count > 0) {
		put_sparse_header(path, &st, extents, count);
		for (size_t i = 0; i < count; i++)
			put_content(fd, extents[i].start, extents[i].length);
	} else {
		put_header('0', path, NULL, &st, st.st_size);
		put_content(fd, 0, st.st_size);
	}
	free(extents);
	if (fstat(fd, &after))
		fail(errno, "cannot stat", path);
	check_same(&st, &after);
	close(fd);
}

static void put_symlink(int dirfd, const char *name, const struct stat *st)
{
	char target[PATH_MAX + 1];
	ssize_t length = readlinkat(dirfd, name, target, sizeof(target) - 1);

	if (length < 0)
		fail(errno, "cannot read the link", path);
	target[length] = '\0';
	put_header('2', path, target, st, 0);
}

static void put_entry(int dirfd, const char *name, const struct stat *st)
{
	const char *first = st->st_nlink > 1 && !S_ISSOCK(st->st_mode) ? first_link(st, path) : NULL;

	if (first)
		put_header('1', path, first, st, 0);
	else if (S_ISREG(st->st_mode))
		put_file(dirfd, name);
	else if (S_ISLNK(st->st_mode))
		put_symlink(dirfd, name, st);
	else if (S_ISCHR(st->st_mode))
		put_header('3', path, NULL, st, 0);
	else if (S_ISBLK(st->st_mode))
		put_header('4', path, NULL, st, 0);
	else if (S_ISFIFO(st->st_mode))
		put_header('6', path, NULL, st, 0);
	else if (S_ISSOCK(st->st_mode))
		warn("socket ignored");
	else
		fail(0, "is of an unknown type", path);
}

/* All of it before the first entry is looked at. */
static void read_names(int fd, struct level *level)
{
	int copy = open_entry(fd, ".", O_DIRECTORY);
	DIR *dir = fdopendir(copy);
	struct dirent *entry;
	size_t room = 0;

	if (!dir)
		fail(errno, "cannot read the directory", path);
	while ((errno = 0, entry = readdir(dir)) != NULL) {
		size_t length = strlen(entry->d_name) + 1;

		if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0)
			continue;
		if (level->names_used + length > room) {
			room = 2 * room + 4096;
			level->names = grown(level->names, room);
		}
		memcpy(level->names + level->names_used, entry->d_name, length);
		level->names_used += length;
	}
	if (errno)
		fail(errno, "cannot read the directory", path);
	closedir(dir);
}

static struct level *enter(struct level *up, int fd)
{
	struct level *level = grown(NULL, sizeof(*level));

	memset(level, 0, sizeof(*level));
	level->up = up;
	if (fstat(fd, &level->st))
		fail(errno, "cannot stat", path);
	set_path(strlen(path), "/");
	level->path_length = strlen(path);
	put_header('5', path, NULL, &level->st, 0);
	if (up && level->st.st_dev != up->st.st_dev)
		warn("file is on a different filesystem; not dumped");
	else
		read_names(fd, level);
	return level;
}

/* Closes the directory, and gives the descriptor of the one above it. */
static int leave(struct level *level, int fd)
{
	struct stat now;
	int above = -1;

	path[level->path_length] = '\0';
	if (fstat(fd, &now))
		fail(errno, "cannot stat", path);
	check_same(&level->st, &now);
	if (level->up) {
		above = open_entry(fd, "..", O_DIRECTORY);
		if (fstat(above, &now))
			fail(errno, "cannot stat", path);
		if (now.st_ino != level->up->st.st_ino || now.st_dev != level->up->st.st_dev)
			fail(0, "was moved as we read it", path);
	}
	close(fd);
	free(level->names);
	free(level);
	return above;
}

static void put_tree(int fd)
{
	struct level *level;

	set_path(0, ".");
	level = enter(NULL, fd);
	while (level) {
		const char *name = level->names + level->names_done;
		struct stat st;

		if (level->names_done == level->names_used) {
			struct level *up = level->up;

			fd = leave(level, fd);
			level = up;
			continue;
		}
		level->names_done += strlen(name) + 1;
		set_path(level->path_length, name);
		if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW)) {
			if (errno != ENOENT)
				fail(errno, "cannot stat", path);
			warn("File removed before we read it");
			has_changed = true;
		} else if (S_ISDIR(st.st_mode)) {
			int inner = open_entry(fd, name, O_DIRECTORY);

			close(fd);
			fd = inner;
			level = enter(level, fd);
		} else {
			put_entry(fd, name, &st);
		}
	}
}

/* The descriptor in "/proc/self/fd/N"; -1 for anything else. */
static int fd_of(const char *directory)
{
	static const char prefix[] = "/proc/self/fd/";
	char *end;
	long fd;

	if (strncmp(directory, prefix, sizeof(prefix) - 1) != 0)
		return -1;
	directory += sizeof(prefix) - 1;
	fd = strtol(directory, &end, 10);
	return *directory >= '0' && *directory <= '9' && *end == '\0' && fd <= INT_MAX ? (int)fd : -1;
}

/* The descriptor of the directory that CRIU wants an archive of; -1 when it wants something else. */
static int dumped_directory(int argc, char **argv)
{
	static const char *const expected[] = { "--create", "--gzip", "--no-unquote", "--no-wildcards", "--one-file-system",
		"--check-links", "--preserve-permissions", "--sparse", "--numeric-owner", "--directory" };
	enum { COUNT = sizeof(expected) / sizeof(expected[0]) };

	if (argc != COUNT + 3 || strcmp(argv[COUNT + 2], ".") != 0)
		return -1;
	for (int i = 0; i < COUNT; i++)
		if (strcmp(argv[i + 1], expected[i]) != 0)
			return -1;
	return fd_of(argv[COUNT + 1]);
}

int main(int argc, char **argv)
{
	const char *other = getenv("STILLFRAME_TAR");
	int fd = dumped_directory(argc, argv);

	if (fd < 0) {
		if (!other || other[0] != '/')
			fail(0, "there is no other tar on PATH, and this one makes only the dumps that CRIU asks for",
				argv[0] ? argv[0] : "tar");
		execv(other, argv);
		fail(errno, "cannot be started", other);
	}
	fd = openat(fd, ".", OPEN_FLAGS | O_DIRECTORY);
	if (fd < 0)
		fail(errno, "cannot open", argv[argc - 2]);
	gzip_begin();
	put_tree(fd);
	put_end();
	gzip_end();
	warn_of_missing_links();
	return has_changed;
}
