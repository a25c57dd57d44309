// The format and its reading.
export { ArchiveError, type ArchiveErrorCode, type ArchiveFacts } from './format/archive-error.js';
export { textsIn } from './format/json-texts.js';
export { parseJson } from './format/bounded-json.js';
export { bytesFromJson, bytesToJson, printable, type JsonBytes } from './format/byte-text.js';
export type { ByteRange, Entry, EntryType, Xattr } from './format/entry.js';
export {
  checkMembers,
  extractMembers,
  extractTar,
  extractTree,
  readVerifiedMember,
  type ExtractedTree,
  type ExtractOptions,
} from './extract/extract.js';
export { ImageStaging } from './extract/image-staging.js';
export type { NewTreeWatch, PlannedTree } from './extract/new-tree.js';
export { TreeStaging, type HiddenTree } from './extract/tree-staging.js';
export type { ExtractProgress } from './extract/extraction.js';
export { describeFd } from './extract/openat-dir.js';
export { isHeldOpen, pathOf, type Destination, type NamedDestination } from './extract/destination.js';
export {
  Replacement,
  type PlannedReplacement,
  type ReplacedFiles,
  type ReplacementWatch,
} from './extract/replacement.js';
export { FORMAT_VERSION, type Integrity, type Manifest, type TreeLayout, type TreeRecord } from './format/manifest.js';
export {
  openArchive,
  readMember,
  walkMembers,
  type Member,
  type OpenArchive,
  type OpenArchiveOptions,
  type TarRange,
} from './read/reader.js';
export { isSource, nameOfSource, type ArchiveSource } from './read/source.js';
export type { Compression } from './read/begin.js';
export type { MemberInTurn } from './read/chunked-members.js';
export { openInOrder } from './read/in-order.js';
export { inspectArchive, inspectMembers } from './read/inspect.js';
export { refuseOccupied } from './extract/occupied.js';
export type { MemberPlace, TreePlace } from './read/places.js';
export { readManifest, readManifestAhead, type FoundManifest, type ManifestAhead } from './read/manifest-at-end.js';
export { locateMembers } from './read/locate-members.js';
export { readMemberRange } from './read/member-range.js';
export { verifyArchive, type VerifiedArchive, type VerifyOptions } from './read/verify.js';

// The writing.
export { ArchiveWriter, type ArchiveWriterOptions, type SealedArchive, type SealOptions } from './write/writer.js';
export { refuseExisting, type FileOutput, type StreamOutput } from './write/output.js';
export type { OutputCompression } from './file/deliver.js';
export { Stage, type PrecopyOptions, type RefreshOptions, type StageTimes } from './write/stage.js';
export type { Copied, StageProgress } from './write/stage-work.js';
export type { TreeSource } from './write/staged-tree.js';
export type { FilesInUse } from './scan/copy-trust.js';
export { surveyTrees, type TreeSurvey } from './scan/survey.js';
export { hasTooManyParts, isExcluded, whyNoExclude, type PatternUse } from './scan/excludes.js';
export { locateTree } from './scan/tree-root.js';
export { openNameless } from './file/unnamed-file.js';
