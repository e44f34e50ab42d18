import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { createServer, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { type RedisServer, startRedis, startRedisCluster } from '@countersign/testkit/redis';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';
import { createClient } from '../src/index.ts';
import { fileJournal } from '../src/journal.ts';
import { redisJournal } from '../src/redis.ts';
import { journalStoreContract } from './store.contract.ts';

let redis: RedisServer;
beforeAll(async () => {
  redis = await startRedis();
});
afterAll(() => redis.stop());

let journals = 0;
journalStoreContract('redisJournal', () => {
  journals += 1;
  const prefix = `journal${journals}`;
  return {
    store: redisJournal(redis.client(), { prefix }),
    afterCrash: () => redisJournal(redis.client(), { prefix }),
  };
});

describe('redisJournal', () => {
  test('its keys expire after twice the lifetime of the server’s keys', async () => {
    const connection = redis.client();
    const store = redisJournal(connection, { prefix: 'ttl' });
    const now = Date.now();
    await store.begin({
      version: 1,
      key: 'a',
      origin: 'https://api.example.com',
      method: 'POST',
      path: '/',
      headers: {},
      fingerprint: '0',
      createdAtMs: now,
      deadlineAtMs: now + 1000,
      expiresAtMs: now + 50_000,
    });
    for (const key of await connection.keys('ttl:*')) {
      const ttl = await connection.pttl(key);
      expect(ttl).toBeGreaterThan(95_000);
      expect(ttl).toBeLessThanOrEqual(100_000);
    }
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
    await store.begin({
      version: 1,
      key: 'a',
      origin: 'https://api.example.com',
      method: 'POST',
      path: '/',
      headers: {},
      fingerprint: '0',
      createdAtMs: 1000.25,
      deadlineAtMs: 1000.75,
      expiresAtMs: 2000.1,
    });
    await client.close();
  });

  test('works on a cluster', async () => {
    const cluster = await startRedisCluster();
    try {
      const store = redisJournal(cluster.client(), { prefix: 'c' });
      expect(await store.claim('https://api.example.com', 1000)).toBeUndefined();
    } finally {
      await cluster.stop();
    }
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
});

describe('a process that is killed between sending and the answer', () => {
  test('is finished by the next one: same key, one effect', async () => {
    const directory = await mkdtemp(join(tmpdir(), 'countersign-recover-'));
    const path = join(directory, 'journal');
    // A server that remembers keys, and does not answer the first time although it has done the work.
    const effects = new Map<string, number>();
    const seen: string[] = [];
    const server = createServer((request, response: ServerResponse) => {
      request.resume().on('end', () => {
        const key = String(request.headers['idempotency-key']);
        seen.push(key);
        const replayed = effects.has(key);
        if (!replayed) effects.set(key, 1);
        if (seen.length === 1) return;
        response.writeHead(201, {
          'content-type': 'application/json',
          ...(replayed ? { 'idempotency-replayed': 'true' } : {}),
        });
        response.end('{"id":"pay_1"}');
      });
    });
    await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
    const origin = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;

    const child: ChildProcess = spawn(
      process.execPath,
      [fileURLToPath(new URL('./crash-child.ts', import.meta.url)), origin, path],
      { stdio: 'inherit' },
    );
    await vi.waitFor(() => expect(seen.length).toBe(1), { timeout: 20_000 });
    child.kill('SIGKILL');
    await once(child, 'exit');
    expect(child.signalCode).toBe('SIGKILL');

    const journal = fileJournal(path);
    const client = createClient({
      origin,
      egress: { allow: ['http://127.0.0.1:*'] },
      journal,
    });
    const recoveries = await client.recover();
    expect(recoveries).toMatchObject([
      {
        status: 'completed',
        response: { status: 201, body: { id: 'pay_1' }, replayed: true },
      },
    ]);
    expect(seen.length).toBe(2);
    expect(new Set(seen).size).toBe(1);
    expect(effects.size).toBe(1);
    expect(await client.recover()).toEqual([]);
    await client.close();
    await journal.close();
    server.close();
    server.closeAllConnections();
    await rm(directory, { recursive: true });
  });
});
