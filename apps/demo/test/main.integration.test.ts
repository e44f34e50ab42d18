import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { afterEach, expect, test } from 'vitest';

/** Seven processes start; on a machine that is busy with something else that takes its time. */
const patienceMs = 120_000;
const main = fileURLToPath(new URL('../src/main.ts', import.meta.url));
const running: ChildProcess[] = [];
afterEach(() => {
  for (const demo of running.splice(0)) demo.kill('SIGKILL');
});

function demo(args: readonly string[], redisUrl = '') {
  const child = spawn(process.execPath, [main, ...args], {
    env: { ...process.env, REDIS_URL: redisUrl },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  running.push(child);
  let output = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
  }
  return { child, output: () => output };
}

test('goes on serving until it is told to end, however often it is told', {
  timeout: 2 * patienceMs,
}, async () => {
  const { child, output } = demo(['--no-once']);
  const said = await expect
    .poll(() => /curl -X POST (\S+)/.exec(output()), { timeout: patienceMs })
    .toBeTruthy()
    .then(() => output());
  expect(said).toContain('all in memory');
  expect(said.match(/^ *[✓✗].*/gmu)?.filter((line) => line.includes('✗'))).toEqual([]);
  expect(said).toContain('Every expectation held.');
  const answer = await fetch(/curl -X POST (\S+)/.exec(said)?.[1] as string, { method: 'POST' });
  expect(await answer.json()).toMatchObject({ status: 201 });
  const pids = [...said.matchAll(/\(process (\d+)\)/g)].map(([, pid]) => Number(pid));
  expect(pids).toHaveLength(5);

  const seen = await sightsOf(/Watch it: +(\S+)/.exec(said)?.[1] as string);
  expect(seen).toContain('"held":true');
  expect(seen).not.toContain('"held":false');

  // As a terminal does, and then the process that started it.
  child.kill('SIGINT');
  child.kill('SIGINT');
  expect(await once(child, 'exit')).toEqual([0, null]);
  expect(pids.filter(isThere)).toEqual([]);
});

test('an option that there is not is named, and nothing is started', async () => {
  const { child, output } = demo(['--onec']);
  expect(await once(child, 'close')).toEqual([2, null]);
  expect(output()).toContain("'--onec'");
  expect(output()).not.toContain('Starting');
});

/** Those that have something to say when all goes well, or when an attacker is refused. */
const talking = 'api-keys client egress hardening idempotency jwt oauth rate-limit webhooks'.split(
  ' ',
);

/** What the page is told, until every package has said something. */
async function sightsOf(url: string): Promise<string> {
  const { body } = await fetch(new URL('/sights', url));
  let text = '';
  for await (const piece of body ?? []) {
    text += Buffer.from(piece).toString();
    if (talking.every((name) => text.includes(`"countersign:${name}:`))) break;
  }
  return text;
}

function isThere(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}
