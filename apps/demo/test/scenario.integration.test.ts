import { type RedisServer, startRedis } from '@countersign/testkit/redis';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { record } from '../src/expectations.ts';
import { runScenario } from '../src/scenario.ts';
import { startSystem } from '../src/system.ts';

let redis: RedisServer;

beforeAll(async () => {
  redis = await startRedis();
});

afterAll(async () => {
  await redis.stop();
});

describe('the whole system', () => {
  test.each([
    ['in memory', () => undefined],
    ['as two instances of payments that share Redis', () => redis.url],
  ])('does its job %s', async (_where, redisUrl) => {
    const system = await startSystem(redisUrl());
    try {
      const notes = record(() => undefined);
      await runScenario(system, notes);
      expect(notes.expectations.length).toBeGreaterThan(20);
      expect(notes.expectations.filter(({ held }) => !held)).toEqual([]);
    } finally {
      await system.stop();
    }
  });
});
