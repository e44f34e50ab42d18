import { createHash } from 'node:crypto';
import type { VerifyResult } from '@countersign/api-keys';
import { createApiKeys, memoryApiKeyStore } from '@countersign/api-keys';
import { describe, expect, expectTypeOf, it } from 'vitest';
import { collect, counted, DAY_MS, managed, PEPPER_1 } from './fixtures.ts';

describe('verify', () => {
  it('accepts a key that was created, with its record', async () => {
    const { keys } = managed();
    const { key, record } = await keys.create({ owner: 'acme', scopes: ['orders:read'] });
    expect(await keys.verify(key, { scopes: ['orders:read'] })).toEqual({
      status: 'valid',
      record,
    });
  });

  it('answers with the closed union', () => {
    expectTypeOf<VerifyResult['status']>().toEqualTypeOf<
      | 'valid'
      | 'malformed'
      | 'unknown'
      | 'wrong_environment'
      | 'expired'
      | 'revoked'
      | 'insufficient_scope'
      | 'ip_denied'
      | 'unavailable'
    >();
  });

  it('never throws, whatever is presented and whatever the store does', async () => {
    const broken = {
      ...memoryApiKeyStore(),
      find: () => {
        throw new Error('down');
      },
    };
    const { keys } = managed({ store: broken });
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    for (const junk of [undefined, null, 7, {}, '', 'sk-live-', '\u0000']) {
      expect(await keys.verify(junk as string)).toEqual({ status: 'malformed' });
    }
    expect(await keys.verify(key)).toMatchObject({
      status: 'unavailable',
      error: new Error('down'),
    });
  });

  it('says unavailable, and not unknown, when the store rejects', async () => {
    const store = { ...memoryApiKeyStore(), find: () => Promise.reject(new Error('down')) };
    const { keys } = managed({ store });
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    const { events, stop } = collect('store-error');
    expect((await keys.verify(key)).status).toBe('unavailable');
    expect(events).toMatchObject([{ operation: 'verify' }]);
    stop();
  });

  it('does not tell a wrong secret from an unknown id', async () => {
    const { keys } = managed();
    const other = managed();
    await keys.create({ owner: 'a', scopes: [] });
    const { key } = await other.keys.create({ owner: 'a', scopes: [] });
    expect(await keys.verify(key)).toEqual({ status: 'unknown' });
  });

  it('refuses a test key dressed up as a live one, or a publishable as a secret one', async () => {
    const store = memoryApiKeyStore();
    const test = managed({ store, environment: 'test' });
    const live = managed({ store });
    const { key } = await test.keys.create({ owner: 'a', scopes: [] });
    expect((await test.keys.verify(key)).status).toBe('valid');
    expect((await live.keys.verify(key)).status).toBe('wrong_environment');
    expect((await live.keys.verify(key.replace('-test-', '-live-'))).status).toBe('unknown');
    const publishable = managed({ store, prefix: 'pk' });
    const issued = await publishable.keys.create({ owner: 'a', scopes: [] });
    expect((await live.keys.verify(issued.key.replace('pk-', 'sk-'))).status).toBe('unknown');
  });

  it('refuses from the very millisecond of expiry', async () => {
    const { keys, clock } = managed();
    const { key } = await keys.create({ owner: 'a', scopes: [], expiresInDays: 1 });
    clock.ms += DAY_MS - 1;
    expect((await keys.verify(key)).status).toBe('valid');
    clock.ms += 1;
    expect((await keys.verify(key)).status).toBe('expired');
  });

  it('requires every scope, and understands the hierarchy', async () => {
    const { keys } = managed();
    const { key, record } = await keys.create({ owner: 'a', scopes: ['orders:*', 'users:read'] });
    const status = async (...scopes: string[]) => (await keys.verify(key, { scopes })).status;
    expect(await status('orders:read', 'users:read')).toBe('valid');
    expect(await status('orders:read:own')).toBe('valid');
    expect(await status('orders')).toBe('insufficient_scope');
    expect(await status('ordersx:read')).toBe('insufficient_scope');
    expect(await status('orders:')).toBe('insufficient_scope');
    expect(await status('orders:read', 'users:write')).toBe('insufficient_scope');
    expect(await keys.verify(key, { scopes: ['users:write'] })).toEqual({
      status: 'insufficient_scope',
      id: record.id,
    });
  });

  it('refuses a key limited to resources where none is named', async () => {
    const { keys } = managed();
    const { key } = await keys.create({
      owner: 'a',
      scopes: [],
      resources: ['projects/42/**', 'teams/*/logs'],
    });
    const status = async (resource?: string) =>
      (await keys.verify(key, resource === undefined ? {} : { resource })).status;
    expect(await status('projects/42/files/1')).toBe('valid');
    expect(await status('teams/7/logs')).toBe('valid');
    for (const other of [
      undefined,
      '',
      'projects/42',
      'projects/421/x',
      'projects/42/../43/x',
      'teams/7/8/logs',
      'teams//logs',
      // As URL parsers read them (WHATWG URL, "double-dot URL path segment").
      'projects/42/%2e%2E/43/x',
      'projects/42/.%2e/43/x',
      'projects/42/%2e/x',
      'projects/42/..\\..\\43',
    ]) {
      expect(await status(other)).toBe('insufficient_scope');
    }
  });

  it('holds keys to their addresses, IPv6 included', async () => {
    const { keys } = managed();
    const { key } = await keys.create({
      owner: 'a',
      scopes: [],
      ipAllowlist: ['10.0.0.0/8', '2001:db8::/32', '192.0.2.7', '::ffff:198.51.100.0/120'],
    });
    const status = async (ip?: string) =>
      (await keys.verify(key, ip === undefined ? {} : { ip })).status;
    for (const allowed of [
      '10.255.0.1',
      '::ffff:10.1.2.3',
      '2001:db8:1::1',
      '2001:DB8::1',
      '192.0.2.7',
      '198.51.100.200',
    ]) {
      expect(await status(allowed)).toBe('valid');
    }
    for (const denied of [
      undefined,
      '',
      '11.0.0.1',
      '::ffff:11.0.0.1',
      '2001:db9::1',
      '192.0.2.8',
      '::1',
      '10.1',
      '::ffff:010.1.2.3',
      '::ffff:0x0a.1.2.3',
      '::10.1.2.3', // IPv4-compatible, deprecated (RFC 4291 §2.5.5.1): another address than 10.1.2.3
      'junk',
    ]) {
      expect(await status(denied)).toBe('ip_denied');
    }
  });

  it('tells revoked before expired, and both before what the key may do', async () => {
    const { keys, clock } = managed();
    const { key, record } = await keys.create({
      owner: 'a',
      scopes: [],
      expiresInDays: 1,
      ipAllowlist: ['10.0.0.1'],
    });
    expect((await keys.verify(key, { scopes: ['x'] })).status).toBe('ip_denied');
    clock.ms += DAY_MS;
    expect((await keys.verify(key)).status).toBe('expired');
    await keys.revoke(record.id, { reason: 'lost' });
    expect((await keys.verify(key)).status).toBe('revoked');
  });

  it('reports refusals without the key, and whether the secret matched', async () => {
    const { keys } = managed();
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    const { events, stop } = collect('denied');
    await keys.verify(key, { scopes: ['x'], ip: '192.0.2.9' });
    await keys.verify('junk');
    stop();
    expect(events).toEqual([
      { status: 'insufficient_scope', proved: true, id: record.id, ip: '192.0.2.9' },
      { status: 'malformed', proved: false },
    ]);
    expect(JSON.stringify(events)).not.toContain(key.slice(-38));
  });

  it('asks the store once for a key and not at all for the next five seconds', async () => {
    const { store, finds } = counted(memoryApiKeyStore());
    const { keys, clock } = managed({ store });
    const { key } = await keys.create({ owner: 'a', scopes: ['x'] });
    for (let call = 0; call < 10; call += 1) expect((await keys.verify(key)).status).toBe('valid');
    expect(finds()).toBe(1);
    expect((await keys.verify(key, { scopes: ['y'] })).status).toBe('insufficient_scope');
    clock.ms += 4_999;
    expect((await keys.verify(key)).status).toBe('valid');
    expect(finds()).toBe(1);
    clock.ms += 1;
    await keys.verify(key);
    expect(finds()).toBe(2);
  });

  it('is configured without surprises', () => {
    const store = memoryApiKeyStore();
    const make = (options: object) => () =>
      createApiKeys({ store, peppers: [PEPPER_1], ...options });
    expect(make({ store: undefined })).toThrow(/store/);
    expect(make({ peppers: undefined })).toThrow(/peppers/);
    expect(make({ peppers: [] })).toThrow(/peppers/);
    expect(make({ peppers: [{ id: 'p', secret: 'short' }] })).toThrow(/32 bytes/);
    expect(make({ peppers: [{ id: 'p', secret: '' }] })).toThrow(/32 bytes/);
    expect(make({ peppers: [PEPPER_1, PEPPER_1] })).toThrow(/twice/);
    expect(make({ maxAgeDays: 0 })).toThrow(/maxAgeDays/);
    expect(make({ cache: { ttlMs: -1 } })).toThrow(/ttlMs/);
    expect(make({ environment: 'a-b' })).toThrow(/environment/);
  });
});

