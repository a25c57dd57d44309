/* Descriptors that are no sockets. */
#include "row.h"
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>

static void say_descriptor(int fd)
{
	say("[%x %x at %ld]", fcntl(fd, F_GETFL), fcntl(fd, F_GETFD), (long)lseek(fd, 0, SEEK_CUR));
}

static int flags_fd, offset_fd, shared_fd, opath_fd, dir_fd;
SET(file_flags)
{
	flags_fd = new_file("file_flags", 0);
	must(fcntl(flags_fd, F_SETFL, O_APPEND | O_NONBLOCK | O_NOATIME));
	dup2(flags_fd, 200);
}
GET(file_flags)
{
	say_descriptor(flags_fd);
	say_descriptor(200);
}
SET(file_offset_shared)
{
	offset_fd = new_file("file_offset_shared", 100);
	lseek(offset_fd, 42, SEEK_SET);
	shared_fd = must(dup(offset_fd));
}
GET(file_offset_shared)
{
	lseek(offset_fd, 1, SEEK_CUR);
	say_descriptor(shared_fd);
}
SET(file_opath)
{
	close(new_file("file_opath", 0));
	opath_fd = must(open(path_of("file_opath"), O_PATH | O_CLOEXEC));
}
GET(file_opath)
{
	say("%x", fcntl(opath_fd, F_GETFL));
}
SET(directory_offset)
{
	char entries[200];

	dir_fd = must(open("/proc/sys", O_RDONLY | O_DIRECTORY));
	must(syscall(SYS_getdents64, dir_fd, entries, sizeof(entries)));
}
GET(directory_offset)
{
	say("%ld", (long)lseek(dir_fd, 0, SEEK_CUR));
}
static int deleted_fd, ro_fd;
SET(file_deleted)
{
	deleted_fd = new_file("file_deleted", 0);
	must(write(deleted_fd, "still here", 10));
	must(unlink(path_of("file_deleted")));
}
GET(file_deleted)
{
	char text[20] = "";

	say("%zd %s", pread(deleted_fd, text, 19, 0), text);
}
SET(file_read_only)
{
	close(new_file("file_read_only", 3));
	ro_fd = must(open(path_of("file_read_only"), O_RDONLY));
}
GET(file_read_only)
{
	say_descriptor(ro_fd);
}
static int signal_fd[2];
SET(file_owner_and_signal)
{
	must(pipe(signal_fd));
	must(fcntl(signal_fd[0], F_SETOWN, getpid()));
	must(fcntl(signal_fd[0], F_SETSIG, SIGUSR2));
	must(fcntl(signal_fd[0], F_SETFL, O_ASYNC));
}
GET(file_owner_and_signal)
{
	say("%d %d %x", fcntl(signal_fd[0], F_GETOWN) == getpid(), fcntl(signal_fd[0], F_GETSIG),
		fcntl(signal_fd[0], F_GETFL));
}
static int hint_fd;
SET(file_write_hint)
{
	uint64_t hint = 3;

	hint_fd = new_file("file_write_hint", 0);
	must(fcntl(hint_fd, 1036 /* F_SET_RW_HINT */, &hint));
}
GET(file_write_hint)
{
	uint64_t hint = 0;

	must(fcntl(hint_fd, 1035 /* F_GET_RW_HINT */, &hint));
	say("%" PRIu64, hint);
}

static int pipe_plain[2], pipe_large[2], pipe_packets[2], pipe_half[2], pipe_other[2], fifo_fd;
SET(pipe)
{
	must(pipe2(pipe_plain, O_NONBLOCK));
	must(write(pipe_plain[1], "first", 5));
	must(write(pipe_plain[1], "second", 6));
}
GET(pipe)
{
	char text[20] = "";

	say("%x %zd %s", fcntl(pipe_plain[0], F_GETFL), read(pipe_plain[0], text, 19), text);
}
SET(pipe_size)
{
	must(pipe(pipe_large));
	must(fcntl(pipe_large[0], F_SETPIPE_SZ, 262144));
}
GET(pipe_size)
{
	say("%d", fcntl(pipe_large[0], F_GETPIPE_SZ));
}
SET(pipe_packets)
{
	must(pipe2(pipe_packets, O_DIRECT | O_NONBLOCK));
	must(write(pipe_packets[1], "first", 5));
	must(write(pipe_packets[1], "second", 6));
}
GET(pipe_packets)
{
	char text[20] = "";
	ssize_t got = read(pipe_packets[0], text, 19);

	say("%x %zd %s", fcntl(pipe_packets[0], F_GETFL), got, text);
}
SET(pipe_half_closed)
{
	must(pipe(pipe_half));
	must(write(pipe_half[1], "rest", 4));
	close(pipe_half[1]);
	must(pipe(pipe_other));
	close(pipe_other[0]);
}
GET(pipe_half_closed)
{
	char text[20] = "";

	signal(SIGPIPE, SIG_IGN);
	say("%zd ", read(pipe_half[0], text, 19));
	say("%zd %s %d", read(pipe_half[0], text, 19), text, write(pipe_other[1], "x", 1) < 0 ? errno : 0);
}
SET(fifo)
{
	must(mkfifo(path_of("fifo"), 0600));
	fifo_fd = must(open(path_of("fifo"), O_RDWR | O_NONBLOCK));
	must(write(fifo_fd, "in the fifo", 11));
}
GET(fifo)
{
	char text[20] = "";

	say("%zd %s", read(fifo_fd, text, 19), text);
}

