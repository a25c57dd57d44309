/* Included before everything (scripts/native-build.mjs): what an older musl lacks beside glibc. */
#ifndef STILLFRAME_LIBC_H
#define STILLFRAME_LIBC_H

#include <sys/stat.h>

#ifndef STATX_TYPE /* musl before 1.2.4 */
#include <linux/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static inline int statx(int dirfd, const char *path, int flags, unsigned int mask, struct statx *st)
{
	return (int)syscall(SYS_statx, dirfd, path, flags, mask, st);
}
#endif

#endif
