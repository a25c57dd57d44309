#ifndef SF_LEASE_H
#define SF_LEASE_H

/*
 * Write leases (fcntl(2), F_SETLEASE; Linux, fs/locks.c). To open a file that has one breaks it, not blocking too: the
 * holder gets a signal, which ends a program that does not expect it, and a frozen one cannot answer. Read leases are
 * not broken by readers. So such a file is read through a descriptor of the holder's own.
 */

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct stat;

struct sf_lease {
	uint64_t ino;
	pid_t pid;
};

struct sf_leases {
	struct sf_lease *list;
	size_t count;
	bool known;
};

/* Asks the kernel, once: /proc/locks. What cannot be read there is as if there were none. */
void sf_leases_read(struct sf_leases *leases);
void sf_leases_free(struct sf_leases *leases);
/* Whether there is one on a file of this inode number, of whatever file system. */
bool sf_leases_have(const struct sf_leases *leases, uint64_t ino);
/*
 * A descriptor of this file that its holder has open for reading. It shares its offset with the holder: to be read by
 * pread(2) and the like alone. -1 when there is no lease on it, -EAGAIN when no holder has it open for reading.
 */
int sf_leases_open(const struct sf_leases *leases, const struct stat *file);

#endif
