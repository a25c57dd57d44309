/** Whether an archive would restore, as far as it says so itself. */

/** Something for which CRIU refuses the restore. */
export interface RestoreFault {
  /**
   * `image`: one of CRIU's images is missing or damaged. `pages`: memory is missing. `file-missing`, `file-size`,
   * `file-mode`: a file that processes have open or mapped is not in the archive as CRIU recorded it.
   */
  kind: 'image' | 'pages' | 'file-missing' | 'file-size' | 'file-mode';
  /** Of the image. */
  member?: string;
  /** Of the file, as the processes had it; printable. */
  path?: string;
  /** Whose file it is, with the ids of the dumped pid namespace. */
  pids?: number[];
  /** Bytes, or st_mode. */
  recorded?: number;
  found?: number;
  /** For people: all of it. */
  message: string;
}

/** A file that processes have open or mapped, which the archive does not hold: it must be where it is restored. */
export interface ExpectedFile {
  path: string;
  pids: number[];
  /** CRIU refuses a file of another size or mode. Undefined where it compares none: of what is only appended to. */
  bytes?: number;
  /** st_mode. Unknown in images of old versions. */
  mode?: number;
}

export interface Restorability {
  /** Processes of the dump, the ended ones included. */
  processes: number;
  faults: RestoreFault[];
  expected: ExpectedFile[];
}
