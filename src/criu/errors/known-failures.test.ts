import { expect, test } from 'vitest';
import { CriuError } from './criu-error.js';
import { knownFailure } from './known-failures.js';

// Lines as users report them where this machine cannot provoke them (other kernels, processors, versions).
test.each([
  ['Error (criu/pie-util-vdso.c:99): vdso: Unexpected rt vDSO area bounds', 'kernel-too-new'],
  ['Error (criu/proc_parse.c:479): Unknown shit 600 (anon_inode:[io_uring])', 'io-uring'],
  ["Error (criu/mount.c:660): mnt: 554:./etc/hosts doesn't have a proper root mount", 'mount-external'],
  [
    'Error (criu/mount.c:1092): mnt: Mount 5 ./x (master_id: 3 shared_id: 0) has unreachable sharing. Try --enable-external-masters.',
    'mount-unreachable',
  ],
  ['Error (criu/util.c:626): execvp("iptables-restore", ...) failed: No such file or directory', 'network-lock'],
  ["Error (criu/namespaces.c:460): Can't dump nested time namespace for 51", 'nested-namespace'],
  ["Error (criu/cr-check.c:759): Kernel doesn't support PTRACE_O_SUSPEND_SECCOMP", 'seccomp'],
  ['Error (criu/arch/x86/cpu.c:223): cpu: CPU instruction capabilities do not match run time', 'cpu-differs'],
  ["Error (criu/files-reg.c:1122): Can't create link remap for /x. Use link-remap option.", 'deleted-file'],
  ['Error (criu/cgroup.c:686): cg: controller cpuset not found', 'cgroup-controller'],
  ["Error (criu/image.c:500): Can't write: No space left on device", 'disk-full'],
  ['Error (criu/pagemap.c:185): No parent for snapshot pagemap', 'parent-images'],
  ["Error (criu/pie/parasite-vdso.c:297): vdso: Can't find vDSO area in image", 'kernel-too-new'],
  ['Error (criu/cr-restore.c:1450): Pid 55 do not match expected 54', 'pid-taken'],
  ["Error (criu/cr-restore.c:1230): Can't fork for 55: File exists", 'pid-taken'],
  ["Error (criu/cr-restore.c:1230): Can't fork for 55: Operation not permitted", 'needs-root'],
  ['Error (criu/mount.c:3141): mnt: No mapping for 554:./data mountpoint', 'mount-external'],
  ['Warn  (compel/src/lib/infect.c:133): Unable to interrupt task: 55 (Operation not permitted)', 'traced'],
  ['Error (compel/src/lib/infect.c:261): Unseizable non-zombie 55 found, state t, err -1/10', 'traced'],
  ["criu: unrecognized option '--no-such-thing'", 'criu-config'],
  ["criu: option '--ghost-limit' requires an argument", 'criu-config'],
  ['Error (criu/config.c:1044): Invalid value for --network-lock: foo', 'criu-config'],
  ['Error (criu/cr-dump.c:227): 55 has rseq but kernel lacks get_rseq_conf feature', 'kernel-too-old'],
  [
    "Error (criu/proc_parse.c:663): Can't handle non-regular mapping on 55's map 7f0000000000",
    'device-or-unknown-file',
  ],
  ['Error (criu/proc_parse.c:118): handle_device_vma plugin failed: Operation not supported', 'device-or-unknown-file'],
  ['Error (criu/mount-v2.c:137): mnt-v2: External slavery sharing group (0, 3) has parent (3, 2)', 'mount-unreachable'],
  ['Error (criu/mount.c:2742): mnt: The --root option is required to restore a mount namespace', 'root-missing'],
  ['Error (criu/mount-v2.c:736): mnt-v2: The --root option is required to restore a mount namespace', 'root-missing'],
  ['Error (criu/mount.c:48): mnt: BUG at criu/mount.c:48', 'root-missing'],
  ["Error (criu/mount.c:2820): mnt: Can't umount at ./sys: Device or resource busy", 'root-missing'],
  ['Error (criu/mount.c:520): mnt: BUG at criu/mount.c:520', undefined],
  ['Error (criu/mount.c:3876): mnt: The root task has another root than mntns: /jail', 'chroot'],
  ['Error (criu/util.c:642): execvp("tar", ...) failed: No such file or directory', 'tmpfs-content'],
  ["Error (criu/filesystems.c:426): Can't dump tmpfs content", 'tmpfs-content'],
  ["Error (criu/filesystems.c:460): Can't restore tmpfs content", 'tmpfs-content'],
  ['Error (criu/image.c:94): Need to set the --tcp-close options.', 'tcp-closed'],
  ["Error (criu/sk-inet.c:1059): inet: Can't bind inet socket (id 5): Address already in use", 'address-taken'],
  ["Error (criu/sk-inet.c:1085): inet: Can't connect inet socket back: Network is unreachable", 'address-taken'],
  ["Error (soccr/soccr.c:499): Can't bind inet socket back: Cannot assign requested address", 'address-taken'],
  ["Error (soccr/soccr.c:529): Can't connect inet socket back: Cannot assign requested address", 'address-taken'],
  ['Error (criu/sk-inet.c:137): inet: Unsupported proto 262 for socket 9dd1e', 'socket-protocol'],
  ['Error (criu/sk-inet.c:130): inet: Unsupported proto 1 for socket 9f680', 'socket-protocol'],
  ["Error (criu/sk-inet.c:504): inet: Can't dump corked dgram socket a02c6", 'udp-corked'],
  ['Error (criu/sk-netlink.c:77): netlink: The socket has data to read', 'netlink-unread'],
  ['Error (criu/util.c:641): execvp("ip", ...) failed: No such file or directory', 'network-tools'],
  ['Error (criu/net.c:1969): net: IP tool failed on addr save  ', 'network-tools'],
  ['Error (criu/net.c:650): net: Unsupported link 2 (type 1 kind ifb)', 'network-device'],
  ["Error (criu/tty.c:1010): tty: Don't have tty to inherit session from, aborting", 'shell-job'],
  ['Error (criu/tty.c:410): tty: Found slave peer index 3 without correspond master peer', 'shell-job'],
  ["Error (criu/fsnotify.c:284): fsnotify: \tCan't dump that handle", 'inotify'],
  ["Error (criu/fsnotify.c:263): fsnotify: Can't find suitable path for handle (dev 0x1b ino 0x296f): -2", 'inotify'],
  ['Error (criu/files-reg.c:2294): File x has bad mode 0100600 (expect 0100644)', 'file-changed'],
  ['Error (criu/files-reg.c:2175): File x has bad size 3 (expect 20)', 'file-changed'],
  ["Error (criu/files-reg.c:2267): Can't open file x: No such file or directory", 'file-missing'],
  ["Error (criu/cgroup-props.c:378): cg-prop: Can't open file props.yaml: No such file or directory", 'cgroup-props'],
  ["Error (criu/cgroup-props.c:392): cg-prop: Failed to parse file `/props.yaml'", 'cgroup-props'],
  [
    "Error (criu/cgroup.c:1249): cg: Can't move into cpu/job/cgroup.procs (-1/5): No such file or directory",
    'cgroup-controller',
  ],
  [
    "Error (criu/cgroup.c:1140): cg: Can't move 55 into cpu/job/cgroup.procs (-1/5): No such file or directory",
    'cgroup-controller',
  ],
  [
    'Error (criu/seize.c:1043): Neither a cgroupv1 (freezer.state) or cgroupv2 (cgroup.freeze) control file found.',
    'freezer-missing',
  ],
  [
    'Error (criu/seize.c:640): Unable to freeze cgroup /sys/fs/cgroup/job (100 x 100ms attempts, timeout: 10s)',
    'freeze-failed',
  ],
  ['Error (criu/image.c:99): Dumped with --allow-uprobes. Need to set it on restore as well.', 'uprobes'],
  ['Error (criu/proc_parse.c:614): PID 55 has uprobes vma. Consider using --allow-uprobes.', 'uprobes'],
  ['Error (criu/arch/x86/cpu.c:411): cpu: No cpuinfo image', 'cpuinfo-missing'],
  ['Error (criu/image.c:198): Missing required plugin: cuda_plugin', 'plugin-missing'],
  ['Error (criu/image.c:537): Unable to open seccomp.img: Read-only file system', 'images-unwritable'],
  ["Error (criu/cr-service.c:387): Can't initiate log: Permission denied", 'images-unwritable'],
  ['Error (criu/protobuf.c:75): Unexpected EOF on (empty-image)', 'images-missing'],
  ['Error (criu/image.c:742): Invalid parent image directory provided: No such file or directory', 'parent-images'],
])('%s is known', (line, problem) => {
  expect(knownFailure([line])?.problem).toBe(problem);
});

