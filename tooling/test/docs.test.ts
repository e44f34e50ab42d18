import { existsSync, globSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { published } from '../workspace.ts';

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

const pages = globSync(['*.md', 'docs/**/*.md', '{packages,apps}/*/README.md']).sort();

test.each(pages)('the links of %s lead somewhere', (page) => {
  const links = [...textOf(page).matchAll(/\]\((?!https?:)([^)#]*)(?:#([^)]*))?\)/g)];
  const broken = links.filter(([, path = '', heading]) => {
    const target = path === '' ? page : join(dirname(page), path);
    if (!existsSync(target)) return true;
    return heading !== undefined && !headingsOf(target).includes(heading);
  });
  expect(broken.map(([link]) => link)).toEqual([]);
});

test('the README lists every package, docs/conformance.md every table, docs/storage.md every format', () => {
  const unlisted = [
    ...published.map(({ folder }) => ['README.md', folder]),
    ...tables.map((path) => ['docs/conformance.md', path.replace('docs/', '')]),
    ...globSync('docs/storage/*.md').map((path) => ['docs/storage.md', path.replace('docs/', '')]),
  ].filter(([page = '', path]) => !textOf(page).includes(`](${path})`));
  expect(unlisted).toEqual([]);
});

/** A page without its code blocks. */
function textOf(page: string): string {
  return readFileSync(page, 'utf8').replaceAll(/^```.*?^```/gms, '');
}

/** What GitHub makes of the headings of a page. */
function headingsOf(page: string): readonly string[] {
  return [...textOf(page).matchAll(/^#+ (.*)$/gm)].map(([, heading = '']) =>
    heading
      .toLowerCase()
      .replaceAll(/[^\p{L}\p{N} _-]/gu, '')
      .replaceAll(' ', '-'),
  );
}
