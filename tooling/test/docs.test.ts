import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';

const tables = globSync('docs/conformance/*.md').sort();

test('there are tables to check', () => {
  expect(tables.length).toBeGreaterThan(0);
});

describe.each(tables)('%s', (table) => {
  const rows = rowsOf(readFileSync(table, 'utf8'));

  test('has rows of three cells: requirement, section, test', () => {
    expect(rows.length).toBeGreaterThan(0);
    expect(rows.filter((cells) => cells.length !== 3 || cells.some((cell) => cell === ''))).toEqual(
      [],
    );
  });

  test('names tests that exist', () => {
    const missing = rows
      .flatMap(([, , cell = '']) => cell.split('<br>'))
      .map((reference) => reference.trim().replaceAll('`', ''))
      .filter((reference) => !isThere(reference));
    expect(missing).toEqual([]);
  });
});

/** The body rows of every table of a page. */
function rowsOf(markdown: string): readonly (readonly string[])[] {
  return markdown
    .split('\n')
    .filter((line, index, lines) => line.startsWith('|') && !isHead(lines, index))
    .map((line) =>
      line
        .slice(1, -1)
        .split(/(?<!\\)\|/)
        .map((cell) => cell.trim().replaceAll('\\|', '|')),
    );
}

function isHead(lines: readonly string[], index: number): boolean {
  const rule = /^\|(?:\s*:?-+:?\s*\|)+$/;
  return rule.test(lines[index] ?? '') || rule.test(lines[index + 1] ?? '');
}

/** `path › title`: the file exists and a test of that title stands in it. */
function isThere(reference: string): boolean {
  const [path = '', title = ''] = reference.split(' › ');
  return existsSync(path) && title !== '' && readFileSync(path, 'utf8').includes(title);
}

test.each([
  'docs/conformance.md',
  'docs/storage.md',
  'docs/architecture.md',
  'README.md',
  'CONTRIBUTING.md',
])('the links of %s lead somewhere', (page) => {
  const links = [...readFileSync(page, 'utf8').matchAll(/\]\((?!https?:)([^)#]+)\)/g)];
  const targets = links.map(([, target = '']) => join(dirname(page), target));
  expect(targets.filter((target) => !existsSync(target))).toEqual([]);
});
