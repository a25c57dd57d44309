/** Members of a container's archive, in every engine's and in ours. Source: checkpointctl v1.5, lib/metadata.go. */

/** What a container changed of its image. */
export const ROOTFS_DIFF = 'rootfs-diff.tar';
/** And which paths it removed: a JSON list. */
export const DELETED_FILES = 'deleted.files';
