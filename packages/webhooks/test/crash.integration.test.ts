import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type Server, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { startRedis, startRedisCluster } from '@countersign/testkit/redis';
import { afterEach, describe, expect, test } from 'vitest';
import { createWebhookQueue } from '../src/bullmq.ts';
import {
  createReceiver,
  createVerifier,
  type Endpoint,
  generateSecret,
  memoryEndpointStore,
  memoryReplayStore,
} from '../src/index.ts';

const secret = generateSecret();
const children = new Set<ChildProcess>();
let httpServer: Server | undefined;

afterEach(async () => {
  for (const child of children) child.kill('SIGKILL');
  children.clear();
  httpServer?.closeAllConnections();
  httpServer?.close();
});

async function startWorker(
  nodes: readonly { host: string; port: number }[],
  endpoints: readonly Endpoint[],
): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('worker-process.ts', import.meta.url));
  const args = [script, JSON.stringify(nodes), JSON.stringify(endpoints)];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  if (child.stdout) await once(child.stdout, 'data');
  return child;
}

/** A receiver that verifies every delivery and counts effects. */
async function startReceiver() {
  const effects = new Map<string, number>();
  const refused: number[] = [];
  let deliveries = 0;
  const receiver = createReceiver({
    verifier: createVerifier({ secrets: secret }),
    store: memoryReplayStore(),
    acknowledge: 'last',
    handle: ({ id }) => void effects.set(id, (effects.get(id) ?? 0) + 1),
  });
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    deliveries += 1;
    const { status, headers, body } = await receiver.receive({
      body: Buffer.concat(chunks),
      headers: request.headers,
    });
    if (status === 403 || status === 400) refused.push(status);
    response.writeHead(status, Object.fromEntries(headers)).end(body);
  };
  const server = createServer((request, response) => void answer(request, response));
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  httpServer = server;
  const { port } = server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${port}/`, effects, refused, deliveries: () => deliveries };
}

const until = async (condition: () => boolean): Promise<void> => {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 20));
};

function endpointsAt(url: string, count: number): readonly Endpoint[] {
  return Array.from({ length: count }, (_, index) => ({
    id: `ep_${index}`,
    url,
    secrets: [{ secret }],
    types: [`to.${index}`],
    createdAtMs: 0,
  }));
}

/** Like an outbox: publishes until it is told that the event is stored. */
async function publishPersistently(publish: () => Promise<unknown>): Promise<void> {
  for (;;) {
    try {
      await publish();
      return;
    } catch {
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
}

describe('5,000 events in flight', () => {
  test('all arrive, and take effect once each, though a worker is killed and Redis is killed and restarted', async () => {
    const redisServer = await startRedis({ persistence: 'aof' });
    const receiver = await startReceiver();
    const records = endpointsAt(receiver.url, 20);
    const endpoints = memoryEndpointStore();
    for (const record of records) await endpoints.put(record);
    const connection = redisServer.client({ maxRetriesPerRequest: null });
    const queue = createWebhookQueue({ connection, endpoints, timeoutMs: 1000 });
    const publish = async (from: number, to: number): Promise<void> => {
      for (let start = from; start < to; start += 100) {
        await Promise.all(
          Array.from({ length: 100 }, (_, offset) =>
            publishPersistently(() =>
              queue.publish({
                id: `evt_${start + offset}`,
                type: `to.${(start + offset) % 20}`,
                payload: { number: start + offset },
              }),
            ),
          ),
        );
      }
    };
    const total = 7000;
    await publish(0, 5000);
    expect((await queue.stats()).pending).toBe(5000);

    const nodes = [{ host: redisServer.host, port: redisServer.port }];
    const first = await startWorker(nodes, records);
    await startWorker(nodes, records);
    // More comes while the worker and Redis are killed.
    const publishing = publish(5000, total);
    await until(() => receiver.effects.size > 1000);
    first.kill('SIGKILL');
    await until(() => receiver.effects.size > 2000);
    await redisServer.kill();
    await new Promise((resolve) => setTimeout(resolve, 500));
    await redisServer.restart();
    await publishing;
    await until(() => receiver.effects.size === total);

    expect(new Set(receiver.effects.values())).toEqual(new Set([1]));
    expect(receiver.refused).toEqual([]);
    await queue.drained(AbortSignal.timeout(60_000));
    expect(await queue.deadLetters()).toEqual([]);
    await queue.close();
    await redisServer.stop();
  }, 180_000);
});

describe('Redis Cluster', () => {
  test('delivers everything on three masters, and through the failover of one', async () => {
    const cluster = await startRedisCluster({ masters: 3, replicas: 1 });
    const receiver = await startReceiver();
    const records = endpointsAt(receiver.url, 12);
    const endpoints = memoryEndpointStore();
    for (const record of records) await endpoints.put(record);
    const connection = cluster.client({ redisOptions: { maxRetriesPerRequest: null } });
    const queue = createWebhookQueue({ connection, endpoints });
    await startWorker(cluster.nodes, records);

    const total = 600;
    for (let index = 0; index < total; index += 1) {
      if (index === 300) await cluster.failover(0);
      const id = `evt_${index}`;
      const event = { id, type: `to.${index % 12}`, payload: {} };
      await publishPersistently(() => queue.publish(event));
    }
    await until(() => receiver.effects.size === total);
    expect(new Set(receiver.effects.values())).toEqual(new Set([1]));
    expect(receiver.refused).toEqual([]);
    await queue.close();
    await cluster.stop();
  }, 120_000);
});
