import { startRedis } from '@countersign/testkit/redis';
import { RateLimiterRedis } from 'rate-limiter-flexible';
import { createRateLimiter, slidingWindow, tokenBucket } from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';

const server = await startRedis();
const redis = server.client();
const policies = {
  one: [tokenBucket({ capacity: 1e9, refillPerSecond: 1000 })],
  window: [slidingWindow({ limit: 1e9, windowSeconds: 60 })],
  two: [
    slidingWindow({ limit: 1e9, windowSeconds: 60 }),
    slidingWindow({ limit: 1e9, windowSeconds: 3600 }),
  ],
};
const l = createRateLimiter({ store: redisRateLimitStore(redis), policies, timeoutMs: 5000 });
redis.defineCommand('slidingWindowPeer', {
  numberOfKeys: 2,
  lua: `
      local current = redis.call('GET', KEYS[1]) or 0
      local previous = redis.call('GET', KEYS[2]) or 0
      local elapsed = (ARGV[2] % ARGV[3]) / ARGV[3]
      local weighted = math.floor((1 - elapsed) * previous)
      if weighted + current >= tonumber(ARGV[1]) then return -1 end
      local value = redis.call('INCRBY', KEYS[1], ARGV[4])
      if value == tonumber(ARGV[4]) then redis.call('PEXPIRE', KEYS[1], ARGV[3] * 2 + 1000) end
      return tonumber(ARGV[1]) - (value + weighted)`,
});
const up = (subject: string) => {
  const now = Date.now();
  const w = Math.floor(now / 60000);
  return (redis as any).slidingWindowPeer(
    `up:${subject}:${w}`,
    `up:${subject}:${w - 1}`,
    1e9,
    now,
    60000,
    1,
  );
};
const f = new RateLimiterRedis({ storeClient: redis, points: 1e9, duration: 60 });
const subs = Array.from({ length: 1000 }, (_, i) => `subject-${i}`);
let t = 0;
const next = () => subs[(t = (t + 1) % 1000)]!;
const V: Record<string, () => Promise<unknown>> = {
  ping: () => redis.ping(),
  rlf: () => f.consume(next()),
  upstash: () => up(next()),
  one: () => l.check(next(), { policy: 'one' }),
  window: () => l.check(next(), { policy: 'window' }),
  two: () => l.check(next(), { policy: 'two' }),
};
const cpuS = async () => {
  const i = await redis.info('cpu');
  return 1e6 * (+/used_cpu_sys:([\d.]+)/.exec(i)![1]! + +/used_cpu_user:([\d.]+)/.exec(i)![1]!);
};
const C: Record<string, number[]> = {},
  S: Record<string, number[]> = {},
  W: Record<string, number[]> = {};
const K = 150;
for (let r = 0; r < 11; r++)
  for (const n in V) {
    const s0 = await cpuS();
    const c0 = process.cpuUsage();
    const t0 = performance.now();
    for (let i = 0; i < K; i++) await Promise.all(Array.from({ length: 64 }, () => V[n]!()));
    const c1 = process.cpuUsage(c0);
    const w = performance.now() - t0;
    const s1 = await cpuS();
    (C[n] ??= []).push((c1.user + c1.system) / K);
    (S[n] ??= []).push((s1 - s0) / K);
    (W[n] ??= []).push((w * 1000) / K);
  }
const med = (a: number[], q = 0.5) => a.sort((x, y) => x - y)[Math.floor(a.length * q)]!;
for (const n in V)
  console.log(
    n.padEnd(8),
    'client',
    med(C[n]!).toFixed(0).padStart(5),
    'server',
    med(S[n]!).toFixed(0).padStart(5),
    'sum',
    (med(C[n]!) + med(S[n]!)).toFixed(0).padStart(5),
    'wall p25',
    med(W[n]!, 0.25).toFixed(0),
  );
redis.disconnect();
await server.stop();
process.exit(0);
