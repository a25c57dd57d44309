import { present } from './messages.js';
import type { criu_version } from '../generated/criu.js';

/** A CRIU version as one number, as CRIU's own: 4.1.1 is 40101. */
export type VersionNumber = number;

export interface CriuVersion {
  major: number;
  minor: number;
  sublevel: number;
  /** What `git describe` said where it was built from a checkout: "v4.2-300-gabcdef012". */
  gitId?: string;
  /** "CRIUTIBILITY" */
  name?: string;
  /** "4.1.1" */
  text: string;
  /** One built between two releases counts as the next minor one, as in libcriu and go-criu: 40300 for that `gitId`. */
  versionNumber: VersionNumber;
}

export function versionNumber(text: string): VersionNumber {
  const [major = 0, minor = 0, sublevel = 0] = text.split('.').map(Number);
  return major * 10000 + minor * 100 + sublevel;
}

/** The tag itself: a release, built from its checkout. */
const released = /^v\d+(\.\d+)*$/;

/** CRIU's answer to VERSION. */
export function readVersion({
  majorNumber: major,
  minorNumber: minor,
  sublevel: given,
  gitid,
  name,
}: criu_version.$Properties): CriuVersion {
  const sublevel = given ?? 0;
  const text = `${major}.${minor}${sublevel === 0 ? '' : `.${sublevel}`}`;
  const isBetween = gitid != null && !released.test(gitid);
  return {
    major,
    minor,
    sublevel,
    text,
    versionNumber: isBetween ? versionNumber(`${major}.${minor + 1}`) : versionNumber(text),
    ...present({ gitId: gitid, name }),
  };
}
