/** What `inspectProcesses` says of a real tree's checkpoint is what /proc said of the tree. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, readlinkSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, it, onTestFinished } from 'vitest';
import { childrenOf } from '../../../src/proc/children.js';
import { checkpoint, inspectImages, inspectProcesses } from '../../../src/index.js';
import { startDetached } from '../../fixtures/detached.js';
import { until } from '../../fixtures/criu.js';
import { forge, takeApart } from '../../fixtures/forge-archive.js';
import { stillframe } from '../../fixtures/program.js';

let dir: string;
beforeEach(() => {
  dir = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
});
afterEach(() => rmSync(dir, { recursive: true, force: true }));

const PROGRAM = `
import mmap, os, socket, sys, threading, time
dir = sys.argv[1]
os.chdir(dir)
shared = mmap.mmap(-1, 1 << 20)
named = os.memfd_create('some name')
os.write(named, b'x' * 5000)
named_map = mmap.mmap(named, 5000)
shared[:3 * mmap.PAGESIZE] = b'x' * 3 * mmap.PAGESIZE
os.dup2(os.open(dir + '/log', os.O_RDWR | os.O_CREAT), 20)
os.write(20, b'twelve bytes')
four = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(four.getsockname())
accepted, _ = four.accept()
six = socket.create_server(('::1', 0), family=socket.AF_INET6)
udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
udp.bind(('127.0.0.1', 0))
path = socket.socket(socket.AF_UNIX)
path.bind(dir + '/socket')
path.listen()
abstract = socket.socket(socket.AF_UNIX)
abstract.bind(b'\\0stillframe-test\\x1b' + str(os.getpid()).encode())
read, write = os.pipe()
os.set_inheritable(read, True)
threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
if os.fork() == 0:
    os.execvp('sleep', ['sleep', '1000'])
if os.fork() == 0:
    os._exit(0)
names = {
    'four': four, 'client': client, 'accepted': accepted, 'six': six, 'udp': udp, 'path': path, 'abstract': abstract,
}
lines = [f'{name} {one.fileno()} {one.getsockname()[1] if one.family != socket.AF_UNIX else 0}' for name, one in names.items()]
open(dir + '/ready.tmp', 'w').write('\\n'.join(lines))
os.rename(dir + '/ready.tmp', dir + '/ready')
time.sleep(1000)
`;

it('are its processes, arguments, files and sockets', async () => {
  writeFileSync(join(dir, 'program.py'), PROGRAM);
  const args = [join(dir, 'program.py'), dir, 'an argument\nof two lines', ''];
  const { pid } = await startDetached('python3', args);
  await until(() => existsSync(join(dir, 'ready')), 'the tree is ready');
  const sockets = new Map(
    readFileSync(join(dir, 'ready'), 'utf8')
      .split('\n')
      .map((line) => line.split(' '))
      .map(([name = '', fd, port]) => [name, { fd: Number(fd), port: Number(port) }]),
  );
  const socket = (name: string): { fd: number; port: number } => sockets.get(name)!;
  const children = childrenOf(pid);
  const fds = readdirSync(`/proc/${pid}/fd`).map(Number);
  const filesOf = (): unknown[] =>
    fds
      .map((fd) => ({ fd, path: readlinkSync(`/proc/${pid}/fd/${fd}`) }))
      .filter(({ path }) => /^\/(?!memfd:)/.test(path));
  const files = filesOf();
  const exe = readlinkSync(`/proc/${pid}/exe`);
  const cmdline = readFileSync(`/proc/${pid}/cmdline`, 'latin1').split('\0').slice(0, -1);
  expect(cmdline.slice(1)).toEqual(args);
  const environ = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').slice(0, -1);
  const maps = readFileSync(`/proc/${pid}/maps`, 'latin1').trimEnd().split('\n');
  const archive = join(dir, 'a.tar');
  const criu = { tcpEstablished: true };
  await checkpoint({ pid, adopt: true, output: archive, stateDir: join(dir, 'state'), criu });

  const [root, ...rest] = await inspectProcesses(archive);
  expect(root).toMatchObject({ pid, ppid: 0, threads: 2, name: 'python3', state: 'running' });
  expect(root?.exe).toBe(exe);
  expect(root?.args).toEqual(cmdline.map((arg) => arg.replace('\n', '\\x0a')));
  expect(root?.memory?.dumped).toBeGreaterThan(1 << 20);
  expect(root?.memory?.mapped).toBeGreaterThan(root?.memory?.dumped ?? Infinity);
  expect(root?.descriptors.map(({ fd }) => fd).sort((a, b) => a - b)).toEqual(fds.sort((a, b) => a - b));
  expect(root?.descriptors.filter(({ kind }) => kind === 'file').map(({ fd, path }) => ({ fd, path }))).toEqual(
    expect.arrayContaining(files),
  );
  const at = (fd: number): unknown => root?.descriptors.find((one) => one.fd === fd);
  expect(root?.descriptors).toContainEqual(
    expect.objectContaining({ kind: 'memfd', path: 'memfd:some name', size: 5000 }),
  );
  expect(at(20)).toEqual({ fd: 20, kind: 'file', path: join(dir, 'log'), size: 12, pos: 12 });
  const [four, client, udp] = ['four', 'client', 'udp'].map((name) => `127.0.0.1:${socket(name).port}`);
  const tcp = { kind: 'inet socket', protocol: 'tcp' };
  expect(at(socket('four').fd)).toMatchObject({ ...tcp, state: 'listening', local: four });
  expect(at(socket('client').fd)).toMatchObject({ ...tcp, state: 'established', local: client, remote: four });
  expect(at(socket('accepted').fd)).toMatchObject({ ...tcp, state: 'established', local: four, remote: client });
  expect(at(socket('six').fd)).toMatchObject({ protocol: 'tcp6', local: `[::1]:${socket('six').port}` });
  expect(at(socket('udp').fd)).toMatchObject({ protocol: 'udp', local: udp });
  const unix = { kind: 'unix socket' };
  expect(at(socket('path').fd)).toMatchObject({ ...unix, path: join(dir, 'socket'), state: 'listening' });
  expect(at(socket('abstract').fd)).toMatchObject({ ...unix, path: `@stillframe-test\\x1b${pid}` });
  const [readEnd, writeEnd] = root?.descriptors.filter(({ kind }) => kind === 'pipe') ?? [];
  expect(readEnd?.pipeId).toEqual(writeEnd?.pipeId);

  expect(rest.map((process) => process.pid).sort()).toEqual([...children].sort());
  const sleeping = rest.find(({ name }) => name === 'sleep');
  expect(sleeping).toMatchObject({ ppid: pid, args: ['sleep', '1000'], state: 'running' });
  expect(sleeping?.descriptors).toContainEqual({ ...readEnd });
  expect(rest.find(({ name }) => name !== 'sleep')).toMatchObject({
    state: 'ended',
    descriptors: [],
    memory: undefined,
  });

  const { stdout, status } = await stillframe('inspect', archive, '--ps', '--files', '--sockets');
  expect(status).toBe(0);
  expect(stdout).toMatch(new RegExp(`^ *${sleeping?.pid} +${pid} +0 +running +1 .*  sleep 1000$`, 'm'));
  expect(stdout).toContain(join(dir, 'log'));
  expect(stdout).toMatch(new RegExp(`tcp +established +${client} +${four}$`, 'm'));
  const shown = await stillframe('inspect', archive, '--ps', '--json');
  expect((JSON.parse(shown.stdout) as { processes: unknown[] }).processes).toHaveLength(3);
  expect(await stillframe('inspect', archive, '--ps', '--members')).toMatchObject({ status: 2 });

  const options = { env: true, maps: true, mounts: true, cgroups: true, statistics: true, summary: true };
  const all = await inspectImages(archive, options);
  const [same] = all.processes;
  expect(same).toMatchObject({ ...root, cwd: dir, root: '/', user: { uid: 0, gid: 0, euid: 0, egid: 0 } });
  expect(same?.env).toEqual(environ.map((one) => one.replaceAll('\n', '\\x0a')));
  // `start-end rw-p offset device inode path`; the kernel's own parts CRIU counts in another way.
  const mapped = maps.filter((line) => !/\[(vvar|vdso|vsyscall|uprobes)/.test(line)).map((line) => line.split(/ +/));
  const mappings = same?.mappings?.filter(({ kind }) => !/^v/.test(kind)) ?? [];
  expect(mappings.map(({ start, end, protection }) => `${start.slice(2)}-${end.slice(2)} ${protection}`)).toEqual(
    mapped.map(([range, protection]) => `${range?.replace(/\b0+/g, '')} ${protection}`),
  );
  expect(mappings.flatMap(({ kind, path }) => (kind.startsWith('file') ? path : []))).toEqual(
    mapped.flatMap(([, , , , , path]) => (/^\/(?!memfd:|dev\/zero)/.test(path ?? '') ? path : [])),
  );
  const named = mappings.filter(({ kind }) => kind === 'memfd');
  expect(named).toMatchObject([{ path: 'memfd:some name', bytes: 8192, dumped: 8192 }]);
  const sharedOnes = mappings.filter(({ kind }) => kind === 'shared');
  expect(sharedOnes).toMatchObject([{ bytes: 1 << 20, dumped: 3 * 4096, inParent: 0 }]);
  const own = mappings
    .filter(({ protection }) => !protection.endsWith('s'))
    .reduce((sum, { dumped }) => sum + dumped, 0);
  const kernels = same?.mappings?.filter(({ kind }) => /^v/.test(kind)).reduce((sum, { dumped }) => sum + dumped, 0);
  expect(own + (kernels ?? 0)).toBe(root?.memory?.dumped);
  expect(all.mounts).toEqual([]);
  expect(same?.cgroups?.length).toBeGreaterThan(0);
  expect(all.statistics?.pagesWritten).toBeGreaterThan(100);
  expect(all.archive).toMatchObject({ archivePath: archive, members: [], container: undefined });
  expect(all.archive?.sizes.memory).toBeGreaterThan(1 << 20);

  const everything = await stillframe('inspect', archive, '--all', '--pid', String(pid));
  expect(everything).toMatchObject({ status: 0, stderr: '' });
  for (const text of [
    `archive: +${archive}`,
    'stood still: +\\d',
    `${pid} +PATH=`,
    `${pid} +0x[0-9a-f-]+x[0-9a-f]+ +rw-s +shared +1048576 +12288`,
  ])
    expect(everything.stdout).toMatch(new RegExp(text));
  const one = await stillframe('inspect', archive, '--env', '--json', '--pid', String(sleeping?.pid));
  expect((JSON.parse(one.stdout) as { processes: unknown[] }).processes).toMatchObject([
    { pid: sleeping?.pid, env: expect.arrayContaining([expect.stringMatching(/^PATH=/)]) as string[] },
  ]);
  expect(await stillframe('inspect', archive, '--ps', '--pid', '1')).toMatchObject({
    status: 2,
    stderr: expect.stringContaining(`has no process 1; it has ${pid}`) as string,
  });

  // Other engines' archives have the images at the same place, and nothing else that is needed.
  const { members } = await takeApart(archive);
  const bare = join(dir, 'bare.tar');
  writeFileSync(bare, forge({ members: members.filter(({ name }) => String(name) !== 'dump.log'), subject: {} }));
  expect(await inspectProcesses(bare)).toEqual([root, ...rest]);
  onTestFinished(() => rmSync(bare, { force: true }));
});

it.each([
  ['cut', (image: Buffer) => image.subarray(0, -1), 'ARCHIVE_DAMAGED'],
  ['not there', () => undefined, 'MEMBER_MISSING'],
] as const)('an image that is %s is named as the member that it is', async (_, change, code) => {
  const { pid } = await startDetached('sleep', ['1000']);
  const archive = join(dir, 'a.tar');
  await checkpoint({ pid, adopt: true, output: archive, stateDir: join(dir, 'state'), stop: true });
  const forgery = await takeApart(archive);
  const member = `checkpoint/mm-${pid}.img`;
  const members = forgery.members.flatMap((one) => {
    if (String(one.name) !== member) return [one];
    const stored = change(one.stored as Buffer);
    const { head: _head, ...rest } = one;
    return stored === undefined ? [] : [{ ...rest, stored, size: stored.length }];
  });
  writeFileSync(archive, forge({ ...forgery, members }));
  const error: unknown = await inspectProcesses(archive).catch((reason: unknown) => reason);
  expect(error).toMatchObject({ code, facts: { archivePath: archive, member } });
  expect((error as Error).message).not.toContain('.stillframe-');
});

it('an archive without images is said to be one', async () => {
  const archive = join(dir, 'none.tar');
  writeFileSync(archive, forge({ members: [{ name: 'config.dump', stored: '{}' }], subject: {} }));
  await expect(inspectProcesses(archive)).rejects.toMatchObject({
    code: 'MEMBER_MISSING',
    facts: { archivePath: archive, member: 'checkpoint' },
  });
});
