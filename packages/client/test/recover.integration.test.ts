import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import { afterAll, beforeAll, describe, expect, onTestFinished, test, vi } from 'vitest';
import {
  type Client,
  createClient,
  type JournalEntry,
  type JournalStore,
  type Recovery,
} from '../src/index.ts';
import { fileJournal } from '../src/journal.ts';
import { type RedisJournalOptions, redisJournal } from '../src/redis.ts';
import { journalStoreContract } from './store.contract.ts';

let redis: RedisServer;
let cluster: RedisClusterServers;
beforeAll(async () => {
  [redis, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
});
afterAll(() => Promise.all([redis.stop(), cluster.stop()]));

const apiOrigin = 'https://api.example.com';

type Times = Pick<JournalEntry, 'createdAtMs' | 'deadlineAtMs' | 'expiresAtMs'>;

function entry(key: string, times: Times): JournalEntry {
  return {
    version: 1,
    key,
    origin: apiOrigin,
    method: 'POST',
    path: '/',
    headers: {},
    fingerprint: '0',
    ...times,
  };
}

let journals = 0;
for (const [name, connect] of [
  ['redisJournal', () => redis.client()],
  ['redisJournal on a cluster', () => cluster.client()],
] as const) {
  journalStoreContract(name, () => {
    journals += 1;
    const prefix = `journal${journals}`;
    return {
      store: redisJournal(connect(), { prefix }),
      afterCrash: () => redisJournal(connect(), { prefix }),
    };
  });
}

describe('redisJournal', () => {
  test('its keys expire after twice the lifetime of the server’s keys', async () => {
    const connection = redis.client();
    const store = redisJournal(connection, { prefix: 'ttl' });
    const now = Date.now();
    await store.begin(
      entry('a', {
        createdAtMs: now,
        deadlineAtMs: now + 1000,
        expiresAtMs: now + 50_000,
      }),
    );
    for (const key of await connection.keys('ttl:*')) {
      const ttl = await connection.pttl(key);
      expect(ttl).toBeGreaterThan(95_000);
      expect(ttl).toBeLessThanOrEqual(100_000);
    }
  });

  test('leases whose entries Redis has dropped keep nobody from the others', async () => {
    const connection = redis.client();
    const store = redisJournal(connection, { prefix: 'dropped' });
    const now = Date.now();
    for (const key of ['a', 'b', 'c']) {
      await store.begin(
        entry(key, {
          createdAtMs: now,
          deadlineAtMs: now,
          expiresAtMs: now + 50_000,
        }),
      );
    }
    await connection.hdel(`dropped:{${apiOrigin}}:entries`, 'a', 'b');
    expect((await store.claim(apiOrigin, 1000))?.key).toBe('c');
    expect(await connection.zrange(`dropped:{${apiOrigin}}:leases`, '0', '-1')).toEqual(['c']);
  });

  test('takes the time of a clock that has fractions', async () => {
    const store = redisJournal(redis.client(), { prefix: 'fractions' });
    const client = createClient({
      origin: 'http://127.0.0.1:9',
      egress: { allow: ['http://127.0.0.1:*'] },
      retry: false,
      journal: store,
      now: () => performance.timeOrigin + performance.now(),
      idempotency: { keyLifetimeMs: 50_001 },
    });
    await expect(client.post('/x', { json: {} })).rejects.toMatchObject({
      code: 'ERR_CLIENT_NETWORK',
    });
    await store.begin(
      entry('a', {
        createdAtMs: 1000.25,
        deadlineAtMs: 1000.75,
        expiresAtMs: 2000.1,
      }),
    );
    await client.close();
  });

  test('a Redis that is down stops the call before it is sent', async () => {
    const down = await startRedis();
    const store = redisJournal(down.client(), { timeoutMs: 200 });
    await down.stop();
    const client = createClient({
      origin: 'http://127.0.0.1:9',
      egress: { allow: ['http://127.0.0.1:*'] },
      journal: store,
    });
    await expect(client.post('/x', { json: {} })).rejects.toMatchObject({
      code: 'ERR_CLIENT_JOURNAL',
      cause: { name: 'StoreUnavailableError' },
    });
    await client.close();
  });

  test('refuses a prefix that would tear its keys apart', () => {
    expect(() => redisJournal(redis.client(), { prefix: '{x}' })).toThrow(TypeError);
  });

  test('refuses an option that there is not', () => {
    const options = { timeout: 5 } as RedisJournalOptions;
    expect(() => redisJournal(redis.client(), options)).toThrow(
      /^timeout: there is no such option$/,
    );
  });
});

/** A server that remembers keys, does the work of each once, and holds its answers back until it is released. */
async function startPayments() {
  const effects = new Map<string, string>();
  const seen: { readonly key: string; readonly sent: string }[] = [];
  let released = false;
  const server = createServer((request, response) => {
    const chunks: Buffer[] = [];
    request.on('data', (chunk: Buffer) => chunks.push(chunk));
    request.on('end', () => {
      const key = String(request.headers['idempotency-key']);
      const sent = `${request.url} ${Buffer.concat(chunks).toString()}`;
      seen.push({ key, sent });
      const replayed = effects.has(key);
      if (!replayed) effects.set(key, sent);
      if (!released) return;
      response.writeHead(201, {
        'content-type': 'application/json',
        ...(replayed ? { 'idempotency-replayed': 'true' } : {}),
      });
      response.end('{"id":"pay_1"}');
    });
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.close();
    server.closeAllConnections();
  });
  return {
    origin: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    effects,
    seen,
    release: () => {
      released = true;
    },
  };
}

/** Runs the process that calls, and kills it when all its requests have been sent and none was answered. */
async function callAndDie(
  { origin, seen }: { origin: string; seen: readonly unknown[] },
  where: string,
  calls: number,
): Promise<void> {
  const child: ChildProcess = spawn(
    process.execPath,
    [fileURLToPath(new URL('./crash-child.ts', import.meta.url)), origin, where, String(calls)],
    { stdio: 'inherit' },
  );
  const exited = once(child, 'exit');
  await vi.waitFor(() => expect(seen.length).toBe(calls), { timeout: 20_000, interval: 5 });
  child.kill('SIGKILL');
  await exited;
  expect(child.signalCode).toBe('SIGKILL');
}

function clientWith(origin: string, journal: JournalStore): Client {
  const client = createClient({ origin, egress: { allow: ['http://127.0.0.1:*'] }, journal });
  onTestFinished(() => client.close());
  return client;
}

describe('a process that is killed between sending and the answer', () => {
  test('is finished by the next one: same key, one effect', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'countersign-recover-'));
    onTestFinished(() => rm(directory, { recursive: true }));
    const path = join(directory, 'journal');
    const payments = await startPayments();
    await callAndDie(payments, path, 1);
    payments.release();

    const journal = fileJournal(path);
    onTestFinished(() => journal.close());
    const client = clientWith(payments.origin, journal);
    expect(await client.recover()).toMatchObject([
      {
        status: 'completed',
        response: { status: 201, body: { id: 'pay_1' }, replayed: true },
      },
    ]);
    const { seen, effects } = payments;
    expect(seen.length).toBe(2);
    expect(seen[1]).toEqual(seen[0]);
    expect(effects.size).toBe(1);
    expect(await client.recover()).toEqual([]);
  });

  test.each([
    ['a Redis', () => [{ host: redis.host, port: redis.port }], () => redis.client()],
    ['a Redis Cluster', () => cluster.nodes, () => cluster.client()],
  ])(
    'is finished by others that share %s: every call once, with its key',
    async (_name, nodes, connect) => {
      const payments = await startPayments();
      const { origin, seen, effects } = payments;
      await callAndDie(payments, JSON.stringify(nodes()), 7);
      payments.release();

      const clients = [connect(), connect()].map((each) => clientWith(origin, redisJournal(each)));
      const recoveries: Recovery[] = [];
      // The entries are the dead process's until the deadline of its calls has passed, by the clock of Redis.
      await vi.waitFor(
        async () => {
          const found = await Promise.all(clients.map((client) => client.recover()));
          recoveries.push(...found.flat());
          expect(recoveries.length).toBe(7);
        },
        { timeout: 20_000, interval: 50 },
      );
      for (const { status, entry, ...rest } of recoveries) {
        expect({ status, ...rest }).toMatchObject({
          status: 'completed',
          response: { status: 201, replayed: true, idempotencyKey: entry.key },
        });
      }
      expect(effects.size).toBe(7);
      expect(seen.length).toBe(14);
      const bySent = (a: { sent: string }, b: { sent: string }): number =>
        a.sent.localeCompare(b.sent);
      expect(seen.slice(7).sort(bySent)).toEqual(seen.slice(0, 7).sort(bySent));
      for (const client of clients) expect(await client.recover()).toEqual([]);
    },
  );

  test('is not finished while the journal cannot be read: the error says so', async () => {
    const down = await startRedis();
    const store = redisJournal(down.client(), { timeoutMs: 200 });
    await down.stop();
    await expect(clientWith('http://127.0.0.1:9', store).recover()).rejects.toMatchObject({
      code: 'ERR_CLIENT_JOURNAL',
      cause: { name: 'StoreUnavailableError' },
    });
  });
});

test('refuses what is no client of ioredis when it is made', () => {
  for (const none of [undefined, 'redis://127.0.0.1', { host: '127.0.0.1' }]) {
    expect(() => redisJournal(none as never)).toThrow(
      'redis: expected a Redis or Cluster of ioredis',
    );
  }
});
