/* A gzip stream to standard output, made for speed: what the target's frozen window waits for. */
#ifndef STILLFRAME_CRIU_TAR_GZIP_H
#define STILLFRAME_CRIU_TAR_GZIP_H

#include <stddef.h>

void gzip_begin(void);

/* Headers, padding and the like: compressed with what surrounds them. */
void gzip_write(const void *data, size_t length);

/*
 * Room for the content of a file, to be read into directly, and how much of it was used. A block that holds nothing
 * else is stored as it is.
 */
void *gzip_room(size_t *length);
void gzip_filled(size_t length);

void gzip_end(void);

/* Prints "tar: " and the text, with errno's if there is one, and ends the program with status 2. */
void fail(int err, const char *what, const char *path) __attribute__((noreturn));

#endif
