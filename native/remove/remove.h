/*
 * Removing a directory's contents by descriptors: no link is followed, no mount is entered, and whoever moves things
 * about meanwhile leads it nowhere else. Used by the addon and by the guardian; allocates nothing.
 */
#ifndef STILLFRAME_REMOVE_H
#define STILLFRAME_REMOVE_H

#include <stdbool.h>

/*
 * Removes all that lies in a directory held open, not the directory itself. Linear in the number of entries at whatever
 * depth, with four descriptors. Returns 0 or an errno: EXDEV or EBUSY at a mount point, ECANCELED soon after
 * `*cancelled` has become other than 0 (NULL: never). After a failure what is left may lie elsewhere in the directory
 * than before.
 */
int remove_below(int directory, const int *cancelled);

/* Removes one entry of a directory, with all below it. One that does not exist is no failure. */
int remove_at(int parent, const char *name, const int *cancelled);

#endif