test.each([
  ['inet: Unsupported proto 262 for socket 9dd1e', 'GODEBUG'],
  ['inet: Unsupported proto 1 for socket 9f680', 'ICMP'],
  ["tty: Don't have tty to inherit session from, aborting", '`terminal`'],
  ['tty: Found slave peer index 3 without correspond master peer', 'orphanPtsMaster'],
  ['File x has bad mode 0100600 (expect 0100644)', 'skipFileRwxCheck'],
])('of one problem with several remedies "%s" has its own', (line, remedy) => {
  expect(knownFailure([`Error (criu/x.c:1): ${line}`])?.remedy).toContain(remedy);
});

test('a task that CRIU could not stop in time is not called traced, and one that nothing can stop is named as such', () => {
  const timeout = 'Error (criu/cr-dump.c:1808): Timeout reached. Try to interrupt: 0';
  const unseizable = (state: string): string =>
    `Error (compel/src/lib/infect.c:260): Unseizable non-zombie 55 found, state ${state}, err -1/4`;
  expect(knownFailure([timeout, unseizable('S')])).toMatchObject({
    problem: 'freeze-failed',
    remedy: expect.stringContaining('timeoutSeconds'),
  });
  expect(knownFailure([timeout, unseizable('D')])?.problem).toBe('task-unstoppable');
});