static int event_fd, semaphore_fd;
SET(eventfd)
{
	event_fd = must(eventfd(7, EFD_NONBLOCK));
	must(eventfd_write(event_fd, 3));
}
GET(eventfd)
{
	eventfd_t value = 0;

	must(eventfd_read(event_fd, &value));
	say("%" PRIu64, value);
}
SET(eventfd_semaphore)
{
	semaphore_fd = must(eventfd(7, EFD_NONBLOCK | EFD_SEMAPHORE));
}
GET(eventfd_semaphore)
{
	eventfd_t value = 0;

	must(eventfd_read(semaphore_fd, &value));
	say("%" PRIu64, value);
}

static int epoll_fd, epoll_edge, epoll_once, epoll_dup, watched[2], edge[2], once[2], dupped[2];
static void watch(int epoll, int fd, uint32_t events)
{
	must(
		epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &(struct epoll_event){ .events = events, .data.u64 = 0x1122334455667788 }));
}
static void say_events(int epoll)
{
	struct epoll_event event = { 0 };
	int got = epoll_wait(epoll, &event, 1, 0);

	say("[%d %x %" PRIx64 "]", got, got > 0 ? event.events : 0, got > 0 ? (uint64_t)event.data.u64 : 0);
}
SET(epoll)
{
	must(pipe(watched));
	epoll_fd = must(epoll_create1(EPOLL_CLOEXEC));
	watch(epoll_fd, watched[0], EPOLLIN | EPOLLPRI);
	must(write(watched[1], "x", 1));
}
GET(epoll)
{
	say_events(epoll_fd);
	say("%x", fcntl(epoll_fd, F_GETFD));
}
SET(epoll_edge_delivered)
{
	must(pipe(edge));
	epoll_edge = must(epoll_create1(0));
	watch(epoll_edge, edge[0], EPOLLIN | EPOLLET);
	must(write(edge[1], "x", 1));
	say_events(epoll_edge);
}
GET(epoll_edge_delivered)
{
	say_events(epoll_edge);
}
static int edge_new[2], epoll_edge_new;
SET(epoll_edge_waiting)
{
	must(pipe(edge_new));
	epoll_edge_new = must(epoll_create1(0));
	watch(epoll_edge_new, edge_new[0], EPOLLIN | EPOLLET);
	must(write(edge_new[1], "x", 1));
}
GET(epoll_edge_waiting)
{
	say_events(epoll_edge_new);
}
SET(epoll_oneshot_spent)
{
	must(pipe(once));
	epoll_once = must(epoll_create1(0));
	watch(epoll_once, once[0], EPOLLIN | EPOLLONESHOT);
	must(write(once[1], "x", 1));
	say_events(epoll_once);
}
GET(epoll_oneshot_spent)
{
	say_events(epoll_once);
}
static int exclusive[2], epoll_exclusive;
SET(epoll_exclusive)
{
	must(pipe(exclusive));
	epoll_exclusive = must(epoll_create1(0));
	watch(epoll_exclusive, exclusive[0], EPOLLIN | EPOLLEXCLUSIVE);
	must(write(exclusive[1], "x", 1));
}
GET(epoll_exclusive)
{
	char *path;

	say_events(epoll_exclusive);
	if (asprintf(&path, "/proc/self/fdinfo/%d", epoll_exclusive) > 0)
		say(strstr(contents(path), "events: 10000019") ? " exclusive" : " not exclusive");
}
SET(epoll_closed_descriptor)
{
	int copy;

	must(pipe(dupped));
	epoll_dup = must(epoll_create1(0));
	copy = must(dup(dupped[0]));
	watch(epoll_dup, copy, EPOLLIN);
	close(copy);
	must(write(dupped[1], "x", 1));
}
GET(epoll_closed_descriptor)
{
	say_events(epoll_dup);
}
static int epoll_outer;
SET(epoll_nested)
{
	int inner = must(epoll_create1(0)), ends[2];

	must(pipe(ends));
	watch(inner, ends[0], EPOLLIN);
	epoll_outer = must(epoll_create1(0));
	watch(epoll_outer, inner, EPOLLIN);
	must(write(ends[1], "x", 1));
}
GET(epoll_nested)
{
	say_events(epoll_outer);
}

