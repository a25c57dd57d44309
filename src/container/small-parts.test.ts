import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { createServer, connect } from 'node:net';
import { once } from 'node:events';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { thawedCgroupImage } from './target/cgroup-image.js';
import type { Container } from './model/container.js';
import { connectedInodes, hasTcpConnections } from './target/connections.js';
import { containerDocuments } from './documents/documents.js';
import { engineFacts } from './model/engine.js';
import { withNetworks } from './runtimes/podman.js';
import { Meeting } from './pod-barrier.js';
import { resolveInRoot } from './target/resolve-in-root.js';

describe("a dump's cgroup image", () => {
  const property = (value: string): Buffer =>
    Buffer.concat([Buffer.from('\n\rfreezer.state\x12\x06'), Buffer.from(value)]);

  it('says THAWED afterwards for every freezer, and is otherwise the same', () => {
    const image = Buffer.concat([
      Buffer.from('before FROZEN'),
      property('FROZEN'),
      Buffer.from('between'),
      property('FROZEN'),
    ]);
    expect(thawedCgroupImage(image)).toEqual(
      Buffer.concat([Buffer.from('before FROZEN'), property('THAWED'), Buffer.from('between'), property('THAWED')]),
    );
  });

  it('is left alone when nothing in it is frozen', () => {
    const image = property('THAWED');
    expect(thawedCgroupImage(image)).toEqual(image);
  });
});

describe('TCP connections', () => {
  const table = [
    '  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode',
    '   0: 0100007F:0016 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 101 1',
    '   1: 0100007F:0016 0100007F:9C40 01 00000000:00000000 00:00000000 00000000     0        0 102 1',
    '   2: 0100007F:0016 0100007F:9C41 08 00000000:00000000 00:00000000 00000000     0        0 103 1',
    '',
  ].join('\n');

  it('are those in any state but listening and closed', () => {
    expect(connectedInodes(table)).toEqual(['102', '103']);
  });

  it('of this process are seen when it has one, and only then', async () => {
    const server = createServer().listen(0, '127.0.0.1');
    await once(server, 'listening');
    expect(hasTcpConnections([process.pid])).toBe(false);
    const client = connect((server.address() as { port: number }).port, '127.0.0.1');
    await once(client, 'connect');
    expect(hasTcpConnections([process.pid])).toBe(true);
    client.destroy();
    server.close();
  });
});

it('a path of a container is followed through its links without leaving it', () => {
  const root = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  try {
    for (const dir of ['run', 'var', 'deep/er']) mkdirSync(join(root, dir), { recursive: true });
    symlinkSync('/run', join(root, 'var/run'));
    symlinkSync('../../../../../../run', join(root, 'deep/er/up'));
    symlinkSync('loop', join(root, 'loop'));
    expect(resolveInRoot(root, '/var/run/lock')).toBe('/run/lock');
    expect(resolveInRoot(root, 'deep/er/up/x')).toBe('/run/x');
    expect(resolveInRoot(root, '/no/such//./path/')).toBe('/no/such/path');
    expect(resolveInRoot(root, '/loop/x')).toBe('/loop/x');
  } finally {
    rmSync(root, { recursive: true });
  }
});

it('networks go into a configuration whose numbers JavaScript could not hold', () => {
  const config = '{"id":"0123456789abcdef","rlimit":18446744073709551615}';
  expect(withNetworks({ config, networks: new Map() }, '0123456789abcdef')).toBe(config);
  const networks = new Map([['net', '{"aliases":["0123456789ab","web"],"interface_name":"eth0"}']]);
  expect(withNetworks({ config, networks }, '0123456789abcdef')).toBe(
    '{"id":"0123456789abcdef","rlimit":18446744073709551615,"newNetworks":{"net":{"aliases":["web"],"interface_name":"eth0"}}}',
  );
});

it("an engine's facts come from CRI-O's or containerd's annotations, and empty ones count for nothing", () => {
  const annotations = {
    'io.kubernetes.cri.container-name': 'web',
    'io.kubernetes.cri.sandbox-name': 'shop',
    'io.kubernetes.cri-o.ImageName': '',
  };
  expect(engineFacts({ annotations })).toEqual({ containerName: 'web', podName: 'shop' });
  expect(engineFacts({})).toEqual({});
});

it("containerd's container gets the status that containerd's restore reads, and no other does", async () => {
  const bundle = mkdtempSync(join(tmpdir(), 'stillframe-test-'));
  writeFileSync(join(bundle, 'config.json'), '{}');
  const annotations = {
    'io.kubernetes.cri.container-name': 'web',
    'io.kubernetes.cri.sandbox-name': 'shop',
    'io.kubernetes.cri.sandbox-namespace': 'default',
    'io.kubernetes.cri.sandbox-uid': 'u-1',
  };
  const container: Container = {
    runtime: 'runc',
    ociRuntime: 'runc',
    id: 'abc',
    name: 'web',
    pid: 1,
    bundle,
    spec: { annotations },
    rootfs: '/',
    descriptors: [],
    createdAt: '',
    image: { name: 'registry.example/web:1' },
  };
  const read = async (of: Container): Promise<Record<string, unknown>> =>
    Object.fromEntries(
      (await containerDocuments(of, new Date())).map(({ name, data }) => [name, JSON.parse(data.toString())]),
    );
  try {
    expect(await read(container)).toMatchObject({
      'config.dump': { rootfsImageName: 'registry.example/web:1', rootfsImageRef: 'registry.example/web:1' },
      'status.dump': {
        id: 'abc',
        metadata: { name: 'web' },
        image: { image: 'registry.example/web:1', user_specified_image: 'registry.example/web:1' },
        labels: {
          'io.kubernetes.container.name': 'web',
          'io.kubernetes.pod.name': 'shop',
          'io.kubernetes.pod.namespace': 'default',
          'io.kubernetes.pod.uid': 'u-1',
        },
      },
    });
    expect(Object.keys(await read({ ...container, spec: {} }))).toEqual(['config.dump', 'spec.dump']);
  } finally {
    rmSync(bundle, { recursive: true });
  }
});

describe('a meeting', () => {
  it('lets nobody on before all are there', async () => {
    const meeting = new Meeting(2);
    let wentOn = false;
    const first = meeting.rendezvous.frozen().then(() => (wentOn = true));
    await new Promise((resolve) => setImmediate(resolve));
    expect(wentOn).toBe(false);
    await meeting.rendezvous.frozen();
    await first;
    expect(meeting.times.frozen).toBeGreaterThan(0);
    expect(meeting.times.dumped).toBeUndefined();
  });

  it('fails for those who wait and those who come later', async () => {
    const meeting = new Meeting(2);
    const waiting = meeting.rendezvous.frozen();
    meeting.fail(new Error('no'));
    await expect(waiting).rejects.toThrow('no');
    await expect(meeting.rendezvous.dumped()).rejects.toThrow('no');
  });
});
