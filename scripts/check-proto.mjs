// check-proto.mjs [SUITE...]: holds proto/criu/*.proto against the descriptors that CRIU's own Python package carries
// in each Debian suite (default: trixie, sid, experimental), field by field: name, number, type, label, default.
//
//   rpc.proto     every message, field and enum value of theirs is ours, and the other way round, but for fields that
//                 theirs is too old for (their version stands behind them in our file)
//   images.proto  we read a part of CRIU's images: what we have is as theirs
//
// Nothing is installed: packages are fetched with a private apt state into a temporary directory.
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import protobuf from 'protobufjs';
import descriptor from 'protobufjs/ext/descriptor.js';

const root = dirname(dirname(fileURLToPath(import.meta.url)));
const suites = process.argv.length > 2 ? process.argv.slice(2) : ['trixie', 'sid', 'experimental'];

function run(command, args, options = {}) {
  const { status, stdout, stderr, error } = spawnSync(command, args, {
    encoding: 'utf8',
    maxBuffer: 1 << 26,
    ...options,
  });
  if (status !== 0) throw new Error(`${command} ${args.join(' ')}: ${error?.message ?? stderr}`);
  return stdout;
}

/** Unpacks python3-pycriu of a suite; gives its version and the directory of its generated modules. */
function fetchPycriu(suite, dir) {
  const mirror = run('apt-get', ['indextargets', '--format', '$(SITE)'])
    .split('\n')
    .find((site) => /\/debian\/?$/.test(site));
  if (mirror === undefined) throw new Error('apt knows no mirror whose path ends in /debian');
  for (const name of ['lists/partial', 'archives/partial', 'root']) mkdirSync(join(dir, name), { recursive: true });
  writeFileSync(join(dir, 'status'), '');
  const keyring = '/usr/share/keyrings/debian-archive-keyring.gpg';
  writeFileSync(join(dir, 'sources.list'), `deb [signed-by=${keyring}] ${mirror} ${suite} main\n`);
  const settings = {
    'Dir::Etc::sourcelist': join(dir, 'sources.list'),
    'Dir::Etc::sourceparts': '/dev/null',
    'Dir::Etc::preferences': '/dev/null',
    'Dir::Etc::preferencesparts': '/dev/null',
    'Dir::State': dir,
    'Dir::State::Lists': join(dir, 'lists'),
    'Dir::State::status': join(dir, 'status'),
    'Dir::Cache': dir,
    'APT::Default-Release': '',
    'APT::Sandbox::User': '',
    'Debug::NoLocking': '1',
  };
  const apt = ['-q', ...Object.entries(settings).flatMap(([name, value]) => ['-o', `${name}=${value}`])];
  run('apt-get', [...apt, 'update']);
  run('apt-get', [...apt, 'download', 'python3-pycriu'], { cwd: dir });
  const deb = readdirSync(dir).find((name) => name.endsWith('.deb'));
  run('dpkg', ['-x', join(dir, deb), join(dir, 'root')]);
  return {
    version: decodeURIComponent(deb).split('_')[1].replace(/-.*/, ''),
    modules: run('find', [join(dir, 'root'), '-name', '*_pb2.py'])
      .trim()
      .split('\n'),
  };
}

