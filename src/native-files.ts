/** Types of native/scan.c, native/copy.c and native/files.c. */
// eslint-disable-next-line @typescript-eslint/no-empty-object-type
export interface FilesNative {}
