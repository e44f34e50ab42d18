import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setImmediate as turn } from 'node:timers/promises';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import type { Cluster, Redis } from 'ioredis';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type Script, script } from '../src/index.ts';

const one: Script<[], number> = script('return 1', { keys: 1, timeoutMs: 5000 });

let server: RedisServer;
let servers: RedisClusterServers;
beforeAll(async () => {
  [server, servers] = await Promise.all([startRedis(), startRedisCluster()]);
});
afterAll(() => Promise.all([server.stop(), servers.stop()]));

async function connections(admins: readonly Redis[]): Promise<number> {
  const lists = await Promise.all(admins.map((admin) => admin.client('LIST')));
  return String(lists.join('')).split('\n').filter(Boolean).length;
}

const moments: readonly [name: string, close: (client: Redis | Cluster) => unknown][] = [
  ['disconnected at once', (client) => client.disconnect()],
  ['told to quit at once', (client) => client.quit()],
  [
    'disconnected when all that was ready has run',
    (client) => turn().then(() => client.disconnect()),
  ],
  [
    'disconnected when it is ready',
    (client) => once(client, 'ready').then(() => client.disconnect()),
  ],
  ['told to quit when it is ready', (client) => once(client, 'ready').then(() => client.quit())],
];

test.each(moments)(
  'a client that is %s answers every call and leaves no connection',
  async (_, close) => {
    const admin = server.client();
    const before = await connections([admin]);
    for (const lazyConnect of [false, true]) {
      const clients = Array.from({ length: 20 }, () => server.client({ lazyConnect }));
      const outcomes = await Promise.allSettled(
        clients.map(async (client) => {
          const call = one(client, ['k'], []);
          if (lazyConnect) client.connect().catch(() => undefined);
          await Promise.all([Promise.resolve(close(client)).catch(() => undefined), call]);
        }),
      );
      for (const outcome of outcomes) {
        if (outcome.status === 'rejected')
          expect(outcome.reason).toMatchObject({ code: 'ERR_STORE_UNAVAILABLE' });
      }
      for (const client of clients) {
        await expect.poll(() => client.status).toBe('end');
        expect(client.listenerCount('end')).toBe(0);
        await expect(one(client, ['k'], [])).rejects.toMatchObject({ outcome: 'not-run' });
      }
    }
    await expect.poll(() => connections([admin]), { timeout: 10_000 }).toBe(before);
  },
);

test('a client that is connected again after its end is served again', async () => {
  const client = server.client();
  await one(client, ['k'], []);
  client.disconnect();
  await once(client, 'end');
  await expect(one(client, ['k'], [])).rejects.toMatchObject({ outcome: 'not-run' });
  await client.connect();
  await expect(one(client, ['k'], [])).resolves.toBe(1);
});

test('a Cluster client that was closed refuses calls at once', async () => {
  const client = servers.client();
  await one(client, ['k'], []);
  client.disconnect();
  await once(client, 'end');
  // ioredis says `close` after `end` when the last of its nodes is gone.
  await expect.poll(() => client.nodes().length).toBe(0);
  for (let round = 0; round < 20; round += 1) {
    await expect(one(client, ['k'], [])).rejects.toMatchObject({ message: /was closed/ });
    await turn();
  }
});

test('a Cluster client that is closed while it has no node itself leaves no connection', async () => {
  const admins = servers.masters.map((master) => master.client());
  await Promise.all(admins.map((admin) => admin.ping()));
  const before = await connections(admins);
  const client = servers.client({ clusterRetryStrategy: () => 60_000 });
  await Promise.all(['a', 'b', 'c', 'd', 'e'].map((key) => one(client, [key], [])));
  const loseNodes = (): string => {
    for (const node of client.nodes()) node.disconnect();
    return client.status;
  };
  // A map of slots that was asked for before brings them back.
  await expect.poll(loseNodes).toBe('reconnecting');
  client.disconnect();
  await expect.poll(() => connections(admins), { timeout: 10_000 }).toBe(before);
});

test.each([
  [
    'a call was answered and the client disconnected',
    `await one(client(), ['k'], [], { timeoutMs: 30_000 }); last.disconnect();`,
  ],
  [
    'a call timed out and the client disconnected',
    `await one(client(), ['k'], []); await spin(client(), ['k'], [], { timeoutMs: 50 }).catch(() => {}); last.disconnect(); first.disconnect();`,
  ],
  [
    'nobody was there',
    `await one(client({ port: 1, lazyConnect: true }), ['k'], [], { timeoutMs: 50 }).catch(() => {});`,
  ],
  [
    'the client gave up',
    `await one(client({ port: 1, retryStrategy: null }), ['k'], [], { timeoutMs: 30_000 }).catch(() => {});`,
  ],
])('no timer keeps a process alive when %s', async (_, program) => {
  const module = new URL('../src/index.ts', import.meta.url).href;
  const source = `
    import { createRequire } from 'node:module';
    import { script } from '${module}';
    const { Redis } = createRequire('${module}')('ioredis');
    let first, last;
    const client = (options) => {
      last = new Redis({ host: '${server.host}', port: ${server.port}, ...options }).on('error', () => {});
      first ??= last;
      return last;
    };
    const one = script('return 1', { keys: 1 });
    const spin = script('for i = 1, 1e7 do local x = i end return 1', { keys: 1 });
    ${program}
    const alive = () => process.getActiveResourcesInfo();
    while (alive().some((resource) => resource.startsWith('TCP'))) await new Promise(setImmediate);
    process.stdout.write(JSON.stringify(alive().filter((resource) => resource === 'Timeout')));
    process.exit();`;
  const child = spawn(process.execPath, ['--input-type=module', '-e', source], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const [[written]] = (await Promise.all([once(child.stdout, 'data'), once(child, 'exit')])) as [
    [Buffer],
    unknown,
  ];
  expect(JSON.parse(String(written))).toEqual([]);
});
