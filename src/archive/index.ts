// The format and its reading.
export { ArchiveError, type ArchiveErrorCode, type ArchiveFacts } from './archive-error.js';
export { bytesFromJson, bytesToJson, printable, type JsonBytes } from './bytes.js';
export type { ByteRange, Entry, EntryType, Xattr } from './entry.js';
export { extractMembers, extractTar, extractTree, readVerifiedMember, type ExtractedTree, type ExtractOptions, type ExtractProgress } from './extract.js';
export { FORMAT_VERSION, type Integrity, type Manifest, type TreeLayout, type TreeRecord } from './manifest.js';
export { openArchive, readMember, walkMembers, type Compression, type Member, type OpenArchive, type OpenArchiveOptions, type TarRange } from './reader.js';
export { inspectArchive, verifyArchive, type Inspection, type MemberPlace, type TreePlace, type VerifiedArchive, type VerifyOptions } from './verify.js';

// The writing.
export { ArchiveWriter, type ArchiveWriterOptions, type FileOutput, type SealedArchive, type SealOptions, type StreamOutput } from './writer.js';
export type { OutputCompression } from './output.js';
export { Stage, type Copied, type PrecopyOptions, type RefreshOptions, type StageProgress, type StageTimes } from './stage.js';
export type { TreeSource } from './staged-tree.js';
export type { FilesInUse } from './trust.js';
export { openNameless } from './nameless.js';
