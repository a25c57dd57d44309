import { join } from 'node:path';
import { inventory_entry } from '../generated/criu.js';
import { present } from '../rpc/messages.js';
import { imageEntry, toNumber } from './image-file.js';
import { filled } from '../rpc/option-values.js';

const INVENTORY_MAGIC = 0x58313116;

export interface Inventory {
  /** 2 in every CRIU since 1.6. */
  imgVersion: number;
  /** The kernel's uptime at the dump, in microseconds. */
  dumpUptimeUs?: number;
  /** TCP connections were dumped as closed: the restore needs `tcpClose` too. */
  tcpClose?: boolean;
  /** How the network was locked; CRIU's restore goes by it. */
  networkLock?: 'iptables' | 'nftables' | 'skip';
  /** Dumped with uprobes allowed: the restore needs that too. */
  allowUprobes?: boolean;
  /** Memory images are compressed. Since CRIU 4.3; an older one cannot restore them. */
  compress?: 'lz4';
  runId?: string;
}

// criu/include/cr_options.h, NETWORK_LOCK_*: not the numbers of the RPC.
const networkLocks = ['iptables', 'nftables', 'skip'] as const;

/**
 * Reads `inventory.img`, the one image that every dump has.
 * @throws CriuError CRIU_IMAGE
 */
export async function readInventory(imagesDir: string): Promise<Inventory> {
  filled('imagesDir', imagesDir);
  return imageEntry(join(imagesDir, 'inventory.img'), INVENTORY_MAGIC, decodeInventory);
}

function decodeInventory(data: Uint8Array): Inventory {
  const entry = inventory_entry.decode(data);
  const { imgVersion, dumpUptime, tcpClose, networkLockMethod, allowUprobes, dumpCriuRunId, compress } = entry;
  return {
    imgVersion,
    ...present({
      dumpUptimeUs: dumpUptime == null ? undefined : toNumber(dumpUptime),
      tcpClose,
      networkLock: networkLockMethod == null ? undefined : networkLocks[networkLockMethod],
      allowUprobes,
      compress: compress === 1 ? ('lz4' as const) : undefined,
      runId: dumpCriuRunId,
    }),
  };
}
