/* Two programs in one file: pid 1 of a copy, and the way into its namespaces. */
#ifndef STILLFRAME_INIT_H
#define STILLFRAME_INIT_H

/* `stillframe-init --enter PID PROGRAM [ARGUMENT...]`: see enter.c. */
int enter(int argc, char **argv);

#endif
