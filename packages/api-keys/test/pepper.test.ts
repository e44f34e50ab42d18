import { createHmac, createSecretKey } from 'node:crypto';
import { type ApiKeysOptions, memoryApiKeyStore } from '@countersign/api-keys';
import { describe, expect, it } from 'vitest';
import { checksum } from '../src/checksum.ts';
import { collect, managed, PEPPER_1, PEPPER_2 } from './fixtures.ts';

describe('pepper ring', () => {
  it('stores HMAC-SHA256 of the key under the first pepper', async () => {
    const { keys, store } = managed({ peppers: [PEPPER_2, PEPPER_1] });
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    const expected = createHmac('sha256', '2'.repeat(32)).update(key).digest('base64url');
    expect((await store.find(record.id))?.digest).toBe(expected);
    expect(record.pepperId).toBe('p2');
  });

  it.each<[string, ApiKeysOptions['peppers'], ApiKeysOptions['peppers'], string | undefined]>([
    ['to a new pepper', [PEPPER_1], [PEPPER_2, PEPPER_1], 'p2'],
    ['from plain SHA-256', 'none', [PEPPER_1], 'p1'],
  ])('moves a key %s at its first use', async (_, before, after, pepperId) => {
    const store = memoryApiKeyStore();
    const { key, record } = await managed({ store, peppers: before }).keys.create({
      owner: 'a',
      scopes: [],
    });
    const first = await store.find(record.id);
    const { keys } = managed({ store, peppers: after });
    const { events, stop } = collect('rehashed');
    expect((await keys.verify(key)).status).toBe('valid');
    await keys.close();
    stop();
    const second = await store.find(record.id);
    expect(second?.digest).not.toBe(first?.digest);
    expect(second?.record.pepperId).toBe(pepperId);
    expect(events).toEqual([{ id: record.id, pepperId }]);
    const only = managed({ store, peppers: [after[0] as typeof PEPPER_1] }).keys;
    expect((await only.verify(key)).status).toBe('valid');
  });

  it('changes while processes with the old list are at work, when all of them have the new pepper first', async () => {
    const store = memoryApiKeyStore();
    const deployments: ApiKeysOptions['peppers'][] = [
      [PEPPER_1],
      [PEPPER_1, PEPPER_2],
      [PEPPER_2, PEPPER_1],
      [PEPPER_2],
    ];
    const issued: string[] = [];
    // Two deployments at a time share the work, each with what the other issues and hashes anew.
    for (const [step, newer] of deployments.entries()) {
      const older = deployments[Math.max(0, step - 1)] as typeof newer;
      const processes = [older, newer].map((peppers) => managed({ store, peppers }).keys);
      for (const keys of processes)
        issued.push((await keys.create({ owner: 'a', scopes: [] })).key);
      for (const keys of [...processes, ...processes]) {
        for (const key of issued) expect((await keys.verify(key)).status).toBe('valid');
        await keys.close();
      }
    }
  });

  it('refuses a key whose pepper is gone, and leaves its digest alone', async () => {
    const store = memoryApiKeyStore();
    const { key, record } = await managed({ store }).keys.create({ owner: 'a', scopes: [] });
    const { keys } = managed({ store, peppers: [PEPPER_2] });
    const before = await store.find(record.id);
    expect(await keys.verify(key)).toEqual({ status: 'unknown' });
    await keys.close();
    expect(await store.find(record.id)).toBe(before);
    const plain = managed({ store, peppers: 'none' });
    expect(await plain.keys.verify(key)).toEqual({ status: 'unknown' });
  });

  it('is worth what it promises: with another secret under the same id, nothing verifies', async () => {
    const store = memoryApiKeyStore();
    const { key } = await managed({ store }).keys.create({ owner: 'a', scopes: [] });
    const { keys } = managed({ store, peppers: [{ id: 'p1', secret: 'x'.repeat(32) }] });
    expect(await keys.verify(key)).toEqual({ status: 'unknown' });
  });

  it('verifies nothing by a digest copied from one record to another', async () => {
    const { keys, store } = managed({ cache: false });
    const mine = await keys.create({ owner: 'mallory', scopes: [] });
    const theirs = await keys.create({ owner: 'alice', scopes: ['admin'] });
    const [from, to] = [await store.find(theirs.record.id), await store.find(mine.record.id)];
    await store.rehash(theirs.record.id, from?.digest ?? '', {
      digest: to?.digest ?? '',
      pepperId: 'p1',
    });
    const body = theirs.key.slice(8, 24) + mine.key.slice(24, -6);
    expect((await keys.verify(`sk-live-${body}${checksum(body)}`)).status).toBe('unknown');
    expect((await keys.verify(theirs.key)).status).toBe('unknown');
  });

  it('takes secrets as text, bytes, KeyObject or from a provider', async () => {
    const secrets = [
      '1'.repeat(32),
      Buffer.from('1'.repeat(32)),
      createSecretKey(Buffer.from('1'.repeat(32))),
      async () => '1'.repeat(32),
    ];
    const store = memoryApiKeyStore();
    const { key } = await managed({ store }).keys.create({ owner: 'a', scopes: [] });
    for (const secret of secrets) {
      const { keys } = managed({ store, peppers: [{ id: 'p1', secret }] });
      expect((await keys.verify(key)).status).toBe('valid');
    }
  });

  it('asks a provider once, and again after a failure', async () => {
    let asked = 0;
    const secret = async () => {
      asked += 1;
      if (asked === 1) throw new Error('vault sealed');
      return '1'.repeat(32);
    };
    const store = memoryApiKeyStore();
    const { key } = await managed({ store }).keys.create({ owner: 'a', scopes: [] });
    const { keys } = managed({ store, cache: false, peppers: [{ id: 'p1', secret }] });
    expect(await keys.verify(key)).toMatchObject({
      status: 'unavailable',
      error: new Error('vault sealed'),
    });
    const results = await Promise.all([keys.verify(key), keys.verify(key), keys.verify(key)]);
    expect(results.map(({ status }) => status)).toEqual(['valid', 'valid', 'valid']);
    expect(asked).toBe(2);
  });

  it('answers unavailable when a provider gives a secret that is too short', async () => {
    const { keys } = managed({ peppers: [{ id: 'p1', secret: async () => 'short' }] });
    const { key } = await managed().keys.create({ owner: 'a', scopes: [] });
    expect((await keys.verify(key)).status).toBe('unavailable');
    await expect(keys.create({ owner: 'a', scopes: [] })).rejects.toThrow(/32 bytes/);
  });
});
