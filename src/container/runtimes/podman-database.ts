import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { BoltError, boltBucket, boltTransaction, boltValue } from './bolt.js';
import { run } from './command.js';
import { ContainerError } from '../model/container-error.js';

/** What Podman's database has of a container; JSON texts exactly as they are stored. */
export interface PodmanRecords {
  /** Podman's ContainerConfig: what `config.dump` is. */
  config: string;
  /** Podman's ContainerState. */
  state: string;
  /** Networks that Podman 4 keeps apart from the configuration: name to JSON. */
  networks: Map<string, string>;
}

/**
 * Podman's own `container checkpoint` writes `config.dump` from its database and hands it out in no other way, so the
 * database is read: BoltDB (Podman 4) or SQLite (the default since 4.8).
 * Source: libpod/boltdb_state_internal.go, v4.3.1; libpod/sqlite_state_internal.go, v5.8.
 * @param graphRoot Podman's storage directory
 * @throws ContainerError PODMAN_DATABASE
 */
export async function readPodmanDatabase(graphRoot: string, id: string): Promise<PodmanRecords> {
  const sqlite = join(graphRoot, 'db.sql');
  if (existsSync(sqlite)) return readSqlite(sqlite, id);
  return readBolt(join(graphRoot, 'libpod', 'bolt_state.db'), id);
}

async function readBolt(path: string, id: string): Promise<PodmanRecords> {
  try {
    const db = await readSettled(path);
    const config = boltValue(db, ['ctr', id, 'config']);
    const state = boltValue(db, ['ctr', id, 'state']);
    if (config === undefined || state === undefined)
      throw new ContainerError('PODMAN_DATABASE', { path, what: `does not know container ${id}` });
    const networks = boltBucket(db, ['ctr', id, 'networks']) ?? new Map<string, Buffer>();
    return {
      config: config.toString(),
      state: state.toString(),
      networks: new Map([...networks].map(([name, json]) => [name, json.toString()])),
    };
  } catch (cause) {
    if (cause instanceof ContainerError) throw cause;
    throw new ContainerError('PODMAN_DATABASE', {
      path,
      what: cause instanceof BoltError ? cause.message : 'cannot be read',
      cause,
    });
  }
}

/**
 * The file as one transaction left it. Pages are never changed while a reader may need them, but they are used again
 * two transactions later: a reading in which a transaction ended is repeated.
 */
async function readSettled(path: string): Promise<Buffer> {
  for (let attempt = 0; ; attempt++) {
    const db = await readFile(path);
    if (boltTransaction(await readFile(path)) === boltTransaction(db)) return db;
    if (attempt === 20) throw new BoltError('is written to all the time');
  }
}

async function readSqlite(path: string, id: string): Promise<PodmanRecords> {
  // The id goes into a statement's text below: nothing else than an id may.
  if (!/^[0-9a-f]{64}$/.test(id))
    throw new ContainerError('PODMAN_DATABASE', { path, what: `cannot be asked for ${JSON.stringify(id)}` });
  const [config, state] = await query(path, [
    `SELECT JSON FROM ContainerConfig WHERE ID = '${id}'`,
    `SELECT JSON FROM ContainerState WHERE ID = '${id}'`,
  ]);
  if (config === undefined || state === undefined)
    throw new ContainerError('PODMAN_DATABASE', { path, what: `does not know container ${id}` });
  return { config, state, networks: new Map() };
}

/** One text for each statement, undefined where it found no row: by Node's own SQLite, or by the sqlite3 command. */
async function query(path: string, statements: readonly string[]): Promise<(string | undefined)[]> {
  const sqlite = await nodeSqlite();
  if (sqlite !== undefined) {
    const db = new sqlite.DatabaseSync(path, { readOnly: true });
    try {
      return statements.map((statement) => db.prepare(statement).get()?.['JSON'] as string | undefined);
    } finally {
      db.close();
    }
  }
  try {
    return await Promise.all(
      statements.map(async (statement) => {
        const { stdout } = await run('sqlite3', ['-readonly', '-batch', '-noheader', path, statement]);
        return stdout === '' ? undefined : stdout.trimEnd();
      }),
    );
  } catch (cause) {
    throw new ContainerError('PODMAN_DATABASE', { path, what: 'cannot be read', cause });
  }
}

interface NodeSqlite {
  DatabaseSync: new (
    path: string,
    options: { readOnly: boolean },
  ) => { prepare(sql: string): { get(): Record<string, unknown> | undefined }; close(): void };
}

/** Node has it since 22.5; its types are not those of the oldest Node that we run on. */
async function nodeSqlite(): Promise<NodeSqlite | undefined> {
  const name = 'node:sqlite';
  try {
    return (await import(name)) as NodeSqlite;
  } catch {
    return undefined;
  }
}
