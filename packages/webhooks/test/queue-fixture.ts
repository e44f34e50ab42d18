import { egressAgent } from '@countersign/egress';
import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import {
  type ScriptedServer,
  type ScriptedServerOptions,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import { type ConnectionOptions, Queue } from 'bullmq';
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
  /** Lets time pass for everything that Redis keeps, without waiting: all of it is so much longer ago. */
  pass(ms: number): Promise<void>;
}

const BULLMQ_TIME = 4096;

const rewinding = `
local ms, bullmq, prefix = tonumber(ARGV[1]), tonumber(ARGV[2]), ARGV[3]
local function each(pattern, shift)
  for _, key in ipairs(redis.call('KEYS', prefix .. pattern)) do shift(key) end
end
local function members(by)
  return function(key)
    for _, member in ipairs(redis.call('ZRANGE', key, 0, -1)) do redis.call('ZINCRBY', key, -by, member) end
  end
end
for _, name in ipairs({ 'due:*', 'wakes', 'dead:*', 'history:*', 'letters' }) do each('*:' .. name, members(ms)) end
each('*:drain:delayed', members(ms * bullmq))
each('*:tries:*', function(key)
  local all = redis.call('HGETALL', key)
  for i = 1, #all, 2 do
    local attempts, since = string.match(all[i + 1], '^(%d+):(%d+)$')
    redis.call('HSET', key, all[i], attempts .. ':' .. string.format('%.0f', since - ms))
  end
end)
each('*:state:*', function(key)
  for _, field in ipairs({ 'active', 'notBefore', 'penalty', 'failingSince', 'disabledAt', 'refilled' }) do
    local at = tonumber(redis.call('HGET', key, field) or 0)
    if at > 0 then redis.call('HSET', key, field, string.format('%.0f', math.max(1, at - ms))) end
  end
end)
each('*', function(key)
  local left = redis.call('PTTL', key)
  -- A worker's lock on its job is renewed, not waited for.
  if left > 0 and not string.match(key, ':lock$') then redis.call('PEXPIRE', key, left - ms) end
end)
`;

/** Moves everything that queues keep in Redis, under keys that begin with `prefix`, so many milliseconds into the past. */
export async function rewind(redis: Redis, ms: number, prefix = ''): Promise<void> {
  await redis.eval(rewinding, 0, ms, BULLMQ_TIME, prefix);
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
    async pass(ms) {
      await rewind(redis, ms);
      const prefixes = (await redis.keys('*:drain:meta')).map((key) =>
        key.replace(':drain:meta', ''),
      );
      for (const prefix of prefixes) {
        const jobs = new Queue('drain', {
          connection: redis as unknown as ConnectionOptions,
          prefix,
        });
        for (const job of await jobs.getDelayed()) {
          const score = await redis.zscore(`${prefix}:drain:delayed`, job.id ?? '');
          // A worker may have noticed by itself.
          if (Number(score) / BULLMQ_TIME <= Date.now()) await job.promote().catch(() => undefined);
        }
        await jobs.close();
      }
    },
  };
}

export async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await new Promise((resolve) => setTimeout(resolve, 5));
}
