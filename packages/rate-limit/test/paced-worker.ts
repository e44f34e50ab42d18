import { Redis } from 'ioredis';
import { Agent, request } from 'undici';
import { createRateLimiter, fixedWindow, type RateLimitError } from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';
import { pace } from '../src/undici.ts';

/** Another process that sends requests to a server, at a pace that it shares; reports why it could not. */
const [url = '', origin = ''] = process.argv.slice(2);
const redis = new Redis(url);
const limiter = createRateLimiter({
  store: redisRateLimitStore(redis),
  policies: { p: [fixedWindow({ limit: 1000, windowSeconds: 31_622_400 })] },
  timeoutMs: 10_000,
});
const dispatcher = new Agent().compose(pace(limiter, { maxWaitMs: 100 }));
await request(origin, { dispatcher }).catch(({ code, retryAfterMs }: RateLimitError) =>
  process.send?.({ code, retryAfterMs }),
);
redis.disconnect();
