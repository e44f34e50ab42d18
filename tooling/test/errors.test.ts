import { readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { published, sourcesOf, textOf } from '../workspace.ts';

/** The store errors are shared by every package that has a Redis store; they carry the noun users meet them under. */
const prefixes: Readonly<Record<string, string>> = { redis: 'ERR_STORE_' };

describe.each(published)('$name', (pkg) => {
  const prefix = prefixes[pkg.name] ?? `ERR_${pkg.name.toUpperCase().replaceAll('-', '_')}_`;
  const codes = codesIn(textOf(pkg, 'src/errors.ts'));

  test('declares its codes in src/errors.ts under its own prefix', () => {
    expect(codes.filter((code) => !/^ERR_[A-Z0-9]+(?:_[A-Z0-9]+)+$/.test(code))).toEqual([]);
    expect(codes.filter((code) => !code.startsWith(prefix))).toEqual([]);
  });

  test('uses no code of its own that is not declared', () => {
    const used = sourcesOf(pkg)
      .flatMap((file) => codesIn(readFileSync(file, 'utf8')))
      .filter((code) => code.startsWith(prefix));
    expect([...new Set(used)].filter((code) => !codes.includes(code))).toEqual([]);
  });

  test('explains every code in its README', () => {
    const readme = textOf(pkg, 'README.md');
    expect(codes.filter((code) => !readme.includes(`\`${code}\``))).toEqual([]);
  });
});

function codesIn(text: string): readonly string[] {
  return [...text.matchAll(/'(ERR_[A-Z0-9_]+)'/g)].map(([, code = '']) => code);
}
