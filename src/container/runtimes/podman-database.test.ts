import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it } from 'vitest';
import { readPodmanDatabase } from './podman-database.js';

const ID = 'a'.repeat(64);
let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

/** A database as Podman 5 lays it out. */
function sqlite(...statements: string[]): void {
  const schema = [
    'CREATE TABLE ContainerConfig(ID TEXT PRIMARY KEY NOT NULL, Name TEXT UNIQUE NOT NULL, PodID TEXT, JSON TEXT NOT NULL)',
    'CREATE TABLE ContainerState(ID TEXT PRIMARY KEY NOT NULL, State INTEGER NOT NULL, ExitCode INTEGER, JSON TEXT NOT NULL)',
  ];
  const { status, stderr, error } = spawnSync('sqlite3', [join(dir, 'db.sql'), [...schema, ...statements].join(';')], {
    encoding: 'utf8',
  });
  if (status !== 0) throw new Error(`needs sqlite3: ${error?.message ?? stderr}`);
}

it("gives the JSON of Podman 5's SQLite exactly as it is stored", async () => {
  const config = '{"id":"x","big":18446744073709551615,"text":"a b\\n"}';
  sqlite(
    `INSERT INTO ContainerConfig VALUES('${ID}','web',NULL,'${config}')`,
    `INSERT INTO ContainerState VALUES('${ID}',3,0,'{"networkStatus":null}')`,
  );
  expect(await readPodmanDatabase(dir, ID)).toEqual({ config, state: '{"networkStatus":null}', networks: new Map() });
});

it('says that a container is unknown, and never puts a name into SQL', async () => {
  sqlite();
  await expect(readPodmanDatabase(dir, ID)).rejects.toMatchObject({
    code: 'PODMAN_DATABASE',
    facts: { what: `does not know container ${ID}` },
  });
  await expect(readPodmanDatabase(dir, "x' OR '1'='1")).rejects.toMatchObject({ code: 'PODMAN_DATABASE' });
});

it('says what is wrong with a file that is no database', async () => {
  mkdirSync(join(dir, 'libpod'));
  writeFileSync(join(dir, 'libpod/bolt_state.db'), Buffer.alloc(65536, 7));
  await expect(readPodmanDatabase(dir, ID)).rejects.toMatchObject({
    code: 'PODMAN_DATABASE',
    facts: { what: 'is no BoltDB file' },
  });
  rmSync(join(dir, 'libpod'), { recursive: true });
  await expect(readPodmanDatabase(dir, ID)).rejects.toMatchObject({
    code: 'PODMAN_DATABASE',
    facts: { what: 'cannot be read' },
  });
});
