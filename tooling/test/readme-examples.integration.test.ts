import { execFile } from 'node:child_process';
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { examplesIn } from '../readme.ts';
import { published, textOf } from '../workspace.ts';

const run = promisify(execFile);

// An example lies inside its package while it runs, so that it imports the package by its name, as users do.
const examples = published.flatMap((pkg) =>
  examplesIn(textOf(pkg, 'README.md')).map((example) => ({
    ...example,
    name: pkg.name,
    file: join(pkg.folder, '.examples', `line-${example.line}.ts`),
  })),
);

let redis: RedisServer;

beforeAll(async () => {
  for (const { folder } of published)
    rmSync(join(folder, '.examples'), { recursive: true, force: true });
  for (const { file, code } of examples) {
    mkdirSync(join(file, '..'), { recursive: true });
    writeFileSync(file, `${code}\nexport {};\n`);
  }
  redis = await startRedis();
});

afterAll(async () => {
  await redis.stop();
});

test('every README shows something that runs', () => {
  const names = new Set(examples.map(({ name }) => name));
  expect(published.filter(({ name }) => !names.has(name)).map(({ name }) => name)).toEqual([]);
});

test('every example type-checks', async () => {
  const project = join('tooling', '.examples.tsconfig.json');
  const compilerOptions = {
    composite: false,
    noEmit: true,
    emitDeclarationOnly: false,
    isolatedDeclarations: false,
    declaration: false,
    declarationMap: false,
    rootDir: '..',
  };
  const files = examples.map(({ file }) => join('..', file));
  writeFileSync(
    project,
    JSON.stringify({ extends: '../tsconfig.base.json', compilerOptions, files, include: [] }),
  );
  const outcome = await run('tsc', ['--project', project]).catch(
    (error: { stdout: string }) => error,
  );
  rmSync(project);
  expect(outcome.stdout).toBe('');
});

describe.each(published)('$name', ({ name }) => {
  const own = examples.filter((example) => example.name === name);
  test.each(own)('the example at line $line runs', async ({ file, needs }) => {
    const env = needs.includes('redis') ? { ...process.env, REDIS_URL: redis.url } : process.env;
    await expect(run(process.execPath, [file], { env, timeout: 50_000 })).resolves.toBeDefined();
  });
});
