import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it, onTestFinished } from 'vitest';
import { forgeContainer } from '../../../test/fixtures/forge-archive.js';
import { openArchive } from '../../archive/index.js';
import { verifyContainerArchive } from './verify-container.js';
import { readBindMounts, readDeletedFiles } from './recorded-lists.js';

/** What is read of an archive with this document; or the code, and the cause, of the refusal. */
async function read<T>(
  name: 'deleted.files' | 'bind.mounts',
  document: string,
  reader: (verified: Awaited<ReturnType<typeof verifyContainerArchive>>) => Promise<T>,
): Promise<T | unknown> {
  const dir = mkdtempSync(join(tmpdir(), 'stillframe-test-lists-'));
  onTestFinished(() => rmSync(dir, { recursive: true, force: true }));
  const path = join(dir, 'a.tar');
  writeFileSync(path, forgeContainer({ documents: { [name]: document } }));
  await using archive = await openArchive(path);
  const verified = await verifyContainerArchive(archive, {});
  return await reader(verified).catch((error: unknown) => (error as { code?: unknown }).code ?? error);
}

const deleted = async (document: string): Promise<unknown> => {
  const found = await read('deleted.files', document, readDeletedFiles);
  return found instanceof Set ? [...(found as Set<string>)] : found;
};

it.each([
  ['[]', []],
  [' [ ] \n', []],
  ['["/a"]', ['a']],
  [' [ "/a/b" ,\n"c", "./d" , "/a/b" ]', ['a/b', 'c', 'd']],
  ['["/with \\"quotes\\" and \\\\", "/\\u00e9"]', ['with "quotes" and \\', '\xc3\xa9']],
])('deleted.files %j are the paths %j', async (document, paths) => {
  expect(await deleted(document)).toEqual(paths);
});

it.each([
  ['', '[', '[,]', '["a",]', '["a"', '["a"]]', '["a"] x', '{"a":1}', 'null', '"a"', '[1]', '[["a"]]', '["a" "b"]'],
])('what is no list of texts is refused', async (...documents) => {
  for (const document of [...documents, '["\\', '["a\n"]', '[null]'])
    expect([document, await deleted(document)]).toEqual([document, 'NOT_A_CONTAINER_CHECKPOINT']);
});

it('a path that leads out is unsafe', async () => {
  expect(await deleted('["/a/../../b"]')).toBe('UNSAFE_PATH');
  expect(await deleted('["/a\\u0000b"]')).toBe('UNSAFE_PATH');
});

it('millions of paths are refused, and the same one over and over is one', async () => {
  expect(await deleted(`[${'"/a",'.repeat(1_000_000)}"/a"]`)).toEqual(['a']);
  expect(await deleted(`[${'"",'.repeat(2_000_001)}"/a"]`)).toBe('NOT_A_CONTAINER_CHECKPOINT');
});

it.each(['{', '[1]', '[null]', '['.repeat(1000), `[${'{},'.repeat(600_000)}{}]`])(
  'bind mounts that are none are refused',
  async (document) => {
    expect(await read('bind.mounts', document, readBindMounts)).toBe('NOT_A_CONTAINER_CHECKPOINT');
  },
);