static int inotify_fd, inotify_queue, fanotify_fd, fanotify_fs;
static void say_inotify(int fd)
{
	union {
		struct inotify_event event;
		char bytes[4096];
	} room;
	ssize_t got = read(fd, &room, sizeof(room));

	if (got <= 0)
		say("[none]");
	else
		say("[wd %d mask %x %s]", room.event.wd, room.event.mask, room.event.len ? room.event.name : "");
}
SET(inotify)
{
	must(mkdir(path_of("watched"), 0700));
	inotify_fd = must(inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
	must(inotify_add_watch(inotify_fd, path_of("watched"), IN_CREATE | IN_DELETE));
}
GET(inotify)
{
	close(must(open(path_of("watched/new"), O_CREAT | O_WRONLY, 0600)));
	say_inotify(inotify_fd);
}
SET(inotify_queue)
{
	must(mkdir(path_of("queued"), 0700));
	inotify_queue = must(inotify_init1(IN_NONBLOCK));
	must(inotify_add_watch(inotify_queue, path_of("queued"), IN_CREATE));
	close(must(open(path_of("queued/before"), O_CREAT | O_WRONLY, 0600)));
}
GET(inotify_queue)
{
	say_inotify(inotify_queue);
}
static void say_fanotify(int fd)
{
	struct fanotify_event_metadata events[16];
	ssize_t got = read(fd, events, sizeof(events));

	if (got <= 0)
		say("[none]");
	else
		say("[mask %llx]", (unsigned long long)events[0].mask);
}
SET(fanotify)
{
	close(new_file("fanotify", 0));
	fanotify_fd = must(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK | FAN_CLOEXEC, O_RDONLY));
	must(fanotify_mark(fanotify_fd, FAN_MARK_ADD, FAN_CLOSE_WRITE, AT_FDCWD, path_of("fanotify")));
}
GET(fanotify)
{
	close(must(open(path_of("fanotify"), O_WRONLY)));
	say_fanotify(fanotify_fd);
}
SET(fanotify_queue)
{
	close(new_file("fanotify_queue", 0));
	fanotify_fs = must(fanotify_init(FAN_CLASS_NOTIF | FAN_NONBLOCK, O_RDONLY));
	must(fanotify_mark(fanotify_fs, FAN_MARK_ADD, FAN_CLOSE_WRITE, AT_FDCWD, path_of("fanotify_queue")));
	close(must(open(path_of("fanotify_queue"), O_WRONLY)));
}
GET(fanotify_queue)
{
	say_fanotify(fanotify_fs);
}
SET(fanotify_by_id)
{
	close(new_file("fanotify_by_id", 0));
	fanotify_fs = must(fanotify_init(FAN_CLASS_NOTIF | FAN_REPORT_FID | FAN_NONBLOCK, O_RDONLY));
	must(fanotify_mark(fanotify_fs, FAN_MARK_ADD, FAN_ATTRIB, AT_FDCWD, path_of("fanotify_by_id")));
}
GET(fanotify_by_id)
{
	must(chmod(path_of("fanotify_by_id"), 0640));
	say_fanotify(fanotify_fs);
}
static int pid_fd;
SET(pidfd)
{
	pid_fd = must(syscall(SYS_pidfd_open, getpid(), 0));
}
GET(pidfd)
{
	say("%ld", syscall(SYS_pidfd_send_signal, pid_fd, 0, NULL, 0));
}
static int ns_fd;
SET(namespace_descriptor)
{
	ns_fd = must(open("/proc/self/ns/uts", O_RDONLY));
}
GET(namespace_descriptor)
{
	struct stat mine, own;

	must(fstat(ns_fd, &mine));
	must(stat("/proc/self/ns/uts", &own));
	say("%d", mine.st_ino == own.st_ino);
}

static struct row file_rows[] = {
	ROW(file_flags),
	ROW(file_offset_shared),
	ROW(file_opath),
	ROW(directory_offset),
	ROW(file_deleted),
	ROW(file_read_only),
	ROW(file_owner_and_signal),
	ROW(file_write_hint),
	ROW(pipe),
	ROW(pipe_size),
	ROW(pipe_packets),
	ROW(pipe_half_closed),
	ROW(fifo),
	ROW(eventfd),
	ROW(eventfd_semaphore),
	ROW(epoll),
	ROW(epoll_edge_delivered),
	ROW(epoll_edge_waiting),
	ROW(epoll_oneshot_spent),
	ROW(epoll_exclusive),
	ROW(epoll_closed_descriptor),
	ROW(epoll_nested),
	ROW(inotify),
	ROW(inotify_queue),
	ROW(fanotify),
	ROW(fanotify_queue),
	ROW(fanotify_by_id),
	ROW(pidfd),
	ROW(namespace_descriptor),
};
