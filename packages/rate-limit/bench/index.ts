import { createHash } from 'node:crypto';
import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { startRedis, startRedisCluster } from '@countersign/testkit/redis';
import { Ratelimit, type RatelimitConfig } from '@upstash/ratelimit';
import type { Redis } from 'ioredis';
import { RateLimiterMemory, RateLimiterRedis } from 'rate-limiter-flexible';
import {
  createRateLimiter,
  memoryRateLimitStore,
  type RateLimiter,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';

const concurrency = 64;
/** Turns of each contender: enough for the optimising compiler to have done with all of them before the median. */
const rounds = 40;
const plenty = 1e9;
const subjects = Array.from({ length: 1000 }, (_, index) => `subject-${index}`);
const next = inTurn(subjects);
// As many as a busy service has in a minute: more than a processor's nearest caches hold.
const manySubjects = Array.from({ length: 10_000 }, (_, index) => `subject-${index}`);
const nextOfMany = inTurn(manySubjects);
type Check = (subject: string) => Promise<unknown>;
const together = (call: Check): Promise<unknown> =>
  Promise.all(Array.from({ length: concurrency }, () => call(next())));

const policies = {
  one: [tokenBucket({ capacity: plenty, refillPerSecond: 1000 })],
  window: [slidingWindow({ limit: plenty, windowSeconds: 60 })],
  two: [
    slidingWindow({ limit: plenty, windowSeconds: 60 }),
    slidingWindow({ limit: plenty, windowSeconds: 3600 }),
  ],
  none: [slidingWindow({ limit: 1, windowSeconds: 3600 })],
};

const memory = createRateLimiter({ store: memoryRateLimitStore(), policies });
const flexibleMemory = new RateLimiterMemory({ points: plenty, duration: 60 });
// One kind of limit on both sides, and nothing else before: what the compiler knows of other kinds costs the checks of each.
const inMemory = await compare(
  {
    'rate-limiter-flexible': () => flexibleMemory.consume(nextOfMany()),
    'check()': () => memory.check(nextOfMany(), { policy: 'window' }),
    'checkSync()': () => memory.checkSync(nextOfMany(), { policy: 'window' }),
  },
  rounds,
);
report('memory, 10,000 subjects', inMemory);
const perSecond = (name: string, results = inMemory): number =>
  results.find((result) => result.name === name)?.callsPerSecond ?? 0;
expectAtLeast(
  'check() against rate-limiter-flexible',
  ratio(inMemory, 'check()', 'rate-limiter-flexible'),
  2,
);
expectAtLeast(
  'checkSync() against rate-limiter-flexible',
  ratio(inMemory, 'checkSync()', 'rate-limiter-flexible'),
  3,
);
expectAtLeast('checkSync(), millions per second', perSecond('checkSync()') / 1e6, 5);
/** What no check in memory does without, as a bare PING in Redis: a lookup, the time, and a promise. */
const bareCounts = new Map(manySubjects.map((subject) => [subject, { used: 0 }]));
const bareCheck = async (subject: string): Promise<{ used: number; at: number } | undefined> => {
  const count = bareCounts.get(subject);
  return count && { used: ++count.used, at: Date.now() };
};
report(
  'memory, 10,000 subjects, several kinds of limits in one process',
  await compare(
    {
      'bare lookup, time and promise': () => bareCheck(nextOfMany()),
      'check()': () => memory.check(nextOfMany(), { policy: 'window' }),
      'checkSync()': () => memory.checkSync(nextOfMany(), { policy: 'window' }),
      'checkSync(), token bucket': () => memory.checkSync(nextOfMany(), { policy: 'one' }),
      'checkSync(), two policies': () => memory.checkSync(nextOfMany(), { policy: 'two' }),
    },
    rounds,
  ),
);

const server = await startRedis();
const redis: Redis = server.client();
const store = redisRateLimitStore(redis);
const shared: RateLimiter<keyof typeof policies> = createRateLimiter({
  store,
  policies,
  timeoutMs: 5000,
});
const flexibleRedis = new RateLimiterRedis({ storeClient: redis, points: plenty, duration: 60 });
const upstash = await upstashOnIoredis(redis);

const inRedis = await compare(
  {
    'bare PING': () => together(() => redis.ping()),
    'rate-limiter-flexible': () => together((subject) => flexibleRedis.consume(subject)),
    '@upstash/ratelimit': () => together(upstash.library),
    'its script alone': () => together(upstash.script),
    'check(), token bucket': () => together((subject) => shared.check(subject, { policy: 'one' })),
    'check(), sliding window': () =>
      together((subject) => shared.check(subject, { policy: 'window' })),
    'check(), two policies': () => together((subject) => shared.check(subject, { policy: 'two' })),
  },
  rounds,
);
report(`Redis, ${concurrency} checks at a time (figures are per ${concurrency})`, inRedis);
const against = (name: string, peer: string): number => ratio(inRedis, name, peer);
expectAtLeast('one policy against bare PING', against('check(), sliding window', 'bare PING'), 0.9);
expectAtLeast('token bucket against bare PING', against('check(), token bucket', 'bare PING'), 0.9);
expectAtLeast(
  'two policies against bare PING',
  against('check(), two policies', 'bare PING'),
  0.75,
);
expectAtLeast(
  'against rate-limiter-flexible',
  against('check(), sliding window', 'rate-limiter-flexible'),
  1.3,
);
expectAtLeast(
  'against @upstash/ratelimit',
  against('check(), sliding window', '@upstash/ratelimit'),
  1.5,
);

const leasing = createRateLimiter({ store, policies, timeoutMs: 5000, lease: { size: 10_000 } });
await Promise.all(subjects.map((subject) => shared.check(subject, { policy: 'none' })));
await Promise.all(subjects.map((subject) => shared.check(subject, { policy: 'none' })));
await Promise.all(subjects.map((subject) => leasing.check(subject, { policy: 'window' })));
const fast = await compare({
  leased: () => leasing.check('subject-1', { policy: 'window' }),
  'refused before': () => shared.check(next(), { policy: 'none' }),
});
report('decided in this process, shared through Redis', fast);
expectAtLeast('leased, millions per second', perSecond('leased', fast) / 1e6, 1);
expectAtLeast(
  'leased against one check at a time of 64',
  perSecond('leased', fast) / (perSecond('check(), sliding window', inRedis) * concurrency),
  10,
);
expectAtLeast('refused before, 100,000 per second', perSecond('refused before', fast) / 1e5, 4);

await redis.flushall();
const before = await usedMemory(redis);
const count = 1_000_000;
for (let start = 0; start < count; start += 1000)
  await Promise.all(
    Array.from({ length: 1000 }, (_, index) =>
      shared.check(`user-${start + index}`, { policy: 'two' }),
    ),
  );
const bytes = ((await usedMemory(redis)) - before) / count;
console.log(
  `\nRedis memory for each of ${count.toLocaleString('en')} subjects with two sliding windows: ${bytes.toFixed(0)} bytes`,
);
console.log(`  10,000,000 subjects: ${((bytes * 1e7) / 2 ** 30).toFixed(1)} GiB`);
expectAtLeast('300 bytes against a subject', 300 / bytes, 1);
await server.stop();

const cluster = await startRedisCluster();
const clustered = createRateLimiter({
  store: redisRateLimitStore(cluster.client()),
  policies,
  timeoutMs: 5000,
});
const bare = cluster.client();
const inCluster = await compare({
  'bare PING': () => together(() => bare.ping()),
  'check(), sliding window': () =>
    together((subject) => clustered.check(subject, { policy: 'window' })),
});
report(
  `Redis Cluster of three masters, ${concurrency} checks at a time, each in a slot of its own`,
  inCluster,
);
console.log(
  `  against bare PING: ${ratio(inCluster, 'check(), sliding window', 'bare PING').toFixed(2)}×`,
);
await cluster.stop();

function inTurn(names: readonly string[]): () => string {
  let turn = 0;
  return () => {
    turn = (turn + 1) % names.length;
    return names[turn] as string;
  };
}

async function usedMemory(client: Redis): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await client.info('memory'))?.[1]);
}

