#include "watch.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef FAN_REPORT_FID
#define FAN_REPORT_FID 0x00000200
#endif

/*
 * With FAN_REPORT_FID alone each event names one inode: a directory for names that came or went, else the file itself.
 * Source: fanotify(7), fanotify_init(2).
 */
#define EVENTS \
	(FAN_MODIFY | FAN_CLOSE_WRITE | FAN_ATTRIB | FAN_CREATE | FAN_DELETE | FAN_MOVED_FROM | FAN_MOVED_TO | FAN_ONDIR)
/* Events of one file that nobody has read yet become one: so they are left for a moment. */
#define GATHER_MS 20
#define READ_BYTES 65536
/* With more inodes than this a look at everything is as good. */
#define MAX_INODES (1u << 18)
#define KNOWN_HANDLES 1024
#define KNOWN_BYTES 36

/* A file handle that has been resolved: it means this inode for ever. */
struct known {
	uint64_t ino;
	uint32_t bytes; /* with the type; 0 for an empty place */
	uint8_t handle[KNOWN_BYTES];
};

struct sf_watch {
	pthread_mutex_t lock;
	pthread_t thread;
	int fan, dir, mounts, stop;
	bool lost;
	uint64_t mounts_hash;
	struct sf_inodes inodes;
	struct known known[KNOWN_HANDLES];
	_Alignas(8) char buffer[READ_BYTES];
};

static uint64_t mix(uint64_t value)
{
	value *= 0x9e3779b97f4a7c15ull;
	return value ^ value >> 32;
}

#define NO_BYTES 14695981039346656037ull

/* FNV-1a. */
static uint64_t hash_bytes(uint64_t hash, const void *bytes, size_t len)
{
	for (size_t i = 0; i < len; i++)
		hash = (hash ^ ((const uint8_t *)bytes)[i]) * 1099511628211ull;
	return hash;
}

static void put(struct sf_inodes *set, uint64_t ino)
{
	uint32_t at = (uint32_t)mix(ino) & set->mask;

	while (set->slots[at] != 0 && set->slots[at] != ino)
		at = (at + 1) & set->mask;
	if (set->slots[at] == 0)
		set->count++;
	set->slots[at] = ino;
}

bool sf_inodes_add(struct sf_inodes *set, uint64_t ino)
{
	if (ino == 0)
		return true;
	if (!set->slots || set->count >= set->mask / 2) {
		uint32_t size = set->slots ? (set->mask + 1) * 2 : 1024;
		struct sf_inodes grown = { .slots = calloc(size, sizeof(uint64_t)), .mask = size - 1 };
		if (!grown.slots)
			return false;
		for (uint32_t at = 0; set->slots && at <= set->mask; at++)
			if (set->slots[at] != 0)
				put(&grown, set->slots[at]);
		free(set->slots);
		*set = grown;
	}
	put(set, ino);
	return true;
}

bool sf_inodes_has(const struct sf_inodes *set, uint64_t ino)
{
	if (!set->slots)
		return false;
	for (uint32_t at = (uint32_t)mix(ino) & set->mask; set->slots[at] != 0; at = (at + 1) & set->mask)
		if (set->slots[at] == ino)
			return true;
	return false;
}

void sf_inodes_free(struct sf_inodes *set)
{
	free(set->slots);
	*set = (struct sf_inodes){ 0 };
}

/* The inode that a handle means; 0 when it is gone, or with an errno in `*err` when nobody knows. */
static uint64_t inode_of(struct sf_watch *watch, struct file_handle *handle, int *err)
{
	uint32_t bytes = handle->handle_bytes + sizeof(handle->handle_type);
	struct known *known = NULL;
	struct stat st;

	*err = 0;
	/* The type lies before the handle. */
	const uint8_t *key = (const uint8_t *)&handle->handle_type;
	if (bytes <= KNOWN_BYTES) {
		known = &watch->known[mix(hash_bytes(NO_BYTES, key, bytes)) & (KNOWN_HANDLES - 1)];
		if (known->bytes == bytes && memcmp(known->handle, key, bytes) == 0)
			return known->ino;
	}
	int fd = open_by_handle_at(watch->dir, handle, O_PATH | O_CLOEXEC);
	/* ext4 says so too while it makes an inode of a number that this one had: a matter of microseconds. */
	for (int tries = 0; fd < 0 && errno == ENOMEM && tries < 100; tries++) {
		usleep(50);
		fd = open_by_handle_at(watch->dir, handle, O_PATH | O_CLOEXEC);
	}
	if (fd < 0) {
		/* Its last name is gone, which its directory tells. */
		*err = errno == ESTALE || errno == ENOENT ? 0 : errno;
		return 0;
	}
	if (fstat(fd, &st) != 0) {
		*err = errno;
		st.st_ino = 0;
	}
	close(fd);
	if (known && st.st_ino != 0) {
		known->ino = st.st_ino;
		known->bytes = bytes;
		memcpy(known->handle, key, bytes);
	}
	return st.st_ino;
}

