import { spawnSync } from 'node:child_process';
import { expect, it } from 'vitest';

/** What is built into the package that is published. */
const builtIn = '@countersign/options';

/** What a file of this package, and all that it imports, load from elsewhere. */
function strangersOf(entry: string): readonly string[] {
  const url = new URL(`../src/${entry}.ts`, import.meta.url);
  const script = `
    import { registerHooks } from 'node:module';
    const strangers = new Set();
    registerHooks({
      resolve(specifier, context, next) {
        if (!/^(node:|file:|\\.)/.test(specifier) && context.parentURL?.includes('/webhooks/')) strangers.add(specifier);
        return next(specifier, context);
      },
    });
    await import(${JSON.stringify(String(url))});
    process.stdout.write(JSON.stringify([...strangers]));`;
  const { stdout, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
    encoding: 'utf8',
    timeout: 25_000,
  });
  if (stderr) throw new Error(stderr);
  return (JSON.parse(stdout) as string[]).filter((specifier) => specifier !== builtIn);
}

it.each(['index', 'guard'])(
  '%s.ts loads nothing but Node.js itself',
  (entry) => {
    expect(strangersOf(entry)).toEqual([]);
  },
  30_000,
);

it('would notice', () => {
  expect(strangersOf('attempt')).toEqual(['@countersign/retry']);
}, 30_000);