test('of the lines of a cascade the one that is known decides', () => {
  expect(
    knownFailure([
      'Error (criu/cr-dump.c:1681): Dump files (pid: 7) failed with -1',
      'Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks!',
    ])?.problem,
  ).toBe('file-locks');
  const last = 'Error (criu/cr-dump.c:2111): Dumping FAILED.';
  expect(knownFailure(['Error (criu/cr-dump.c:1681): Dump files (pid: 7) failed with -1', last])).toBeUndefined();
  expect(knownFailure([last])).toMatchObject({
    problem: 'kernel-too-new',
    remedy: expect.stringContaining('no reason'),
  });
  expect(knownFailure([])).toBeUndefined();
});

test('that CRIU lets go of a task it never held is a consequence, and a reason only when there is no other', () => {
  const consequence = [
    'Error (compel/src/lib/infect.c:418): Unable to detach from 55: No such process',
    'Error (criu/cr-dump.c:2111): Dumping FAILED.',
  ];
  expect(knownFailure(consequence)).toMatchObject({
    problem: 'page-server',
    remedy: expect.stringContaining('pageServer'),
  });
  expect(
    knownFailure([
      'Error (criu/lsm.c:404): apparmor LSM specified but apparmor not supported by kernel',
      ...consequence,
    ]),
  ).toBeUndefined();
  expect(
    knownFailure([
      'Warn  (compel/src/lib/infect.c:133): Unable to interrupt task: 55 (No such process)',
      ...consequence,
    ]),
  ).toBeUndefined();
  expect(
    knownFailure([
      'Warn  (compel/src/lib/infect.c:133): Unable to interrupt task: 55 (Operation not permitted)',
      ...consequence,
    ])?.problem,
  ).toBe('traced');
});

test('of what CRIU says before it has a log the first error is told, without NULs', () => {
  const stderr =
    "Warn  (criu/kerndat.c:1): no cache\n(00.000000) Error (criu/image.c:742): Invalid parent image directory provided: No such file or directory\nError (criu/cr-service.c:344): Can't open images directory: No such file or directory\0\0\0\n";
  const error = new CriuError('CRIU_REQUEST_FAILED', { request: 'DUMP', stderr });
  expect(error.facts).toMatchObject({ problem: 'parent-images', stderr: stderr.replaceAll('\0', '') });
  expect(error.message).toMatch(
    /^CRIU refused DUMP: Error \(criu\/image\.c:742\): Invalid parent image directory provided/,
  );
});

