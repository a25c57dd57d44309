/** A CRIU version as one number, as CRIU's own: 4.1.1 is 40101. */
export type VersionNumber = number;

export interface CriuVersion {
  major: number;
  minor: number;
  sublevel: number;
  /** The commit it was built from, when the build knows. */
  gitId?: string;
  /** "CRIUTIBILITY" */
  name?: string;
  /** "4.1.1" */
  text: string;
  versionNumber: VersionNumber;
}

export function versionNumber(text: string): VersionNumber {
  const [major = 0, minor = 0, sublevel = 0] = text.split('.').map(Number);
  return major * 10000 + minor * 100 + sublevel;
}
