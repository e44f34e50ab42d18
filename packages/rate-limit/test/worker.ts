import { Redis } from 'ioredis';
import { createRateLimiter, fixedWindow } from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';

/** One of several processes that share a limit: makes its checks all at once and reports how many passed. */
const [url = '', checks = '0'] = process.argv.slice(2);
const redis = new Redis(url);
const limiter = createRateLimiter({
  store: redisRateLimitStore(redis),
  policies: { p: [fixedWindow({ limit: 1000, windowSeconds: 31_622_400 })] },
  timeoutMs: 30_000,
});
const decisions = await Promise.all(
  Array.from({ length: Number(checks) }, () => limiter.check('shared')),
);
if (decisions.some(({ source }) => source === 'degraded')) throw new Error('the store failed');
process.send?.(decisions.filter(({ allowed }) => allowed).length);
redis.disconnect();
