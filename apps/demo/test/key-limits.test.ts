import { createApiKeys, memoryApiKeyStore } from '@countersign/api-keys';
import { apiKeyGuard } from '@countersign/api-keys/guard';
import { chain, type GuardRequest } from '@countersign/guard';
import { createRateLimiter, defaultTiers, memoryRateLimitStore } from '@countersign/rate-limit';
import { rateLimitGuard } from '@countersign/rate-limit/guard';
import { expect, test } from 'vitest';
import { keyLimits } from '../src/key-limits.ts';

const keys = createApiKeys({
  store: memoryApiKeyStore(),
  peppers: 'none',
  prefix: 'sk',
  environment: 'live',
});
const limits = keyLimits();
const limiter = createRateLimiter({
  store: memoryRateLimitStore(),
  policies: defaultTiers,
  overrides: limits.limitsOf,
});
const guards = chain()
  .use('principal', apiKeyGuard(keys, { scopes: ['payments:read'] }))
  .use(
    'limit',
    rateLimitGuard(limiter, {
      key: (_request, { principal }) => limits.subjectOf(principal.record),
      policy: 'free',
    }),
  );

async function statuses(key: string, times: number): Promise<readonly (number | 'passed')[]> {
  const headers = new Map([['authorization', `ApiKey ${key}`]]);
  const request = {
    method: 'GET',
    path: '/payments',
    query: new URLSearchParams(),
    headers: {
      get: (name: string) => headers.get(name.toLowerCase()),
      all: (name: string) => [headers.get(name.toLowerCase()) ?? []].flat(),
    },
    remoteAddress: '127.0.0.1',
    secure: true,
    signal: new AbortController().signal,
    rawBody: async () => new Uint8Array(),
  } satisfies GuardRequest;
  const seen: (number | 'passed')[] = [];
  for (let time = 0; time < times; time += 1) {
    const verdict = await guards(request, {});
    seen.push(verdict.pass ? 'passed' : verdict.status);
  }
  return seen;
}

test('a key is charged what it declares', async () => {
  const rateLimit = { limit: 2, windowSeconds: 3600 };
  const { key } = await keys.create({ owner: 'a', scopes: ['payments:read'], rateLimit });
  expect(await statuses(key, 3)).toEqual(['passed', 'passed', 429]);
});

test('a key can be used as often as it says, and no more', async () => {
  const { key } = await keys.create({ owner: 'b', scopes: ['payments:read'], maxUses: 3 });
  expect(await statuses(key, 5)).toEqual(['passed', 'passed', 'passed', 429, 429]);
});

test('a request that is refused for another reason uses nothing up', async () => {
  const { key, record } = await keys.create({ owner: 'c', scopes: ['orders:read'], maxUses: 1 });
  expect(await statuses(key, 2)).toEqual([403, 403]);
  expect((await limiter.peek(limits.subjectOf(record), { policy: 'free' })).remaining).toBe(1);
});

test('a key that declares nothing is charged to its owner', async () => {
  const { key, record } = await keys.create({ owner: 'd', scopes: ['payments:read'] });
  expect(limits.subjectOf(record)).toBe('d');
  expect(await statuses(key, 61)).toEqual([...Array.from({ length: 60 }, () => 'passed'), 429]);
});
