import { egressAgent } from '@countersign/egress';
import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import {
  respond,
  type ScriptedServer,
  startScriptedServer,
} from '@countersign/testkit/scripted-server';
import type { Redis } from 'ioredis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { createWebhookQueue, type WebhookQueue, type WebhookQueueOptions } from '../src/bullmq.ts';
import { type Endpoint, generateSecret, memoryEndpointStore } from '../src/index.ts';
import { Life, MortalRedis } from './mortal-redis.ts';
import { rewind, until } from './queue-fixture.ts';

let server: RedisServer;
let redis: Redis;
let http: ScriptedServer;
const egress = egressAgent({ allow: ['http://127.0.0.0/8'] });
const secrets = [{ secret: generateSecret() }];
/** Paths that fail once more. */
const failing = new Map<string, number>();

beforeAll(async () => {
  server = await startRedis();
  redis = server.client({ maxRetriesPerRequest: null });
  http = await startScriptedServer({
    otherwise: ({ target }) => {
      const left = failing.get(target) ?? 0;
      failing.set(target, left - 1);
      return respond({ status: left > 0 ? 500 : 200 });
    },
  });
});
afterAll(async () => {
  await egress.close();
  await http.stop();
  await server.stop();
});

/** What a process does until it is killed, and what must be true when another one took over. */
interface Story {
  readonly options?: Partial<WebhookQueueOptions>;
  /** Before it, in a process that lives. */
  before?(world: World): Promise<void>;
  /** Ends when all is done, if it comes to that. */
  killed(world: World): Promise<void>;
  /** After it, in another process: what an outbox or an operator does again. */
  after?(world: World): Promise<void>;
  check(world: World): Promise<void>;
}

interface World {
  readonly prefix: string;
  readonly queue: WebhookQueue;
  readonly remove: (id: string) => Promise<void>;
  readonly sentTo: (id: string) => readonly (string | undefined)[];
}

const idle = async ({ queue }: World): Promise<void> => {
  await until(async () => (await queue.stats()).pending === 0);
};
const letters = async ({ queue }: World): Promise<readonly string[]> =>
  (await queue.deadLetters({ limit: 1000 })).map(({ id }) => id).sort();

/** Runs a story in which the process is killed before its request number `requests`; says whether it came to that. */
async function live(story: Story, requests: number, name: string): Promise<boolean> {
  const prefix = `${name}-${requests}`;
  const endpoints = memoryEndpointStore();
  const pathOf = (id: string): string => `/${prefix}/${id}`;
  const stored = (id: string): Endpoint => ({
    id,
    url: `${http.origin}${pathOf(id)}`,
    secrets,
    types: ['*'],
    createdAtMs: 0,
  });
  for (const id of ['a', 'b']) await endpoints.put(stored(id));
  failing.set(pathOf('b'), 1);
  const worldWith = (connection: Redis): World => {
    const queue = createWebhookQueue({
      connection,
      endpoints,
      egress,
      prefix,
      shards: 1,
      schedule: [0, 1, 1],
      jitter: 0,
      attemptTimeoutMs: 1000,
      endpointCacheMs: 0,
      ...story.options,
    });
    const sentTo = (id: string): readonly (string | undefined)[] =>
      http.requests
        .filter(({ target }) => target === pathOf(id))
        .map(({ headers }) => headers['webhook-id']);
    const remove = async (id: string): Promise<void> => void (await endpoints.delete(id));
    return { prefix, queue, remove, sentTo };
  };

  const survivor = worldWith(redis);
  await story.before?.(survivor);
  const life = new Life(requests);
  const connection = new MortalRedis(life, {
    host: server.host,
    port: server.port,
    maxRetriesPerRequest: null,
  });
  connection.on('error', () => undefined);
  const mortal = worldWith(connection);
  const finished = story.killed(mortal).then(() => false);
  finished.catch(() => undefined);
  const died = await Promise.race([finished, life.death.then(() => true)]);
  await life.bury(redis);

  // Its leases, its locks and a round of looking for stalled jobs are over.
  await rewind(redis, 3_600_000, prefix);
  await redis.eval(stall, 0, prefix);
  await story.after?.(survivor);
  const worker = survivor.queue.worker({ sweepMs: 20 });
  await idle(survivor);
  await story.check(survivor);
  await untilClean(survivor);
  await worker.close();
  await survivor.queue.close();
  return died;
}

const stall = `
for _, key in ipairs(redis.call('KEYS', ARGV[1] .. ':{*}:drain:active')) do
  local base = string.sub(key, 1, -7)
  for _, id in ipairs(redis.call('LRANGE', key, 0, -1)) do
    redis.call('DEL', base .. id .. ':lock')
    redis.call('SADD', base .. 'stalled', id)
  end
  redis.call('DEL', base .. 'stalled-check')
end
`;

