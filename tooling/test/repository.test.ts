import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { leaksIn, namesMachine } from '../tarball.ts';

const listing = ['ls-files', '-z', '--cached', '--others', '--exclude-standard'];
const files = execFileSync('git', listing, { encoding: 'utf8' })
  .split('\0')
  .filter((file) => existsSync(file) && !/\.(?:png|ico)$|^pnpm-lock\.yaml$/.test(file))
  // They hold the patterns themselves.
  .filter((file) => !file.startsWith('tooling/'));

test('no file names a folder of a machine', () => {
  expect(files.filter((file) => namesMachine(readFileSync(file, 'utf8')))).toEqual([]);
});

test('the lockfile names packages, not the places they were fetched from', () => {
  expect(readFileSync('pnpm-lock.yaml', 'utf8')).not.toMatch(/https?:\/\//);
});

test('a leak is found when there is one', () => {
  expect(leaksIn('const home = "/home/alice/project"')).toEqual(['a path of a machine']);
  expect(leaksIn(`token: sk-live-${'a'.repeat(24)}`)).toEqual(['an API key']);
  expect(leaksIn('import "./home/thing.js"; a / work / b')).toEqual([]);
});
