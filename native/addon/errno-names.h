/*
 * The names of errno values, as Node.js has them in an error's `code`: musl has no strerrorname_np(), nor has glibc
 * before 2.32.
 */
#ifndef STILLFRAME_ERRNO_NAMES_H
#define STILLFRAME_ERRNO_NAMES_H

/* "ENOENT" for ENOENT; NULL for a number without a name. */
const char *sf_errno_name(int err);

#endif