/** Nothing is left of deliveries that ended, but for what is kept for a time. */
async function untilClean({ prefix }: World): Promise<void> {
  const base = `${prefix}:{0}`;
  const left = ['a', 'b'].flatMap((id) => [`due:${id}`, `tries:${id}`]);
  const keys = ['wakes', 'drain:wait', 'drain:active', ...left].map((key) => `${base}:${key}`);
  await until(async () => (await redis.exists(...keys)) === 0);
  // One that a crash left behind when another took over sleeps on; it changes nothing when it wakes up.
  for (const job of await redis.zrange(`${base}:drain:delayed`, '0', '-1')) {
    const [endpoint, seq] = job.split('.');
    expect(Number(seq)).toBeLessThan(Number(await redis.hget(`${base}:state:${endpoint}`, 'seq')));
  }
  for (const key of await redis.keys(`${prefix}:payload:*`)) {
    expect(await redis.pttl(key)).toBeGreaterThan(0);
  }
}

/** From the first request to the last, several at a time. */
async function dieAtEveryStep(name: string, story: Story): Promise<number> {
  const AT_ONCE = 8;
  for (let first = 0; ; first += AT_ONCE) {
    const steps = Array.from({ length: AT_ONCE }, (_, offset) => first + offset);
    const died = await Promise.all(steps.map(async (step) => await live(story, step, name)));
    if (!died.every(Boolean)) return first + died.indexOf(false);
  }
}

const events = ['evt_1', 'evt_2'];
const publish = async ({ queue }: World): Promise<void> => {
  for (const id of events) await queue.publish({ id, payload: { id } });
};

describe('killed before each of its requests to Redis, and another process takes over', () => {
  test('a process that publishes and delivers loses nothing', async () => {
    const steps = await dieAtEveryStep('publish', {
      async killed(world) {
        world.queue.worker();
        await publish(world);
        await idle(world);
      },
      // An outbox publishes until it is told that it is done.
      after: publish,
      async check({ queue, sentTo }) {
        for (const id of ['a', 'b']) expect(new Set(sentTo(id))).toEqual(new Set(events));
        expect(await queue.stats()).toMatchObject({ published: 4, delivered: 4, dead: 0 });
      },
    });
    expect(steps).toBeGreaterThan(10);
  });

  test('a process that moves what waited too long to the dead letters loses none', async () => {
    const many = Array.from({ length: 40 }, (_, index) => `evt_${index}`);
    const steps = await dieAtEveryStep('lapse', {
      options: { retentionMs: 600_000 },
      async before({ prefix, queue }) {
        await queue.pause('a');
        await queue.pause('b');
        await Promise.all(many.map(async (id) => await queue.publish({ id, payload: {} })));
        await rewind(redis, 600_000, prefix);
        await queue.resume('a');
      },
      async killed(world) {
        world.queue.worker({ sweepMs: 20 });
        await idle(world);
      },
      async check(world) {
        expect(world.sentTo('a')).toEqual([]);
        const all = ['a', 'b'].map(
          async (endpoint) => await world.queue.deadLetters({ endpoint, limit: 1000 }),
        );
        for (const ofOne of await Promise.all(all)) {
          expect(new Set(ofOne.map(({ event }) => event))).toEqual(new Set(many));
        }
        expect(await world.queue.stats()).toMatchObject({
          published: 80,
          dead: 80,
          pending: 0,
        });
      },
    });
    expect(steps).toBeGreaterThan(10);
  });

  test('a process that delivers dead letters again, or resumes an endpoint, leaves nothing behind', async () => {
    const steps = await dieAtEveryStep('again', {
      // The only attempt of a delivery has time, however busy the machine is.
      options: { schedule: [0], isPermanent: () => true, attemptTimeoutMs: 60_000 },
      async before(world) {
        const worker = world.queue.worker();
        await publish(world);
        await idle(world);
        await worker.close();
        await world.queue.pause('a');
      },
      async killed({ queue }) {
        await queue.redeliver('b:evt_1');
        await queue.redeliverSince('a', 0);
        await queue.resume('a');
      },
      async after({ queue }) {
        await queue.redeliver('b:evt_1');
        await queue.redeliverSince('a', 0);
        await queue.resume('a');
      },
      async check(world) {
        expect(world.sentTo('a').length).toBeGreaterThanOrEqual(4);
        expect(world.sentTo('b').length).toBeGreaterThanOrEqual(3);
        expect(await letters(world)).toEqual([]);
      },
    });
    expect(steps).toBeGreaterThan(10);
  });

  test('a process that finds an endpoint removed loses none of its deliveries', async () => {
    const steps = await dieAtEveryStep('removed', {
      async before(world) {
        await publish(world);
        await world.remove('a');
      },
      async killed(world) {
        world.queue.worker();
        await idle(world);
      },
      async check(world) {
        expect(await letters(world)).toEqual(events.map((event) => `a:${event}`));
        expect(new Set(world.sentTo('b'))).toEqual(new Set(events));
        expect(await redis.exists(`${world.prefix}:{0}:state:a`)).toBe(0);
      },
    });
    expect(steps).toBeGreaterThan(10);
  });
});
