import { readFileSync } from 'node:fs';
import { basename, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { type Import, importsOf, packageNameOf } from '../imports.ts';
import { packages, published, sourcesOf } from '../workspace.ts';

const foundation = ['guard', 'retry', 'egress', 'redis', 'seal'];

/** What the main code of each package may import besides its own files and `node:*`. */
const allowed: Readonly<Record<string, readonly string[]>> = {
  guard: [],
  retry: [],
  egress: ['undici', 'ipaddr.js'],
  redis: ['ioredis', 'cluster-key-slot'],
  seal: [],
  oauth: [
    '@countersign/retry',
    '@countersign/seal',
    'openid-client',
    'oauth4webapi',
    'jose',
    'undici',
  ],
  jwt: ['jose'],
  client: ['@countersign/retry', '@countersign/egress', 'undici'],
  webhooks: ['@countersign/retry', '@countersign/egress', '@countersign/seal'],
  idempotency: ['@countersign/seal'],
  'api-keys': ['ipaddr.js'],
  'rate-limit': ['@countersign/retry', 'ipaddr.js', 'structured-headers'],
  hardening: ['zod'],
};

/** What a file that is published under its own name may import on top. */
const allowedBySubpath: Readonly<Record<string, readonly string[]>> = {
  'guard/express.ts': ['express'],
  'guard/fastify.ts': ['fastify'],
  'guard/hono.ts': ['hono'],
  'rate-limit/undici.ts': ['undici'],
  'webhooks/drain-jobs.ts': ['bullmq'],
  'webhooks/worker.ts': ['bullmq'],
  'webhooks/inbox.ts': ['bullmq'],
};

/** Built into whoever uses it, so that nobody depends on it. */
const builtIn = '@countersign/options';

const forbiddenNames = /^(?:core|common|utils?|helpers?|shared|misc|lib)$/;

test('every package has its place in the layers', () => {
  expect(published.map(({ name }) => name).sort()).toEqual(Object.keys(allowed).sort());
});

describe.each(published)('$name', (pkg) => {
  const files = sourcesOf(pkg).map((file) => ({
    file,
    imports: importsOf(file).filter(({ specifier }) => !specifier.startsWith('node:')),
  }));

  test('imports only what its layer may', () => {
    const core = reachableFrom(join(pkg.folder, 'src/index.ts'));
    const strangers = files.flatMap(({ file, imports }) =>
      imports
        .filter((entry) => !isAllowed(pkg.name, file, core, entry))
        .map(({ specifier }) => `${file} imports ${specifier}`),
    );
    expect(strangers).toEqual([]);
  });

  test('never imports another feature', () => {
    const features = published.map(({ name }) => name).filter((name) => !foundation.includes(name));
    const others = new Set(
      features.filter((name) => name !== pkg.name).map((name) => `@countersign/${name}`),
    );
    const crossings = files.flatMap(({ file, imports }) =>
      imports
        .filter(({ specifier }) => others.has(packageNameOf(specifier) ?? ''))
        .map(({ specifier }) => `${file} imports ${specifier}`),
    );
    expect(crossings).toEqual([]);
  });

  test('keeps server and Redis code out of the pure core', () => {
    const reached = reachableFrom(join(pkg.folder, 'src/index.ts'));
    const edges = ['guard.ts', 'redis.ts', 'undici.ts', 'bullmq.ts'].map((file) =>
      join(pkg.folder, 'src', file),
    );
    expect([...reached].filter((file) => edges.includes(file))).toEqual([]);
  });

  test('has no grab-bag files', () => {
    const names = sourcesOf(pkg).map((file) => basename(file, '.ts'));
    expect(names.filter((name) => forbiddenNames.test(name))).toEqual([]);
  });
});

test('the architecture page says the same', () => {
  const page = readFileSync('docs/architecture.md', 'utf8');
  const rows = [...page.matchAll(/^\| (?:foundation|feature) \| `(.+?)` \| .* \| (.+?) \|$/gm)];
  const said = rows.map(([, name = '', cell = '']) => [name, importsIn(cell)]);
  const wanted = Object.entries(allowed).map(([name, imports]) => [
    name,
    imports.map((specifier) => specifier.replace('@countersign/', '')).sort(),
  ]);
  expect(Object.fromEntries(said)).toEqual(Object.fromEntries(wanted));
});

test('nothing is allowed that nobody imports', () => {
  const imported = published.flatMap((pkg) =>
    sourcesOf(pkg).flatMap((file) =>
      importsOf(file).flatMap(({ specifier }) => [
        `${pkg.name} ${packageNameOf(specifier)}`,
        `${pkg.name}/${basename(file)} ${packageNameOf(specifier)}`,
      ]),
    ),
  );
  const permissions = Object.entries({ ...allowed, ...allowedBySubpath }).flatMap(
    ([who, imports]) => imports.map((specifier) => `${who} ${specifier}`),
  );
  expect(permissions.filter((permission) => !imported.includes(permission))).toEqual([]);
});

test('the test kit is used by tests, benchmarks and the demo alone', () => {
  const users = published.flatMap((pkg) =>
    sourcesOf(pkg).filter((file) =>
      importsOf(file).some(({ specifier }) => specifier.startsWith('@countersign/testkit')),
    ),
  );
  expect(users).toEqual([]);
});

test("what is built in is nobody's dependency", () => {
  const dependants = published.filter(
    ({ manifest: { dependencies, peerDependencies } }) =>
      builtIn in { ...dependencies, ...peerDependencies },
  );
  expect(dependants.map(({ name }) => name)).toEqual([]);
});

test('no package is a grab-bag', () => {
  expect(packages.map(({ name }) => name).filter((name) => forbiddenNames.test(name))).toEqual([]);
});

/** The cell `node; each adapter its own framework` names nothing; `ioredis (peer), cluster-key-slot` two packages. */
function importsIn(cell: string): readonly string[] {
  const [list = ''] = cell.split(';');
  const names = list.split(', ').map((name) => name.replace(' (peer)', ''));
  return names.filter((name) => name !== 'node').sort();
}

function isAllowed(
  name: string,
  file: string,
  core: ReadonlySet<string>,
  { specifier, typeOnly }: Import,
): boolean {
  const target = packageNameOf(specifier);
  if (target === undefined || target === builtIn) return true;
  if (allowed[name]?.includes(target)) return true;
  if (allowedBySubpath[`${name}/${basename(file)}`]?.includes(target)) return true;
  if (core.has(file)) return false;
  // A guard is written against the port's types alone: using it pulls in no server code.
  if (target === '@countersign/guard') return typeOnly;
  return ['@countersign/redis', 'ioredis'].includes(target);
}

/** The files of a package that its entry needs, for its types too. */
function reachableFrom(entry: string, seen = new Set<string>()): ReadonlySet<string> {
  if (seen.has(entry)) return seen;
  seen.add(entry);
  for (const { specifier } of importsOf(entry)) {
    if (specifier.startsWith('.')) reachableFrom(join(entry, '..', specifier), seen);
  }
  return seen;
}