test('a program that ends without a word before it has answered anything is perhaps no CRIU', () => {
  const silent = { request: 'VERSION', criuPath: '/bin/true', exitCode: 0 };
  expect(new CriuError('CRIU_DIED', silent).remedy).toBe('Is /bin/true really CRIU?');
  expect(new CriuError('CRIU_DIED', { ...silent, request: 'DUMP', version: '4.2.1' }).remedy).toContain('system log');
});

test('what CRIU says of a session that we closed is not the reason of a time-out', () => {
  const logErrors = [
    "Error (criu/cr-service.c:80): Can't send response: Broken pipe",
    'Error (criu/action-scripts.c:156): One of more action scripts failed',
  ];
  expect(new CriuError('CRIU_TIMEOUT', { request: 'DUMP', timeoutMs: 5, logErrors }).message).toMatch(
    /CRIU undid its work\n/,
  );
  expect(
    new CriuError('CRIU_TIMEOUT', {
      request: 'DUMP',
      timeoutMs: 5,
      logErrors: ['Error (criu/x.c:1): slow', ...logErrors],
    }).message,
  ).toMatch(/CRIU undid its work: Error \(criu\/x\.c:1\): slow\n/);
});

test('a service that is not there is not told to be installed', () => {
  expect(new CriuError('CRIU_NOT_FOUND', { socketPath: '/run/criu' }).message).toMatch(
    /^no CRIU service listens at \/run\/criu\n.*--address/,
  );
});

test('a CRIU that ended by itself has a known reason, and one that was killed has none', () => {
  const stderr = "criu: unrecognized option '--no-such-thing'\n";
  const died = new CriuError('CRIU_DIED', { request: 'VERSION', exitCode: 1, stderr });
  expect(died.facts.problem).toBe('criu-config');
  expect(died.message).toMatch(/unrecognized option '--no-such-thing'\n.*CRIU_CONFIG_FILE/);
  expect(new CriuError('CRIU_DIED', { request: 'VERSION', exitCode: 1, stderr: 'no such kernel\n' }).remedy).toContain(
    'system log',
  );
  const killed = new CriuError('CRIU_DIED', { request: 'VERSION', exitSignal: 'SIGKILL', stderr });
  expect(killed.facts.problem).toBeUndefined();
  expect(killed.remedy).toContain('system log');
});

test('of several programs that do not work the known reason of one is the remedy, said once', () => {
  const unknown = new CriuError('CRIU_NOT_FOUND', { criuPath: '/a' });
  const known = new CriuError('CRIU_DIED', {
    request: 'VERSION',
    exitCode: 1,
    stderr: "criu: unrecognized option '--x'\n",
  });
  const error = new CriuError('CRIU_UNUSABLE', {
    tried: [
      { path: '/a', problem: unknown },
      { path: '/b', problem: known },
    ],
  });
  expect(error.facts.problem).toBe('criu-config');
  expect(error.remedy).toBe(known.remedy);
  expect(error.message.split(known.remedy)).toHaveLength(2);
  expect(error.message).toContain("/b: CRIU ended (exit status 1) during VERSION: criu: unrecognized option '--x'\n");
});

test('the error has the problem, its remedy, and still the log', () => {
  const facts = {
    request: 'DUMP',
    logPath: '/w/dump.log',
    logErrors: ['Error (criu/file-lock.c:110): Some file locks are hold by dumping tasks!'],
  };
  const error = new CriuError('CRIU_REQUEST_FAILED', facts);
  expect(error.facts.problem).toBe('file-locks');
  expect(error.message).toBe(
    `CRIU refused DUMP: ${facts.logErrors[0]}\nThe tree holds file locks: set \`fileLocks\` on dump and restore.\nThe log: /w/dump.log\n  ${facts.logErrors[0]}`,
  );
});
