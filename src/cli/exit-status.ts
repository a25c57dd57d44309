/** Exit statuses of the command: 0 done, 1 failed, 2 wrong usage. */
export const EXIT_FAILED = 1;
export const EXIT_USAGE = 2;
