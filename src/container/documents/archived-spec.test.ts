import { describe, expect, it } from 'vitest';
import { adaptArchivedSpec, HOST_SETTINGS, type HostSetting } from './archived-spec.js';
import { parseLossless } from './lossless-json.js';

const BIND = { source: '/srv/data', destination: '/data' };

function adapt(
  spec: unknown,
  keep: readonly HostSetting[] = [],
): { spec: Record<string, unknown>; text: string; dropped: string[] } {
  const text = typeof spec === 'string' ? spec : JSON.stringify(spec);
  const adapted = adaptArchivedSpec(text, { archivePath: 'a.tar', bindMounts: [BIND], keep });
  return {
    spec: JSON.parse(adapted.text) as Record<string, unknown>,
    text: adapted.text,
    dropped: adapted.dropped.map(({ setting, what }) => `${setting ?? 'unknown'}: ${what}`),
  };
}

/** An honest configuration: nothing of it reaches out but a listed bind mount. */
const honest = {
  ociVersion: '1.0.2',
  process: { args: ['sh'], cwd: '/', rlimits: [{ type: 'RLIMIT_NOFILE', hard: 1024, soft: 1024 }] },
  root: { path: '/var/lib/containers/x/merged', readonly: true },
  hostname: 'c1',
  mounts: [
    { destination: '/proc', type: 'proc', source: 'proc' },
    { destination: '/dev', type: 'tmpfs', source: 'tmpfs', options: ['nosuid', 'mode=755'] },
    { ...BIND, type: 'bind', options: ['rbind', 'rprivate'] },
  ],
  annotations: { 'io.kubernetes.container.name': 'c1', 'org.opencontainers.image.stopSignal': '15' },
  linux: {
    namespaces: [{ type: 'pid' }, { type: 'network' }, { type: 'mount' }],
    resources: { devices: [{ allow: false, access: 'rwm' }], memory: { limit: 1000 } },
    maskedPaths: ['/proc/kcore'],
  },
};

