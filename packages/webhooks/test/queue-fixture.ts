import { egressAgent } from '@countersign/egress';
import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import {
  type ScriptedServer,
  type ScriptedServerOptions,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import type { Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach } from 'vitest';
import { createWebhookQueue, type WebhookQueue, type WebhookQueueOptions } from '../src/bullmq.ts';
import {
  type Endpoint,
  type EndpointStore,
  generateSecret,
  memoryEndpointStore,
} from '../src/index.ts';

/** A queue on a Redis of its own, empty before each test, and the server that its endpoints are at. */
export interface QueueFixture {
  readonly secret: string;
  readonly agent: ReturnType<typeof egressAgent>;
  readonly redisServer: RedisServer;
  readonly redis: Redis;
  readonly server: ScriptedServer;
  endpoints: EndpointStore;
  readonly queue: WebhookQueue;
  /** The fast settings of most tests, and those given. */
  queueWith(options?: Partial<WebhookQueueOptions>): WebhookQueue;
  /** Stores an endpoint at `/<id>` of the server. */
  endpoint(id: string, settings?: Partial<Endpoint>): Promise<void>;
  /** Instead of the server that answers everything with 200. */
  serve(options: ScriptedServerOptions): Promise<void>;
  idsSentTo(path: string): readonly (string | undefined)[];
}

/** Call it once in a test file, outside of tests. */
export function queueFixture(): QueueFixture {
  const secret = generateSecret();
  const agent = egressAgent({ allow: ['http://127.0.0.0/8'] });
  let redisServer: RedisServer;
  let redis: Redis;
  let server: ScriptedServer;
  let endpoints: EndpointStore;
  let queue: WebhookQueue;

  beforeAll(async () => {
    redisServer = await startRedis();
  });
  afterAll(async () => {
    await agent.close();
    await redisServer.stop();
  });
  beforeEach(async () => {
    redis = redisServer.client({ maxRetriesPerRequest: null });
    await redis.flushall();
    server = await startScriptedServer();
    endpoints = memoryEndpointStore();
  });
  afterEach(async () => {
    await queue.close();
    await server.stop();
    redis.disconnect();
  });

  return {
    secret,
    agent,
    get redisServer() {
      return redisServer;
    },
    get redis() {
      return redis;
    },
    get server() {
      return server;
    },
    get endpoints() {
      return endpoints;
    },
    set endpoints(store) {
      endpoints = store;
    },
    get queue() {
      return queue;
    },
    queueWith(options = {}) {
      queue = createWebhookQueue({
        connection: redis,
        endpoints,
        egress: agent,
        schedule: [0, 20, 20],
        jitter: 0,
        endpointCacheMs: 0,
        breaker: { failures: 1000 },
        shards: 2,
        ...options,
      });
      return queue;
    },
    async endpoint(id, settings = {}) {
      await endpoints.put({
        id,
        url: `${server.origin}/${id}`,
        secrets: [{ secret }],
        types: ['*'],
        createdAtMs: 0,
        ...settings,
      });
    },
    async serve(options) {
      await server.stop();
      server = await startScriptedServer(options);
    },
    idsSentTo: (path) =>
      server.requests
        .filter(({ target }) => target === path)
        .map(({ headers }) => headers['webhook-id']),
  };
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}
