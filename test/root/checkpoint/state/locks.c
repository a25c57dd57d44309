/* Locks on files. */
#include "row.h"

#define F_SPAN(kind, from, count) \
	(&(struct flock){ .l_type = (kind), .l_whence = SEEK_SET, .l_start = (from), .l_len = (count) })

/* Who asks is another process: a holder sees no lock of its own. */
static void say_conflict(const char *name, int64_t from, int64_t count)
{
	struct flock lock = *F_SPAN(F_WRLCK, from, count);
	int fd, pipe_fds[2];
	pid_t child;

	must(pipe(pipe_fds));
	child = must(fork());
	if (child == 0) {
		fd = must(open(path_of(name), O_RDWR));
		must(fcntl(fd, F_GETLK, &lock));
		must(write(pipe_fds[1], &lock, sizeof(lock)));
		_exit(0);
	}
	must(read(pipe_fds[0], &lock, sizeof(lock)));
	must(waitpid(child, NULL, 0));
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	if (lock.l_type == F_UNLCK)
		say("[free]");
	else
		say("[%s %ld+%ld %s]", lock.l_type == F_RDLCK ? "read" : "write", (long)lock.l_start, (long)lock.l_len,
			lock.l_pid == getpid() ? "mine"
				: lock.l_pid == -1 ? "of a description"
								   : "of another");
}

static void say_flock(const char *name)
{
	int fd = must(open(path_of(name), O_RDWR | O_CLOEXEC));

	if (flock(fd, LOCK_SH | LOCK_NB) != 0)
		say("[exclusive]");
	else
		say(flock(fd, LOCK_EX | LOCK_NB) != 0 ? "[shared]" : "[free]");
	close(fd);
}

static void map_file(int fd, int prot, int flags)
{
	if (mmap(NULL, 4096, prot, flags, fd, 0) == MAP_FAILED)
		fail("mmap");
}

SET(flock)
{
	must(flock(new_file("flock", 0), LOCK_EX));
}
GET(flock)
{
	say_flock("flock");
}

SET(flock_mapped)
{
	int fd = new_file("flock_mapped", 4096);

	must(flock(fd, LOCK_SH));
	map_file(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
}
GET(flock_mapped)
{
	say_flock("flock_mapped");
}

SET(ofd_lock)
{
	must(fcntl(new_file("ofd_lock", 4096), F_OFD_SETLK, F_SPAN(F_WRLCK, 10, 20)));
}
GET(ofd_lock)
{
	say_conflict("ofd_lock", 0, 0);
}

SET(ofd_lock_mapped)
{
	int fd = new_file("ofd_lock_mapped", 4096);

	must(fcntl(fd, F_OFD_SETLK, F_SPAN(F_RDLCK, 10, 20)));
	map_file(fd, PROT_READ, MAP_SHARED);
}
GET(ofd_lock_mapped)
{
	say_conflict("ofd_lock_mapped", 0, 0);
}

SET(posix_lock)
{
	int fd = new_file("posix_lock", 4096);

	must(fcntl(fd, F_SETLK, F_SPAN(F_WRLCK, 10, 20)));
	must(fcntl(fd, F_SETLK, F_SPAN(F_RDLCK, 100, 0)));
}
GET(posix_lock)
{
	say_conflict("posix_lock", 0, 50);
	say_conflict("posix_lock", 50, 0);
}

SET(posix_lock_mapped)
{
	int fd = new_file("posix_lock_mapped", 4096);

	must(fcntl(fd, F_SETLK, F_SPAN(F_WRLCK, 10, 20)));
	must(fcntl(fd, F_SETLK, F_SPAN(F_RDLCK, 120, 8)));
	must(fcntl(fd, F_SETLK, F_SPAN(F_RDLCK, 1000, 0)));
	map_file(fd, PROT_READ | PROT_WRITE, MAP_SHARED);
}
GET(posix_lock_mapped)
{
	say_conflict("posix_lock_mapped", 0, 50);
	say_conflict("posix_lock_mapped", 50, 100);
	say_conflict("posix_lock_mapped", 200, 0);
}

SET(posix_lock_mapped_private)
{
	int fd = new_file("posix_lock_mapped_private", 4096);

	must(fcntl(fd, F_SETLK, F_SPAN(F_RDLCK, 0, 1)));
	map_file(fd, PROT_READ, MAP_PRIVATE);
}
GET(posix_lock_mapped_private)
{
	say_conflict("posix_lock_mapped_private", 0, 0);
}

static int read_lease, write_lease;

SET(lease_read)
{
	close(new_file("lease_read", 1));
	read_lease = must(open(path_of("lease_read"), O_RDONLY | O_CLOEXEC));
	must(fcntl(read_lease, F_SETLEASE, F_RDLCK));
}
GET(lease_read)
{
	say("%d", fcntl(read_lease, F_GETLEASE));
}

SET(lease_write)
{
	write_lease = new_file("lease_write", 4096);
	must(fcntl(write_lease, F_SETLEASE, F_WRLCK));
}
GET(lease_write)
{
	say("%d", fcntl(write_lease, F_GETLEASE));
}

static struct row lock_rows[] = {
	ROW(flock),
	ROW(flock_mapped),
	ROW(ofd_lock),
	ROW(ofd_lock_mapped),
	ROW(posix_lock),
	ROW(posix_lock_mapped),
	ROW(posix_lock_mapped_private),
	ROW(lease_read),
	ROW(lease_write),
};
