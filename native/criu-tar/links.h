/* Which member was the first name of a file with several. */
#ifndef STILLFRAME_CRIU_TAR_LINKS_H
#define STILLFRAME_CRIU_TAR_LINKS_H

#include <sys/stat.h>

/* The member under which it is in the archive already. NULL the first time: then it is to be written as this one. */
const char *first_link(const struct stat *st, const char *path);

/* Of files that have names outside of what was archived: what --check-links asks for. */
void warn_of_missing_links(void);

#endif
