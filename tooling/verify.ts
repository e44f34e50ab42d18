// Everything that must hold before a change lands. `check` leaves the tests out.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

interface Step {
  readonly name: string;
  readonly command: readonly string[];
}

interface Tally {
  passed: number;
  failed: number;
  skipped: number;
}

const { packageManager } = JSON.parse(readFileSync('package.json', 'utf8')) as {
  packageManager: string;
};

const checks: readonly Step[] = [
  { name: 'format and import cycles', command: ['biome', 'ci', '.', '--diagnostic-level=warn'] },
  { name: 'lint', command: ['oxlint', '--type-aware', '--deny-warnings'] },
  { name: 'types', command: ['tsc', '--build'] },
  { name: 'unused files, exports and dependencies', command: ['knip'] },
];

// turbo starts the package manager, which is on PATH only for what npx runs. Without --prefer-offline, npx asks the
// registry for what it has, and waits a minute when there is no network.
const packaging: Step = {
  name: 'packaging',
  command: [
    'npx',
    '--yes',
    '--prefer-offline',
    packageManager,
    'exec',
    'turbo',
    'run',
    'check:pack',
    '--output-logs=errors-only',
    '--ui=stream',
  ],
};

const tally: Tally = { passed: 0, failed: 0, skipped: 0 };
for (const step of checks) tally[runs(step) ? 'passed' : 'failed'] += 1;
if (process.argv[2] !== 'check') runTests(tally);
tally[runs(packaging) ? 'passed' : 'failed'] += 1;

const skipped = tally.skipped > 0 ? `, ${tally.skipped} skipped` : '';
console.log(`\n${tally.passed} passed, ${tally.failed} failed${skipped}`);
process.exitCode = tally.failed === 0 ? 0 : 1;

function runs({ name, command: [program = '', ...args] }: Step): boolean {
  const startedAt = performance.now();
  console.log(`\n▸ ${name}`);
  const { status } = spawnSync(program, args, {
    stdio: ['ignore', 'inherit', 'inherit'],
    env: { ...process.env, TURBO_TELEMETRY_DISABLED: '1' },
  });
  const seconds = ((performance.now() - startedAt) / 1000).toFixed(1);
  console.log(`${status === 0 ? '✓' : '✗'} ${name} (${seconds} s)`);
  return status === 0;
}

/** Adds what the test runner counted; a run that ends without a report counts as one failure. */
function runTests(tally: Tally): void {
  const folder = mkdtempSync(join(tmpdir(), 'countersign-'));
  const file = join(folder, 'vitest.json');
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${file}`];
  const passed = runs({ name: 'tests', command: ['vitest', 'run', ...reporters] });
  const counted = readTally(file);
  tally.passed += counted.passed;
  tally.skipped += counted.skipped;
  // An error outside every test (a failed import, an unhandled rejection) fails the run without failing a test.
  tally.failed += passed ? 0 : Math.max(counted.failed, 1);
  rmSync(folder, { recursive: true, force: true });
}

function readTally(file: string): Tally {
  try {
    const report = JSON.parse(readFileSync(file, 'utf8')) as Record<string, number>;
    return {
      passed: report['numPassedTests'] ?? 0,
      failed: report['numFailedTests'] ?? 0,
      skipped: (report['numPendingTests'] ?? 0) + (report['numTodoTests'] ?? 0),
    };
  } catch (error) {
    console.error('The test runner left no report:', error);
    return { passed: 0, failed: 1, skipped: 0 };
  }
}