describe('environments that share a store', () => {
  const legacy = (text: string) => (text.startsWith('old_') ? {} : undefined);
  const sha256 = createHash('sha256').update('old_1').digest('hex');

  it('keeps a legacy key in the environment that it was imported into, cached or not', async () => {
    const { keys: test, store } = managed({ environment: 'test', legacy });
    const { keys: live } = managed({ environment: 'live', legacy, store });
    await test.importHash({ sha256, owner: 'acme', scopes: [] });
    expect(await test.verify('old_1')).toMatchObject({ status: 'valid' });
    for (let times = 0; times < 2; times += 1)
      expect(await live.verify('old_1')).toEqual({ status: 'wrong_environment' });
  });

  it('makes no successor of another environment or prefix', async () => {
    const { keys: test, store } = managed({ environment: 'test' });
    const { record } = await test.create({ owner: 'acme', scopes: ['*'] });
    for (const other of [{}, { environment: 'test', prefix: 'pk' }]) {
      const { keys } = managed({ ...other, store });
      await expect(keys.rotate(record.id, { overlapSeconds: 1 })).rejects.toMatchObject({
        code: 'ERR_API_KEYS_INVALID',
      });
    }
    expect((await store.find(record.id))?.record.successorId).toBeUndefined();
  });
});

describe('a store that cannot be listened to', () => {
  it('makes the answer unavailable, and nothing throw', async () => {
    const { keys, store } = managed();
    const { key } = await keys.create({ owner: 'acme', scopes: [] });
    const error = new Error('no connection');
    const subscribe = (): never => {
      throw error;
    };
    const { keys: deaf } = managed({ store: { ...store, subscribe } });
    expect(await deaf.verify(key)).toEqual({ status: 'unavailable', error });
  });
});