/** protoc writes the file's descriptor into the module, as a bytes literal of Python. */
function readDescriptor(path) {
  const literal = /AddSerializedFile\(b(['"])((?:\\.|(?!\1)[^\\])*)\1\)/s.exec(readFileSync(path, 'latin1'))?.[2];
  if (literal === undefined) return undefined;
  const named = { n: '\n', r: '\r', t: '\t', a: '\x07', b: '\b', f: '\f', v: '\v', '\\': '\\', "'": "'", '"': '"' };
  const text = literal.replace(/\\(x[0-9a-fA-F]{2}|[0-7]{1,3}|.)/g, (_, code) => {
    if (/^x../.test(code)) return String.fromCharCode(parseInt(code.slice(1), 16));
    if (/^[0-7]/.test(code)) return String.fromCharCode(parseInt(code, 8));
    return named[code] ?? code;
  });
  return descriptor.FileDescriptorProto.decode(Buffer.from(text, 'latin1'));
}

/** Messages and enums by name, each with its fields or values by name, as text that can be compared. */
function tables(types, enums) {
  const all = new Map();
  for (const { name, values } of enums)
    all.set(`enum ${name}`, new Map(Object.entries(values).map(([key, number]) => [key, String(number)])));
  for (const { name, fields } of types)
    all.set(`message ${name}`, new Map(fields.map((field) => [field.name, field.text])));
  return all;
}

const LABELS = ['', 'optional', 'required', 'repeated'];
const TYPES = [
  '',
  'double',
  'float',
  'int64',
  'uint64',
  'int32',
  'fixed64',
  'fixed32',
  'bool',
  'string',
  'group',
  'message',
  'bytes',
  'uint32',
  'enum',
  'sfixed32',
  'sfixed64',
  'sint32',
  'sint64',
];

function theirTables(files) {
  return tables(
    files
      .flatMap((file) => file.messageType)
      .map(({ name, field }) => ({
        name,
        fields: field.map((f) => ({
          name: f.name,
          text: `${LABELS[f.label]} ${(f.typeName || TYPES[f.type]).replace(/^\./, '')} = ${f.number}${f.defaultValue ? ` [${f.defaultValue}]` : ''}`,
        })),
      })),
    files
      .flatMap((file) => file.enumType)
      .map(({ name, value }) => ({ name, values: Object.fromEntries(value.map((v) => [v.name, v.number ?? 0])) })),
  );
}

function ourTables(path) {
  const parsed = protobuf.parse(readFileSync(path, 'utf8'), { keepCase: true }).root.resolveAll();
  const all = parsed.nestedArray;
  return tables(
    all
      .filter((type) => type instanceof protobuf.Type)
      .map(({ name, fieldsArray }) => ({
        name,
        fields: fieldsArray.map((f) => {
          const fallback = f.options?.default;
          const value =
            fallback === undefined ? '' : ` [${typeof fallback === 'number' ? fallback : String(fallback)}]`;
          return {
            name: f.name,
            text: `${f.repeated ? 'repeated' : f.required ? 'required' : 'optional'} ${f.type} = ${f.id}${value}`,
          };
        }),
      })),
    all.filter((type) => type instanceof protobuf.Enum).map(({ name, values }) => ({ name, values })),
  );
}

/** The version that stands behind a field in our file: "leave_stopped = 69; // 3.19". */
function sinceOf(path) {
  const text = readFileSync(path, 'utf8');
  const fields = [...text.matchAll(/^ +\w+ \w+ (\w+) = \d+.*?; +\/\/ (\d+\.\d+)/gm)];
  const types = [...text.matchAll(/^((?:enum|message) \w+) \{ +\/\/ (\d+\.\d+)/gm)];
  return new Map([...fields, ...types].map(([, name, version]) => [name, version]));
}

const number = (version) =>
  version
    .split('.')
    .map(Number)
    .reduce((sum, part, i) => sum + part * [10000, 100, 1][i], 0);

/** We read some fields of images as what they are on the wire: an enum as its number, a path as bytes. */
function onTheWire(text) {
  return text
    .replace(/ (?:uint32|int32|enum|fd_types|lsmtype) = /, ' varint = ')
    .replace(/ (?:string|bytes) = /, ' bytes = ');
}

function compare(ours, theirs, { whole, version, since }) {
  const isNewer = (name) => since.has(name) && number(since.get(name)) > number(version);
  const wrong = [];
  for (const [name, fields] of ours) {
    const other = theirs.get(name);
    if (other === undefined) {
      if (!isNewer(name)) wrong.push(`${name} is not theirs`);
    } else
      for (const [field, text] of fields) {
        if (!other.has(field)) {
          if (!isNewer(field)) wrong.push(`${name}.${field} is not theirs`);
        } else if (whole ? other.get(field) !== text : onTheWire(other.get(field)) !== onTheWire(text))
          wrong.push(`${name}.${field}: ours is "${text}", theirs "${other.get(field)}"`);
      }
  }
  if (whole)
    for (const [name, fields] of theirs)
      for (const field of fields.keys())
        if (!ours.get(name)?.has(field)) wrong.push(`${name}.${field} of theirs is missing: ${fields.get(field)}`);
  return wrong;
}

let failed = false;
for (const suite of suites) {
  const dir = mkdtempSync(join(tmpdir(), 'stillframe-proto-'));
  try {
    const { version, modules } = fetchPycriu(suite, dir);
    const files = modules.map((path) => [path, readDescriptor(path)]).filter(([, file]) => file !== undefined);
    const rpc = files.find(([path]) => path.endsWith('/rpc_pb2.py'))?.[1];
    if (rpc === undefined) throw new Error(`python3-pycriu of ${suite} has no rpc_pb2.py with a descriptor`);
    const rpcPath = join(root, 'proto/criu/rpc.proto');
    const imagesPath = join(root, 'proto/criu/images.proto');
    const since = new Map([...sinceOf(rpcPath), ...sinceOf(imagesPath)]);
    const ours = ourTables(rpcPath);
    const images = ourTables(imagesPath);
    const wrong = [
      ...compare(ours, theirTables([rpc]), { whole: true, version, since }),
      ...compare(images, theirTables(files.map(([, file]) => file)), { whole: false, version, since }),
    ];
    const count = [...ours.values(), ...images.values()].reduce((sum, fields) => sum + fields.size, 0);
    console.log(
      `CRIU ${version} (${suite}): ${count} fields and values compared, ${wrong.length === 0 ? 'all as theirs' : `${wrong.length} differ`}`,
    );
    for (const line of wrong) console.log(`  ${line}`);
    failed ||= wrong.length > 0;
  } finally {
    rmSync(dir, { recursive: true, force: true });
  }
}
if (failed) process.exitCode = 1;