/**
 * @upstash/ratelimit on ioredis, and its script without the rest of it. Its own client speaks HTTP to Upstash only, whose servers alone
 * know the flags in the first line of its scripts.
 */
async function upstashOnIoredis(client: Redis): Promise<{ library: Check; script: Check }> {
  const known = new Map<string, string>();
  const evalsha = (hash: string, keys: string[], args: unknown[]): Promise<unknown> => {
    const sha = known.get(hash);
    if (sha === undefined) return Promise.reject(new Error('NOSCRIPT'));
    return client.evalsha(sha, keys.length, ...keys, ...(args as string[]));
  };
  const load = async (text: string, keys: string[], args: unknown[]): Promise<unknown> => {
    const hash = createHash('sha1').update(text).digest('hex');
    known.set(hash, String(await client.script('LOAD', text.replace(/^#!.*\n/, ''))));
    return evalsha(hash, keys, args);
  };
  const limiter = new Ratelimit({
    redis: { evalsha, eval: load } as unknown as RatelimitConfig['redis'],
    limiter: Ratelimit.slidingWindow(plenty, '60 s'),
  });
  await limiter.limit('first');
  const [hash] = known.keys();
  return {
    library: (subject) => limiter.limit(subject),
    script: (subject) => {
      const now = Date.now();
      const window = Math.floor(now / 60_000);
      const keys = [`up:${subject}:${window}`, `up:${subject}:${window - 1}`, ''];
      return evalsha(hash as string, keys, [plenty, now, 60_000, 1]);
    },
  };
}
