import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { memoryRateLimitStore } from '../src/index.ts';
import { redisRateLimitStore } from '../src/redis.ts';
import { policies, program, run } from './programs.ts';

const start = Date.UTC(2026, 0, 1);
let server: RedisServer;
let cluster: RedisClusterServers;
beforeAll(async () => {
  [server, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
});
afterAll(() => Promise.all([server.stop(), cluster.stop()]));

describe('the same program gets the same answers', () => {
  test.each(['single', 'cluster'])('from memory and from Redis (%s)', async (topology) => {
    const client = topology === 'single' ? server.client() : cluster.client();
    let subject = 0;
    await fc.assert(
      fc.asyncProperty(policies, program, async (first, steps) => {
        const inMemory = { ms: start };
        const inRedis = { ms: start };
        subject += 1;
        const expected = await run(
          memoryRateLimitStore({ now: () => inMemory.ms }),
          inMemory,
          'x',
          first,
          steps,
        );
        const store = redisRateLimitStore(client, { now: () => inRedis.ms });
        expect(await run(store, inRedis, `s${subject}`, first, steps)).toEqual(expected);
      }),
      { numRuns: topology === 'single' ? 600 : 150 },
    );
  });

  test('and every key that programs leave behind ends', async () => {
    const redis = server.client();
    const keys = await redis.keys('*');
    expect(keys.length).toBeGreaterThan(0);
    const lives = await Promise.all(keys.map((key) => redis.pttl(key)));
    expect(lives.filter((ms) => ms < 0 && ms !== -2)).toEqual([]);
  });
});
