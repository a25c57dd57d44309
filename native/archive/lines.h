/* A line as `sha256sum` prints it. */
#ifndef STILLFRAME_LINES_H
#define STILLFRAME_LINES_H

#include "digest.h"

/* A line has at most this many bytes and twice the name's. */
#define SF_LINE_MORE (1 + 2 * SF_DIGEST + 2 + 1)

/* A name with something to escape has a backslash before its line. Returns where the line ends. */
char *sf_append_line(char *out, const unsigned char *digest, const char *name, size_t len);

#endif
