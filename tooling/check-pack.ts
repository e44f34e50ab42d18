// Packs the package in the current folder and looks at the tarball as its users will: resolution, types, contents.
import { execFileSync } from 'node:child_process';
import { globSync, mkdirSync, rmSync } from 'node:fs';
import { findLeaks } from './tarball.ts';

rmSync('.pack', { recursive: true, force: true });
mkdirSync('.pack');
execFileSync('pnpm', ['pack', '--pack-destination', '.pack'], { stdio: 'ignore' });
const [tarball] = globSync('.pack/*.tgz');
if (!tarball) throw new Error('pnpm pack wrote no tarball');

const show = { stdio: 'inherit' } as const;
execFileSync('publint', ['run', tarball, '--strict'], show);
execFileSync('attw', [tarball, '--profile', 'esm-only', '--format', 'ascii', '--no-emoji'], show);

const leaks = findLeaks(tarball);
for (const leak of leaks) console.error(`✗ ${leak}`);
if (leaks.length > 0) process.exitCode = 1;
