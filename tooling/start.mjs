// The entry of `npm run demo` and `npm test` on a machine that may have nothing but Node 20 and npm: installs what is
// missing, says what it does, and hands over to Node 24. Plain JavaScript, because Node 20 cannot run TypeScript.
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { delimiter, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const bin = join(root, 'node_modules', '.bin');
const marker = join(root, 'node_modules', '.countersign-installed');
const entries = { demo: 'apps/demo/src/main.ts', test: 'tooling/verify.ts' };

const [task, ...args] = process.argv.slice(2);
if (!(task in entries)) stop(`Usage: node tooling/start.mjs ${Object.keys(entries).join('|')}`);
if (Number(process.versions.node.split('.')[0]) < 20) {
  stop(`Node ${process.versions.node} is too old: version 20 or later is needed to set up.`);
}

installDependencies();
if (task === 'test') {
  provide('redis-server', ['redis-server', 'valkey-server'], 'redis');
  provide('chromium', ['chromium', 'chromium-browser', 'google-chrome'], '--cask google-chrome');
}
await run(entries[task], args);

function installDependencies() {
  const wanted = fingerprint();
  if (existsSync(marker) && readFileSync(marker, 'utf8') === wanted) return;
  const { packageManager } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8'));
  say(
    `Installing the dependencies named in the lockfile, Node 24 among them (${packageManager}) …`,
  );
  const done = spawnSync(
    'npx',
    [
      '--yes',
      '--prefer-offline',
      packageManager,
      'install',
      '--frozen-lockfile',
      '--reporter=append-only',
    ],
    { cwd: root, stdio: ['ignore', 'inherit', 'inherit'], env: { ...process.env, CI: 'true' } },
  );
  if (done.status !== 0) stop('The dependencies could not be installed; see the lines above.');
  writeFileSync(marker, wanted);
  say('Dependencies are in place. The next start needs no network.');
}

/** Changes with everything an installation depends on. */
function fingerprint() {
  const files = ['package.json', 'pnpm-lock.yaml', 'pnpm-workspace.yaml'];
  const hash = createHash('sha256').update(`${process.platform} ${process.arch}`);
  for (const file of files) hash.update(readFileSync(join(root, file)));
  return hash.digest('hex');
}

/**
 * What the tests need beside Node: a real server, a real browser. They fail without it; none is skipped.
 * @param debianPackage - and what to install by hand elsewhere.
 * @param programs - any of which will do.
 */
function provide(debianPackage, programs, brewFormula) {
  if (programs.some(onPath) || isApplication(brewFormula)) return;
  const install = installation(debianPackage, brewFormula);
  if (!install) {
    stop(
      `The tests need ${programs.join(' or ')} on PATH: install the package "${debianPackage}".`,
    );
  }
  for (const command of install) {
    say(`No ${debianPackage} found. Running: ${command.join(' ')}`);
    const done = spawnSync(command[0], command.slice(1), {
      stdio: ['ignore', 'inherit', 'inherit'],
      env: { ...process.env, DEBIAN_FRONTEND: 'noninteractive' },
    });
    if (done.status !== 0) {
      stop(`"${command.join(' ')}" failed: install the package "${debianPackage}" by hand.`);
    }
  }
}

function isApplication(brewFormula) {
  return brewFormula.startsWith('--cask') && existsSync('/Applications/Google Chrome.app');
}

function installation(debianPackage, brewFormula) {
  if (process.platform === 'darwin' && onPath('brew')) {
    return [['brew', 'install', ...brewFormula.split(' ')]];
  }
  if (!onPath('apt-get')) return undefined;
  const sudo = process.getuid?.() === 0 ? [] : ['sudo'];
  if (sudo.length > 0 && !onPath('sudo')) return undefined;
  return [
    [...sudo, 'apt-get', 'update', '-qq'],
    [...sudo, 'apt-get', 'install', '-y', '-qq', '--no-install-recommends', debianPackage],
  ];
}

function onPath(command) {
  return (process.env.PATH ?? '')
    .split(delimiter)
    .some((folder) => existsSync(join(folder, command)));
}

/** Runs a TypeScript entry under the Node that the lockfile names, with the workspace's tools first on PATH. */
async function run(entry, args) {
  const node = execFileSync(join(bin, 'node'), ['-p', 'process.execPath'], {
    encoding: 'utf8',
  }).trim();
  const env = { ...process.env, PATH: [bin, process.env.PATH].join(delimiter) };
  const child = spawn(node, [join(root, entry), ...args], { cwd: root, stdio: 'inherit', env });
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => child.kill(signal));
  process.exitCode = await new Promise((resolve) => {
    child.on('exit', (code) => resolve(code ?? 1));
  });
}

function say(text) {
  console.log(`\n▸ ${text}`);
}

function stop(text) {
  console.error(`\n✗ ${text}`);
  process.exit(1);
}
