import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdtemp, readdir, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { startRedis, startRedisCluster, startRedisSentinel } from '../src/redis.ts';

const running: { stop(): Promise<void> }[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((server) => server.stop()));
});
function kept<T extends { stop(): Promise<void> }>(server: T): T {
  running.push(server);
  return server;
}

test('starts two servers side by side and stops them', async () => {
  const [a, b] = [kept(await startRedis()), kept(await startRedis())];
  expect(a.port).not.toBe(b.port);
  await a.client().set('k', 'a');
  await expect(b.client().get('k')).resolves.toBeNull();
  const { pid } = a;
  await a.stop();
  expect(isAlive(pid)).toBe(false);
});

test('keeps acknowledged writes across a SIGKILL when persistence is aof', async () => {
  const server = kept(await startRedis({ persistence: 'aof' }));
  await server.client().set('k', 'v');
  await server.kill();
  await server.restart();
  await expect(server.client().get('k')).resolves.toBe('v');
});

test('a paused server answers nothing until it resumes', async () => {
  const server = kept(await startRedis());
  const client = server.client();
  await client.ping();
  server.pause();
  let answered = false;
  const pong = client.ping().then(() => {
    answered = true;
  });
  await server
    .client({ commandTimeout: 50 })
    .ping()
    .catch(() => undefined);
  expect(answered).toBe(false);
  server.resume();
  await pong;
});

test('sleep blocks the server', async () => {
  const server = kept(await startRedis());
  const client = server.client();
  await client.ping();
  await server.sleep(300);
  await expect(
    Promise.race([client.ping(), new Promise((resolve) => setTimeout(resolve, 50, 'asleep'))]),
  ).resolves.toBe('asleep');
});

test.each([
  ['a server', `const server = await startRedis();`, (dir: string) => dir],
  ['a cluster', `const { masters: [server] } = await startRedisCluster();`, dirname],
])(
  '%s does not outlive a process that was killed, and leaves nothing behind',
  async (_what, start, rootOf) => {
    const module = new URL('../src/redis.ts', import.meta.url).href;
    const program = `const { startRedis, startRedisCluster } = await import('${module}'); ${start}
    const dir = (await server.client().config('GET', 'dir'))[1];
    console.log(JSON.stringify({ pid: server.pid, dir })); setInterval(() => {}, 1000);`;
    const child = spawn(process.execPath, ['--input-type=module', '-e', program], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [chunk] = (await once(child.stdout, 'data')) as [Buffer];
    const { pid, dir } = JSON.parse(String(chunk)) as { pid: number; dir: string };
    expect(isAlive(pid)).toBe(true);
    child.kill('SIGKILL');
    await expect.poll(() => isAlive(pid) || existsSync(rootOf(dir)), { timeout: 5000 }).toBe(false);
  },
);

describe('what cannot be started', () => {
  let temporary: string;
  beforeEach(async () => {
    temporary = await mkdtemp(join(tmpdir(), 'countersign-testkit-'));
    vi.stubEnv('TMPDIR', temporary);
  });
  afterEach(async () => {
    vi.unstubAllEnvs();
    await rm(temporary, { recursive: true });
  });

  const settings = { 'no-such-setting': 'yes' };
  test.each([
    ['a server', () => startRedis({ settings })],
    ['a cluster', () => startRedisCluster({ settings })],
  ])(
    'fails in the words of redis-server and leaves no directory behind: %s',
    async (_what, start) => {
      await expect(start()).rejects.toThrow('no-such-setting');
      expect(await readdir(temporary)).toEqual([]);
    },
  );
});

test('starts a cluster of three masters that serves every slot', async () => {
  const cluster = kept(await startRedisCluster());
  const client = cluster.client();
  const keys = Array.from({ length: 50 }, (_, index) => `key:${index}`);
  await Promise.all(keys.map((key) => client.set(key, key)));
  const sizes = await Promise.all(cluster.masters.map((master) => master.client().dbsize()));
  expect(sizes.reduce((sum, size) => sum + size, 0)).toBe(keys.length);
  expect(sizes.every((size) => size > 0)).toBe(true);
});

test('a cluster with replicas fails over, by request and after a kill', async () => {
  const cluster = kept(await startRedisCluster({ replicas: 1 }));
  const client = cluster.client();
  await client.set('{a}k', 'v');
  await cluster.failover(0);
  await expect(cluster.replicas[0]?.client().call('ROLE')).resolves.toContain('master');
  await cluster.masters[1]?.kill();
  await cluster.failover(1);
  await expect(cluster.replicas[1]?.client().call('ROLE')).resolves.toContain('master');
  await expect(client.get('{a}k')).resolves.toBe('v');
});

test('a sentinel fails over to the replica', async () => {
  const servers = kept(await startRedisSentinel());
  const client = servers.client();
  await client.set('k', 'v');
  await servers.failover();
  await expect.poll(() => client.get('k').catch(() => undefined), { timeout: 10_000 }).toBe('v');
});

function isAlive(pid: number): boolean {
  const { stdout } = spawnSync('ps', ['-o', 'stat=', '-p', String(pid)], { encoding: 'utf8' });
  // A zombie waits to be reaped by whoever adopted it; it serves nobody.
  return stdout.trim() !== '' && !stdout.trim().startsWith('Z');
}
