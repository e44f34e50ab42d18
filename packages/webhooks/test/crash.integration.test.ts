import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { type RedisServer, startRedis, startRedisCluster } from '@countersign/testkit/redis';
import type { Cluster, Redis } from 'ioredis';
import { afterAll, describe, expect, test } from 'vitest';
import { createWebhookQueue } from '../src/bullmq.ts';
import {
  createReceiver,
  createVerifier,
  type Endpoint,
  generateSecret,
  memoryEndpointStore,
  memoryReplayStore,
} from '../src/index.ts';
import { until } from './queue-fixture.ts';

const EVENTS = 5000;
/** Published while workers and servers die. */
const MORE = 500;
const ENDPOINTS = 20;

const secret = generateSecret();
const children = new Set<ChildProcess>();
afterAll(() => {
  for (const child of children) child.kill('SIGKILL');
});

async function startWorker(
  nodes: readonly { host: string; port: number }[],
  endpoints: readonly Endpoint[],
  name: string,
): Promise<ChildProcess> {
  const script = fileURLToPath(new URL('worker-process.ts', import.meta.url));
  const args = [script, JSON.stringify(nodes), JSON.stringify(endpoints), name];
  const child = spawn(process.execPath, args, { stdio: ['ignore', 'pipe', 'inherit'] });
  children.add(child);
  if (child.stdout) await once(child.stdout, 'data');
  return child;
}

/** A receiver that verifies every delivery, and counts effects, and who made the deliveries. */
async function startReceiver() {
  const effects = new Map<string, number>();
  const sentBy = new Map<string, number>();
  const refused: number[] = [];
  const receiver = createReceiver({
    verifier: createVerifier({ secrets: secret }),
    store: memoryReplayStore(),
    acknowledge: 'last',
    handle: ({ id }) => void effects.set(id, (effects.get(id) ?? 0) + 1),
  });
  const answer = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const chunks: Buffer[] = [];
    for await (const chunk of request) chunks.push(chunk as Buffer);
    const worker = String(request.headers['x-worker']);
    sentBy.set(worker, (sentBy.get(worker) ?? 0) + 1);
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
  const { port } = server.address() as AddressInfo;
  const stop = (): void => {
    server.closeAllConnections();
    server.close();
  };
  return { url: `http://127.0.0.1:${port}/`, effects, sentBy, refused, stop };
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

/** A Redis, or a cluster, that can be killed in the middle of it. */
interface Installation {
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  readonly connection: Redis | Cluster;
  /** Resolves when everything that was acknowledged before survives `die`. */
  settle(): Promise<void>;
  die(): Promise<void>;
  comeBack(): Promise<void>;
  stop(): Promise<void>;
}

/** Restarted with what it wrote down. */
async function singleRedis(): Promise<Installation> {
  const server = await startRedis({ persistence: 'aof' });
  return {
    nodes: [{ host: server.host, port: server.port }],
    connection: server.client({ maxRetriesPerRequest: null }),
    settle: async () => undefined,
    die: server.kill,
    comeBack: server.restart,
    stop: server.stop,
  };
}

/** One of three masters dies; its replica takes its place. */
async function cluster(): Promise<Installation> {
  const servers = await startRedisCluster({ masters: 3, replicas: 1 });
  const connection = servers.client({ redisOptions: { maxRetriesPerRequest: null } });
  return {
    nodes: servers.nodes,
    connection,
    async settle() {
      const offsetOf = async (server: RedisServer, name: string): Promise<number> => {
        const client = server.client();
        const text = await client.info('replication');
        client.disconnect();
        return Number(new RegExp(`${name}:(\\d+)`).exec(text)?.[1]);
      };
      for (const [index, master] of servers.masters.entries()) {
        const written = await offsetOf(master, 'master_repl_offset');
        const replica = servers.replicas[index] as RedisServer;
        while ((await offsetOf(replica, 'slave_repl_offset')) < written);
      }
    },
    die: async () => await servers.masters[0]?.kill(),
    comeBack: async () => await servers.failover(0),
    stop: servers.stop,
  };
}

describe.concurrent('5,000 events in flight', () => {
  test.each([
    ['Redis is killed and restarted with its append-only file', singleRedis],
    ['a master of a cluster is killed and its replica takes over', cluster],
  ])(
    'all arrive, and take effect once each, though a worker is killed and %s',
    async (_, start) => {
      const receiver = await startReceiver();
      const records = Array.from(
        { length: ENDPOINTS },
        (__, index): Endpoint => ({
          id: `ep_${index}`,
          url: receiver.url,
          secrets: [{ secret }],
          types: [`to.${index}`],
          createdAtMs: 0,
        }),
      );
      const endpoints = memoryEndpointStore();
      for (const record of records) await endpoints.put(record);
      const installation = await start();
      const { nodes, connection } = installation;
      const queue = createWebhookQueue({ connection, endpoints, timeoutMs: 3000 });
      const publish = async (from: number, to: number): Promise<void> => {
        for (let first = from; first < to; first += 100) {
          const some = Array.from({ length: 100 }, (__, offset) => first + offset);
          await Promise.all(
            some.map(async (number) => {
              const event = {
                id: `evt_${number}`,
                type: `to.${number % ENDPOINTS}`,
                payload: { number },
              };
              await publishPersistently(() => queue.publish(event));
            }),
          );
        }
      };

      // Everything waits until both workers are there.
      await queue.pause();
      const [first] = await Promise.all([
        startWorker(nodes, records, 'first'),
        startWorker(nodes, records, 'second'),
        publish(0, EVENTS),
      ]);
      expect((await queue.stats()).pending).toBe(EVENTS);
      await queue.resume();
      const { effects, sentBy } = receiver;
      await until(() => effects.size > 300 && (sentBy.get('first') ?? 0) > 0);
      first.kill('SIGKILL');
      const pendingAtFirst = EVENTS - effects.size;
      await installation.settle();
      await until(() => effects.size > 800);
      const dying = installation.die();
      const pendingAtSecond = EVENTS - effects.size;
      await dying;
      const publishing = publish(EVENTS, EVENTS + MORE);
      await installation.comeBack();
      await publishing;
      await until(() => effects.size === EVENTS + MORE);

      expect([pendingAtFirst > 3500, pendingAtSecond > 2500]).toEqual([true, true]);
      expect(new Set(sentBy.keys())).toEqual(new Set(['first', 'second']));
      expect(new Set(effects.values())).toEqual(new Set([1]));
      expect(receiver.refused).toEqual([]);
      await queue.drained(AbortSignal.timeout(60_000));
      expect(await queue.stats()).toMatchObject({ dead: 0, delivered: EVENTS + MORE });
      expect(await queue.deadLetters()).toEqual([]);
      await queue.close();
      await installation.stop();
      receiver.stop();
    },
    120_000,
  );
});