static void take_event(struct sf_watch *watch, const struct fanotify_event_metadata *event, const char *details)
{
	const struct fanotify_event_info_fid *info = (const void *)details;
	struct file_handle *handle = (struct file_handle *)info->handle;
	int err;

	if (watch->lost)
		return;
	bool whole = event->vers == FANOTIFY_METADATA_VERSION && event->event_len >= sizeof(*event) + sizeof(*info) &&
		info->hdr.info_type == FAN_EVENT_INFO_TYPE_FID;
	if ((event->mask & FAN_Q_OVERFLOW) || !whole) {
		watch->lost = true;
		return;
	}
	uint64_t ino = inode_of(watch, handle, &err);
	if (err || !sf_inodes_add(&watch->inodes, ino) || watch->inodes.count > MAX_INODES)
		watch->lost = true;
}

/* All that is there now; what comes meanwhile is left to the next time, or a busy file system would never let go. */
static void read_events(struct sf_watch *watch)
{
	int queued = 0;
	ssize_t bytes;

	/* Counts each event with the size of its fixed part. */
	if (ioctl(watch->fan, FIONREAD, &queued) != 0)
		watch->lost = true;
	for (int left = queued / (int)FAN_EVENT_METADATA_LEN; left > 0;) {
		bytes = read(watch->fan, watch->buffer, sizeof(watch->buffer));
		if (bytes <= 0) {
			if (bytes == 0 || errno != EAGAIN)
				watch->lost = true;
			return;
		}
		struct fanotify_event_metadata event;
		/*
		 * A copy: the kernel aligns an event to 4 bytes (FANOTIFY_EVENT_ALIGN), and the macros of fanotify(7) want 8.
		 */
		for (const char *at = watch->buffer; bytes >= (ssize_t)FAN_EVENT_METADATA_LEN;
			 at += event.event_len, bytes -= event.event_len, left--) {
			memcpy(&event, at, sizeof(event));
			if (event.event_len < FAN_EVENT_METADATA_LEN || (ssize_t)event.event_len > bytes)
				break;
			take_event(watch, &event, at + sizeof(event));
		}
	}
}

static void release(struct sf_watch *watch)
{
	int fds[] = { watch->fan, watch->dir, watch->mounts, watch->stop };

	for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
		if (fds[i] >= 0)
			close(fds[i]);
	sf_inodes_free(&watch->inodes);
	pthread_mutex_destroy(&watch->lock);
	free(watch);
}

static void *run(void *arg)
{
	struct sf_watch *watch = arg;
	struct pollfd fds[] = { { .fd = watch->stop, .events = POLLIN }, { .fd = watch->fan, .events = POLLIN } };

	for (;;) {
		/* A failure of the system call is one of the moment: nobody else may free what the tree still uses. */
		if (poll(fds, 2, -1) < 0)
			fds[0].revents = 0;
		/* Until it is told to stop, in the moment that is left to gather. */
		if ((fds[0].revents & POLLIN) || poll(fds, 1, GATHER_MS) > 0)
			break;
		pthread_mutex_lock(&watch->lock);
		read_events(watch);
		pthread_mutex_unlock(&watch->lock);
	}
	/* The kernel takes its time to let go of a group of marks. */
	release(watch);
	return NULL;
}

/* Octal escapes of /proc, in place. */
static void unescape(char *text)
{
	char *out = text;

	for (const char *in = text; *in; in++) {
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' && in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
			in[3] <= '7') {
			*out++ = (char)((in[1] - '0') << 6 | (in[2] - '0') << 3 | (in[3] - '0'));
			in += 3;
		} else {
			*out++ = *in;
		}
	}
	*out = '\0';
}

/*
 * What is mounted at or below the directory, as a hash; the mount that the directory itself is on must be among all.
 * Source: Documentation/filesystems/proc.rst, 3.5 (mountinfo).
 */
