/** Of every machine that CRIU runs on, or a part of its pages. */
export const PAGE_BYTES = 4096;