describe("an archive's own configuration", () => {
  it('is taken as it is where it concerns the container alone, but for the root', () => {
    const { spec, dropped } = adapt(honest);
    expect(spec).toEqual({ ...honest, root: { path: 'rootfs', readonly: true } });
    expect(dropped).toEqual([]);
  });

  it.each([
    ['relative', '{"root":{"path":"../../.."}}'],
    ['absolute', '{"root":{"path":"/etc"}}'],
    ['behind an object', '{"root":{"x":{},"path":"/etc"}}'],
    ['escaped', '{"r\\u006fot":{"p\\u0061th":"\\u002fetc"}}'],
    ['given twice', '{"root":{"path":"rootfs"},"root":{"path":"/etc"}}'],
    ['in capitals', '{"ROOT":{"path":"/etc"},"root":{"PATH":"/etc","path":"rootfs"}}'],
    ['missing', '{}'],
  ])("has the bundle's root where its own is %s", (_, text) => {
    const adapted = adapt(text);
    expect(adapted.spec['root']).toEqual({ path: 'rootfs' });
    expect(adapted.text.match(/etc|\.\.|root/gi)).toEqual(['root', 'root']);
  });

  it('keeps 64-bit numbers to the last digit, and no number that is within a text', () => {
    const { text } = adapt(
      '{"process":{"rlimits":[{"hard":18446744073709551615,"soft":9007199254740993}],"args":["18446744073709551615",1e400,-0.10]}}',
    );
    expect(text).toContain('"hard": 18446744073709551615');
    expect(text).toContain('"soft": 9007199254740993');
    expect(text).toContain('"18446744073709551615"');
    expect(text).toContain('1e400');
    expect(text).toContain('-0.10');
  });

  const reaching: [HostSetting, string, unknown, string[]][] = [
    [
      'hooks',
      'hooks of every stage',
      { hooks: { prestart: [{ path: '/bin/evil' }], poststop: [{ path: '/x', args: ['y'] }] } },
      ['prestart /bin/evil', 'poststop /x'],
    ],
    [
      'mounts',
      'a bind mount that is not listed',
      { mounts: [{ destination: '/h', source: '/etc', type: 'bind' }] },
      ['/etc on /h'],
    ],
    [
      'mounts',
      'a bind mount by its options',
      { mounts: [{ destination: '/h', source: '/etc', type: 'proc', options: ['rbind'] }] },
      ['/etc on /h'],
    ],
    [
      'mounts',
      'a listed one of another source',
      { mounts: [{ ...BIND, source: '/etc', type: 'bind' }] },
      ['/etc on /data'],
    ],
    [
      'mounts',
      'a file system of a host device',
      { mounts: [{ destination: '/h', source: '/dev/sda1', type: 'ext4' }] },
      ['/dev/sda1 on /h'],
    ],
    [
      'mounts',
      'a listed destination with a file system of a host device',
      { mounts: [{ ...BIND, type: 'ext4' }] },
      ['/srv/data on /data'],
    ],
    [
      'devices',
      'a device of the host',
      { linux: { devices: [{ path: '/dev/sda', type: 'b', major: 8, minor: 0 }] } },
      ['/dev/sda (b 8:0)'],
    ],
    [
      'devices',
      'access to devices',
      {
        linux: {
          resources: {
            devices: [
              { allow: true, access: 'rwm' },
              { allow: true, type: 'b', major: 8, access: 'r' },
            ],
          },
        },
      },
      ['access to a *:*', 'access to b 8:*'],
    ],
    ['devices', 'a network device', { linux: { netDevices: { eth0: {} } } }, ['eth0']],
    [
      'namespaces',
      'a namespace by path',
      { linux: { namespaces: [{ type: 'network', path: '/proc/1/ns/net' }] } },
      ['network /proc/1/ns/net'],
    ],
    [
      'runtime',
      'the cgroup',
      { linux: { cgroupsPath: '/system.slice/ssh.service' } },
      ['cgroupsPath /system.slice/ssh.service'],
    ],
    ...[
      'bundle',
      'org.criu.config',
      'org.systemd.property.ExecStartPre',
      'run.oci.hooks.stdout',
      'run.oci.seccomp.plugins',
      'run.oci.handler',
      'krun.variant',
      'module.wasm.image/variant',
      'io.kubernetes.cri.container-type',
      'io.kubernetes.cri-o.LogPath',
      // What no runtime is known to act upon today, and names that runc would split at their first `=`.
      'com.example.owner',
      'io.katacontainers.config.hypervisor.path',
      'bundle=/tmp/evil',
      'org.criu.config=/tmp/evil',
    ].map((name): [HostSetting, string, unknown, string[]] => [
      'runtime',
      `the annotation ${name}`,
      { annotations: { [name]: 'x' } },
      [`annotation ${name}`],
    ]),
  ];

  it.each(reaching)('loses what reaches out, and says so: %s, %s', (setting, _, part, what) => {
    const { spec, dropped } = adapt(part);
    expect(dropped).toEqual(what.map((one) => `${setting}: ${one}`));
    expect(JSON.stringify(spec)).not.toMatch(
      /evil|\/etc|sda|proc\/1|ssh\.service|eth0|criu|run\.oci|bundle|krun|wasm|LogPath|example|kata|container-type|systemd|"allow":true/,
    );
  });

  it.each(reaching)('keeps it when that is asked for, and only that: %s, %s', (setting, _, part) => {
    const given = part as Record<string, unknown>;
    expect(adapt(part, [setting]).dropped).toEqual([]);
    for (const [key, value] of Object.entries(given))
      expect(adapt(part, [setting]).spec[key]).toMatchObject(value as object);
    expect(
      adapt(
        part,
        HOST_SETTINGS.filter((other) => other !== setting),
      ).dropped,
    ).toEqual(adapt(part).dropped);
  });

  it('keeps the annotations by which the engines know a container', () => {
    const annotations = Object.fromEntries(
      [
        'io.container.manager',
        'io.kubernetes.container.name',
        'io.kubernetes.cri-o.Name',
        'io.kubernetes.cri.container-name',
        'io.kubernetes.cri.sandbox-id',
        'io.kubernetes.pod.namespace',
        'io.podman.annotations.autoremove',
        'org.opencontainers.image.stopSignal',
      ].map((name) => [name, 'x']),
    );
    expect(adapt({ annotations })).toMatchObject({ spec: { annotations }, dropped: [] });
  });

  it('gives a namespace that was one by path to the container as its own', () => {
    const { spec } = adapt({ linux: { namespaces: [{ type: 'network', path: '/proc/1/ns/net' }] } });
    expect(spec['linux']).toMatchObject({ namespaces: [{ type: 'network' }] });
  });

  it('forbids all devices but those of the runtime, also where it has no rules at all', () => {
    expect(adapt({ linux: {} }).spec['linux']).toEqual({
      resources: { devices: [{ allow: false, access: 'rwm' }] },
    });
    expect(
      adapt({ linux: { resources: { devices: [{ allow: true, type: 'c', major: 1, minor: 3, access: 'rw' }] } } })
        .dropped,
    ).toEqual([]);
  });

  it.each(['Hooks', 'HOOKS', 'hoo\u212as', 'hook\u017f', 'vm', '__proto__', 'hooks\u0000'])(
    'never keeps a key that is not known, since a runtime could take it for one that is: %s',
    (key) => {
      const { spec, dropped } = adapt(`{${JSON.stringify(key)}:{"prestart":[{"path":"/bin/evil"}]}}`, HOST_SETTINGS);
      expect(spec).toEqual({ root: { path: 'rootfs' } });
      expect(dropped).toHaveLength(1);
      expect(dropped[0]).not.toMatch(/[\x00-\x1f]/);
    },
  );

  it.each([
    '',
    '[]',
    'null',
    '7',
    '{',
    '{"mounts":{}}',
    '{"mounts":[7]}',
    '{"mounts":[{}]}',
    '{"mounts":[{"destination":"/x","options":"bind"}]}',
    '{"hooks":[]}',
    '{"hooks":{"prestart":{}}}',
    '{"linux":[]}',
    '{"linux":{"namespaces":"x"}}',
    '{"annotations":7}',
    '{"a":1 2}',
  ])('is refused when it is none: %s', (text) => {
    refuses(text);
  });

  it.each([
    ['too deep', `{"linux":${'['.repeat(101)}${']'.repeat(101)}}`, /more than 100 values within each other/],
    ['so deep that a parser runs out of stack', '['.repeat(1 << 20), /more than 100 values within each other/],
    ['of too many values', `{"linux":[${'7,'.repeat(600_000)}7]}`, /more than 500000 values/],
    [
      'of too many keys',
      `{${Array.from({ length: 600_000 }, (_, i) => `"${i}":7`).join()}}`,
      /more than 500000 values/,
    ],
  ])('is refused when it is %s', (_, text, why) => {
    refuses(text, { message: expect.stringMatching(why) });
  });

  it('may hold a string of megabytes', () => {
    const args = ['sh', '\\"7'.repeat(2 << 20)];
    expect(adapt({ ...honest, process: { args } }).spec['process']).toEqual({ args });
  });

  function refuses(text: string, facts: object = {}): void {
    expect(() => adapt(text)).toThrow(
      expect.objectContaining({ name: 'ContainerError', code: 'NOT_A_CONTAINER_CHECKPOINT', ...facts }) as Error,
    );
  }
});

describe('JSON with large numbers', () => {
  it('comes out with the digits that it had', () => {
    const { value, encode } = parseLossless('{"a":[18446744073709551615,1.50,-1,"2e3 \\"3.10\\""]}');
    expect(encode(value).replace(/\s+/g, '')).toBe('{"a":[18446744073709551615,1.50,-1,"2e3\\"3.10\\""]}');
  });
});
