import { Redis } from 'ioredis';
import { createRateLimiter } from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';
import { type Contest, contests } from './contests.ts';

/** One of several processes that share limits: makes its checks all at once and reports how many passed under each. */
const [url = ''] = process.argv.slice(2);
const redis = new Redis(url);
const names = Object.keys(contests) as Contest[];
const limiter = createRateLimiter({
  store: redisRateLimitStore(redis),
  policies: Object.fromEntries(names.map((name) => [name, contests[name].limits])),
  timeoutMs: 60_000,
});
const passed = await Promise.all(
  names.map(async (policy) => {
    const decisions = await Promise.all(
      Array.from({ length: contests[policy].checks }, () => limiter.check('shared', { policy })),
    );
    if (decisions.some(({ source }) => source === 'degraded')) throw new Error('the store failed');
    return decisions.filter(({ allowed }) => allowed).length;
  }),
);
process.send?.(passed);
redis.disconnect();