static int hash_mounts(int mounts, int dir, uint64_t *hash)
{
	char proc[64], root[4096], *line = NULL;
	size_t room = 0;
	struct statx st;
	bool found = false;

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", dir);
	ssize_t len = readlink(proc, root, sizeof(root) - 1);
	if (len < 0 || len == sizeof(root) - 1)
		return len < 0 ? errno : ENAMETOOLONG;
	root[len] = '\0';
	if (strcmp(root, "/") == 0)
		len = 0;
	if (statx(dir, "", AT_EMPTY_PATH, STATX_MNT_ID, &st) != 0)
		return errno;
	int copy = fcntl(mounts, F_DUPFD_CLOEXEC, 0);
	FILE *file = copy < 0 ? NULL : fdopen(copy, "r");
	if (!file) {
		int err = errno;
		if (copy >= 0)
			close(copy);
		return err;
	}
	rewind(file);
	*hash = NO_BYTES;
	while (getline(&line, &room, file) > 0) {
		char point[4096];
		unsigned long id;

		if (sscanf(line, "%lu %*s %*s %*s %4095s", &id, point) != 2)
			continue;
		found = found || ((st.stx_mask & STATX_MNT_ID) && id == st.stx_mnt_id);
		unescape(point);
		if (strncmp(point, root, (size_t)len) != 0 || (point[len] != '\0' && point[len] != '/'))
			continue;
		*hash = hash_bytes(mix(*hash ^ id), point, strlen(point));
	}
	bool bad = ferror(file);
	free(line);
	fclose(file);
	return bad ? EIO : found ? 0 : EXDEV;
}

/* Whether files can be found again by what events say of them. */
static int try_handle(int dir)
{
	union {
		struct file_handle handle;
		char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} u = { .handle = { .handle_bytes = MAX_HANDLE_SZ } };
	int mount;

	if (name_to_handle_at(dir, "", &u.handle, &mount, AT_EMPTY_PATH) != 0)
		return errno;
	int fd = open_by_handle_at(dir, &u.handle, O_PATH | O_CLOEXEC);
	if (fd < 0)
		return errno;
	close(fd);
	return 0;
}

static int open_all(struct sf_watch *watch, int dir)
{
	watch->dir = openat(dir, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (watch->dir < 0)
		return errno;
	watch->mounts = open("/proc/self/mountinfo", O_RDONLY | O_CLOEXEC);
	watch->stop = eventfd(0, EFD_CLOEXEC);
	watch->fan =
		fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC | FAN_NONBLOCK | FAN_UNLIMITED_QUEUE | FAN_REPORT_FID, O_RDONLY);
	if (watch->mounts < 0 || watch->stop < 0 || watch->fan < 0)
		return errno;
	int err = try_handle(watch->dir);
	if (!err)
		err = hash_mounts(watch->mounts, watch->dir, &watch->mounts_hash);
	if (!err && fanotify_mark(watch->fan, FAN_MARK_ADD | FAN_MARK_FILESYSTEM, EVENTS, watch->dir, NULL) != 0)
		err = errno;
	return err;
}

struct sf_watch *sf_watch_start(int dir, int *err)
{
	struct sf_watch *watch = calloc(1, sizeof(*watch));
	sigset_t all, old;

	if (!watch) {
		*err = ENOMEM;
		return NULL;
	}
	pthread_mutex_init(&watch->lock, NULL);
	watch->fan = watch->dir = watch->mounts = watch->stop = -1;
	*err = open_all(watch, dir);
	if (!*err) {
		sigfillset(&all);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		*err = pthread_create(&watch->thread, NULL, run, watch);
		pthread_sigmask(SIG_SETMASK, &old, NULL);
	}
	if (*err) {
		release(watch);
		return NULL;
	}
	pthread_detach(watch->thread);
	return watch;
}

void sf_watch_ignore(struct sf_watch *watch, int fd)
{
	/* On another file system it needs none, and may not be able to. */
	(void)fanotify_mark(watch->fan, FAN_MARK_ADD | FAN_MARK_IGNORED_MASK | FAN_MARK_IGNORED_SURV_MODIFY,
		FAN_MODIFY | FAN_CLOSE_WRITE | FAN_ATTRIB, fd, NULL);
}

bool sf_watch_take(struct sf_watch *watch, struct sf_inodes *into)
{
	struct pollfd mounts = { .fd = watch->mounts, .events = POLLPRI };
	uint64_t hash;

	pthread_mutex_lock(&watch->lock);
	/* The kernel tells that something was mounted somewhere, once. */
	if (poll(&mounts, 1, 0) != 0 && (hash_mounts(watch->mounts, watch->dir, &hash) != 0 || hash != watch->mounts_hash))
		watch->lost = true;
	read_events(watch);
	bool ok = !watch->lost;
	if (ok && into->count == 0) {
		sf_inodes_free(into);
		*into = watch->inodes;
	} else {
		for (uint32_t at = 0; ok && watch->inodes.slots && at <= watch->inodes.mask; at++)
			ok = sf_inodes_add(into, watch->inodes.slots[at]);
		sf_inodes_free(&watch->inodes);
	}
	watch->inodes = (struct sf_inodes){ 0 };
	pthread_mutex_unlock(&watch->lock);
	return ok;
}

void sf_watch_stop(struct sf_watch *watch)
{
	uint64_t one = 1;
	ssize_t bytes;

	/* From here on it is the thread's. */
	do
		bytes = write(watch->stop, &one, sizeof(one));
	while (bytes < 0 && errno == EINTR);
}
