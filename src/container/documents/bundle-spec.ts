import { existsSync } from 'node:fs';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { readVerifiedMember, type VerifiedArchive } from '../../archive/index.js';
import { readSpec, rootfsOf } from '../model/spec.js';
import { adaptArchivedSpec, type AdaptedSpec, type DroppedSetting, type HostSetting } from './archived-spec.js';
import { members } from './documents.js';
import { readBindMounts } from './recorded-lists.js';

const MAX_SPEC_BYTES = 16 * 1024 * 1024;

/** The configuration that a container is restored with: its bundle's own, or else the archive's. */
export class BundleSpec {
  readonly rootfs: string;
  /** What is not taken over of the archive's: empty where the bundle has its own. */
  readonly dropped: DroppedSetting[];
  /** The directories of this machine that the archive's own lets the container reach. */
  readonly hostMounts: AdaptedSpec['hostMounts'];
  /** The file that `write` makes; undefined where the bundle has its own. */
  readonly path: string | undefined;
  readonly #text: string | undefined;
  #isWritten = false;

  private constructor(bundle: string, rootfs: string, adapted?: AdaptedSpec) {
    this.rootfs = rootfs;
    this.dropped = adapted?.dropped ?? [];
    this.hostMounts = adapted?.hostMounts ?? [];
    this.path = adapted === undefined ? undefined : join(bundle, 'config.json');
    this.#text = adapted?.text;
  }

  /** Nothing is written yet. @throws ContainerError BUNDLE_UNREADABLE, NOT_A_CONTAINER_CHECKPOINT */
  static async of(bundle: string, verified: VerifiedArchive, keep: readonly HostSetting[]): Promise<BundleSpec> {
    if (existsSync(join(bundle, 'config.json')))
      return new BundleSpec(bundle, rootfsOf(await readSpec(bundle), bundle));
    const archived = await readVerifiedMember(verified, members.spec, MAX_SPEC_BYTES);
    const bindMounts = await readBindMounts(verified);
    const adapted = adaptArchivedSpec(archived.toString(), { archivePath: verified.archive.path, bindMounts, keep });
    return new BundleSpec(bundle, join(bundle, 'rootfs'), adapted);
  }

  /** Puts it where the runtime reads it. */
  async write(): Promise<void> {
    if (this.path === undefined || this.#text === undefined) return;
    const file = await open(this.path, 'wx', 0o600);
    this.#isWritten = true;
    try {
      await file.writeFile(this.#text);
    } finally {
      await file.close();
    }
  }

  /** A further try would take it for the bundle's own: without a word of what is not in it, and deaf to `keep`. */
  async discard(): Promise<void> {
    if (this.path !== undefined && this.#isWritten) await rm(this.path, { force: true });
  }
}
