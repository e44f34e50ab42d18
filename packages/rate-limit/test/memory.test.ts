import { expect, test } from 'vitest';
import { memoryRateLimitStore, slidingWindow } from '../src/index.ts';
import { rateLimitStoreContract } from './store.contract.ts';

rateLimitStoreContract('memory', (now) => memoryRateLimitStore({ now }));

test('remembers a bounded number of subjects, those seen last', () => {
  const store = memoryRateLimitStore({ maxSubjects: 100 });
  const policies = [slidingWindow({ limit: 5, windowSeconds: 60 })];
  const seen = (subject: string): unknown => store.consume('c', subject, policies, 1, 'take', 0, 0);
  for (let index = 0; index < 10_000; index += 1) {
    seen(`attacker-${index}`);
    seen('regular');
  }
  expect(store.size).toBeLessThanOrEqual(100);
  expect(seen('regular')).toMatchObject({ granted: false });
});

test('a peek at a subject that was never seen leaves nothing behind', () => {
  const store = memoryRateLimitStore();
  store.consume('c', 's', [slidingWindow({ limit: 5, windowSeconds: 60 })], 1, 'peek', 0, 0);
  expect(store.size).toBe(0);
});

test.each([0, -1, 1.5, Number.NaN])('refuses maxSubjects: %d', (maxSubjects) => {
  expect(() => memoryRateLimitStore({ maxSubjects })).toThrow(/^maxSubjects: /);
});
