import {
  createApiKeys,
  createLeakReceiver,
  githubKeys,
  memoryApiKeyStore,
  secretScanningPattern,
  secretScanningRules,
} from '@countersign/api-keys';
import { apiKeyGuard } from '@countersign/api-keys/guard';
import { redisApiKeyStore } from '@countersign/api-keys/redis';
import { Redis } from 'ioredis';
import { afterAll, describe, expect, it } from 'vitest';
import { managed, PEPPER_1 } from './fixtures.ts';

const { keys, store } = managed();
const redis = new Redis({ lazyConnect: true });
afterAll(() => redis.disconnect());

/** Everything that takes options when it is made. */
const makers: Readonly<Record<string, (options: object) => unknown>> = {
  createApiKeys: (options) => createApiKeys({ store, peppers: [PEPPER_1], ...options }),
  'createApiKeys cache': (cache) => createApiKeys({ store, peppers: [PEPPER_1], cache }),
  apiKeyGuard: (options) => apiKeyGuard(keys, options),
  memoryApiKeyStore: (options) => memoryApiKeyStore(options),
  redisApiKeyStore: (options) => redisApiKeyStore(redis, options),
  createLeakReceiver: (options) => createLeakReceiver({ keys, ...options }),
  githubKeys: (options) => githubKeys(options),
  secretScanningPattern: (options) => secretScanningPattern(options),
  secretScanningRules: (options) => secretScanningRules(options),
};

describe('at construction', () => {
  it.each(Object.entries(makers))('%s takes no option that it does not know', (_, make) => {
    for (const name of ['scope', 'ttl', 'constructor', '__proto__x'])
      expect(() => make({ [name]: 1 })).toThrow(new TypeError(`${name}: there is no such option`));
    expect(() => make({})).not.toThrow();
  });

  it.each([
    ['createApiKeys', { now: 5 }, /^now /],
    ['createApiKeys', { legacy: 'old_' }, /^legacy /],
    ['createApiKeys cache', { ttlMs: 1.5 }, /^cache.ttlMs /],
    ['apiKeyGuard', { scopes: 'orders:read' }, /^scopes /],
    ['apiKeyGuard', { scopes: ['orders:read', undefined] }, /^scopes /],
    ['apiKeyGuard', { scopes: ['a"b'] }, /^scopes /],
    ['apiKeyGuard', { resource: 'projects/42' }, /^resource /],
    ['apiKeyGuard', { header: 'authorization' }, /^header /],
    ['apiKeyGuard', { warnWithinDays: Number.NaN }, /^warnWithinDays /],
    ['apiKeyGuard', { warnWithinDays: -1 }, /^warnWithinDays /],
    ['apiKeyGuard', { now: 5 }, /^now /],
    ['memoryApiKeyStore', { maxKeys: Number.NaN }, /^maxKeys /],
    ['memoryApiKeyStore', { maxKeys: 0 }, /^maxKeys /],
    ['memoryApiKeyStore', { retentionMs: -1 }, /^retentionMs /],
    ['memoryApiKeyStore', { maxTrail: '7' }, /^maxTrail /],
    ['redisApiKeyStore', { prefix: 5 }, /^prefix /],
    ['redisApiKeyStore', { timeoutMs: 0 }, /^timeoutMs/],
    ['redisApiKeyStore', { retentionMs: Number.NaN }, /^retentionMs /],
    // LTRIM to none would keep them all.
    ['redisApiKeyStore', { maxTrail: 0 }, /^maxTrail /],
    ['redisApiKeyStore', { now: 5 }, /^now /],
    ['createLeakReceiver', { keys: [{}] }, /^keys /],
    ['createLeakReceiver', { maxBodyBytes: Number.NaN }, /^maxBodyBytes /],
    ['createLeakReceiver', { publicKeys: {} }, /^publicKeys /],
    ['githubKeys', { fetch: 'https://api.github.com' }, /^fetch /],
  ])('%s refuses %j, naming it', (name, wrong, message) => {
    expect(() => makers[name]?.(wrong)).toThrow(TypeError);
    expect(() => makers[name]?.(wrong)).toThrow(message);
  });

  it('apiKeyGuard needs keys', () => {
    expect(() => apiKeyGuard(undefined as never)).toThrow(/^keys /);
  });
});

describe('of a call', () => {
  const grant = { owner: 'a', scopes: ['x'] };

  it.each([
    ['create', () => keys.create({ ...grant, ipAllowList: ['10.0.0.0/8'] } as never)],
    ['create', () => keys.create({ ...grant, expiresInDay: 1 } as never)],
    ['create', () => keys.create({ ...grant, rateLimit: { policy: 'p', cost: 2 } } as never)],
    ['create', () => keys.create(undefined as never)],
    ['list', () => keys.list(undefined as never)],
    ['revoke', () => keys.revoke('x', null as never)],
    ['rotate', () => keys.rotate('x', undefined as never)],
    ['rotate', () => keys.rotate('x', { overlapSeconds: 1, expires: 1 } as never)],
    ['revoke', () => keys.revoke('x', { reason: 'r', by: 'me' } as never)],
    ['list', () => keys.list({ owner: 'a', offset: 5 } as never)],
    ['list', () => keys.list({ limit: 5 } as never)],
    ['dueForRotation', () => keys.dueForRotation({ days: 5 } as never)],
    ['importHash', () => keys.importHash({ ...grant, sha256: 'a'.repeat(64), ips: [] } as never)],
  ])('%s refuses what it does not know, and does nothing', async (_, call) => {
    await expect(call()).rejects.toMatchObject({ code: 'ERR_API_KEYS_INVALID' });
    expect((await keys.list({ owner: 'a' })).records).toEqual([]);
  });

  it('verify takes no misspelt requirement for none', async () => {
    const { key } = await managed({ store }).keys.create({ owner: 'b', scopes: [] });
    for (const misspelt of [{ scope: ['admin'] }, { resources: ['a'] }, { IP: '10.0.0.1' }]) {
      const result = await keys.verify(key, misspelt as never);
      const [name] = Object.keys(misspelt);
      expect(result).toMatchObject({
        status: 'unavailable',
        error: new TypeError(`${name}: there is no such option`),
      });
    }
    expect((await keys.verify(key, {})).status).toBe('valid');
    expect((await keys.verify(key, null as never)).status).toBe('unavailable');
    // What every object has, because somebody gave it to Object.prototype, is nobody's mistake here.
    expect((await keys.verify(key, Object.create({ polluted: true }))).status).toBe('valid');
  });
});
