import { createHash } from 'node:crypto';
import { type CreateKey, type Legacy, memoryApiKeyStore } from '@countersign/api-keys';
import { describe, expect, it } from 'vitest';
import { collect, counted, managed } from './fixtures.ts';

const OLD_KEY = 'old_3fbb1c9e7a';
const GRANT: CreateKey = { owner: 'acme', scopes: ['orders:read'] };

function oldSystem(known = true): { legacy: Legacy; asked: () => number } {
  let asked = 0;
  const lookup = async (): Promise<CreateKey | undefined> => {
    asked += 1;
    return known ? GRANT : undefined;
  };
  return {
    legacy: (text) => (text.startsWith('old_') ? { lookup } : undefined),
    asked: () => asked,
  };
}

const sha256 = (text: string, encoding: 'hex' | 'base64' | 'base64url') =>
  createHash('sha256').update(text).digest(encoding);

describe('legacy keys', () => {
  it('are looked up once, given a peppered record, and need the old system no more', async () => {
    const { legacy, asked } = oldSystem();
    const { keys, store } = managed({ legacy, cache: false });
    const { events, stop } = collect('adopted');
    const first = await keys.verify(OLD_KEY, { scopes: ['orders:read'] });
    stop();
    expect(first).toMatchObject({
      status: 'valid',
      record: { owner: 'acme', legacy: true, pepperId: 'p1' },
    });
    expect(events).toHaveLength(1);
    expect(await keys.verify(OLD_KEY)).toMatchObject({ status: 'valid' });
    expect(asked()).toBe(1);
    const { keys: without } = managed({
      store,
      legacy: (text) => (text.startsWith('old_') ? {} : undefined),
    });
    expect((await without.verify(OLD_KEY)).status).toBe('valid');
  });

  it('can be revoked for good, although the old system still knows them', async () => {
    const { legacy, asked } = oldSystem();
    const { keys } = managed({ legacy });
    const result = await keys.verify(OLD_KEY);
    if (result.status !== 'valid') throw new Error(result.status);
    await keys.revoke(result.record.id, { reason: 'lost' });
    expect((await keys.verify(OLD_KEY)).status).toBe('revoked');
    expect(asked()).toBe(1);
  });

  it('can be rotated into keys of the new format', async () => {
    const { keys } = managed({ legacy: oldSystem().legacy });
    const result = await keys.verify(OLD_KEY);
    if (result.status !== 'valid') throw new Error(result.status);
    const { key, record } = await keys.rotate(result.record.id, { overlapSeconds: 60 });
    expect(key).toMatch(/^sk-live-/);
    expect(record).toMatchObject({ owner: 'acme', scopes: ['orders:read'] });
    expect(record).not.toHaveProperty('legacy');
  });

  it('are adopted once when presented many times at once', async () => {
    const { keys, store } = managed({ legacy: oldSystem().legacy, cache: false });
    const results = await Promise.all(Array.from({ length: 8 }, () => keys.verify(OLD_KEY)));
    expect(results.every(({ status }) => status === 'valid')).toBe(true);
    expect((await store.list('acme', {})).records).toHaveLength(1);
  });

  it('unknown to the old system are unknown, and remembered as such for a while', async () => {
    const { legacy, asked } = oldSystem(false);
    const { keys, clock } = managed({ legacy });
    expect((await keys.verify(OLD_KEY)).status).toBe('unknown');
    expect((await keys.verify(OLD_KEY)).status).toBe('unknown');
    expect(asked()).toBe(1);
    clock.ms += 5000;
    await keys.verify(OLD_KEY);
    expect(asked()).toBe(2);
  });

  it('cost no I/O when they do not look like one', async () => {
    const { store, finds } = counted(memoryApiKeyStore());
    const { keys } = managed({ store, legacy: oldSystem().legacy });
    expect((await keys.verify('junk')).status).toBe('malformed');
    expect((await keys.verify(`old_${'x'.repeat(600)}`)).status).toBe('malformed');
    expect(finds()).toBe(0);
  });

  it.each([
    ['a promise', async () => ({})],
    ['a claim misspelt', () => ({ hash: 'x' })],
  ])(
    'make verify answer unavailable, not unknown, where `legacy` answers with %s',
    async (_, legacy) => {
      const { keys } = managed({ legacy: legacy as never });
      expect(await keys.verify(OLD_KEY)).toMatchObject({
        status: 'unavailable',
        error: expect.any(TypeError),
      });
    },
  );

  it('make verify answer unavailable while the old system is down', async () => {
    const legacy: Legacy = () => ({ lookup: () => Promise.reject(new Error('old database down')) });
    const { keys } = managed({ legacy });
    expect((await keys.verify(OLD_KEY)).status).toBe('unavailable');
    expect(
      (
        await managed({
          legacy: () => {
            throw new Error('bug');
          },
        }).keys.verify(OLD_KEY)
      ).status,
    ).toBe('unavailable');
  });
});

describe('imported hashes', () => {
  it.each(['hex', 'base64', 'base64url'] as const)(
    'verify the key they are of (%s), and get a pepper at first use',
    async (encoding) => {
      const { keys, store } = managed({
        legacy: (text) => (text.startsWith('old_') ? {} : undefined),
      });
      const record = await keys.importHash({ ...GRANT, sha256: sha256(OLD_KEY, encoding) });
      expect(record).toMatchObject({ owner: 'acme', legacy: true });
      expect(record).not.toHaveProperty('pepperId');
      expect((await keys.verify(OLD_KEY, { scopes: ['orders:read'] })).status).toBe('valid');
      expect((await keys.verify('old_other')).status).toBe('unknown');
      await keys.close();
      expect((await store.find(record.id))?.record.pepperId).toBe('p1');
      expect((await keys.verify(OLD_KEY)).status).toBe('valid');
    },
  );

  it('may be of a part of the key, as prefixed-api-key stores it', async () => {
    const legacy: Legacy = (text) => {
      const [, hashed] = /^acme_[^_]+_([^_]+)$/.exec(text) ?? [];
      return hashed === undefined ? undefined : { hashed };
    };
    const { keys } = managed({ legacy });
    await keys.importHash({ ...GRANT, sha256: sha256('51FwqftsmMDHHbJAMEXXHCgG', 'hex') });
    expect((await keys.verify('acme_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgG')).status).toBe('valid');
    expect((await keys.verify('acme_BRTRKFsL_51FwqftsmMDHHbJAMEXXHCgX')).status).toBe('unknown');
  });

  it('are found at once although the key was unknown a moment ago', async () => {
    const { keys } = managed({ legacy: () => ({}) });
    expect((await keys.verify(OLD_KEY)).status).toBe('unknown');
    await keys.importHash({ ...GRANT, sha256: sha256(OLD_KEY, 'hex') });
    expect((await keys.verify(OLD_KEY)).status).toBe('valid');
  });

  it('are imported once, and only when they are hashes', async () => {
    const { keys } = managed();
    const hash = sha256(OLD_KEY, 'hex');
    await keys.importHash({ ...GRANT, sha256: hash });
    await expect(keys.importHash({ ...GRANT, sha256: hash })).rejects.toMatchObject({
      code: 'ERR_API_KEYS_ALREADY_EXISTS',
    });
    const base64 = sha256(OLD_KEY, 'base64');
    for (const none of [
      'abc',
      undefined,
      5,
      `${hash.slice(0, -1)}g`,
      ` ${base64}`,
      `${base64.slice(0, 20)}*${base64.slice(20)}`,
      `${base64.slice(0, -1)}==`,
    ])
      await expect(keys.importHash({ ...GRANT, sha256: none as never })).rejects.toMatchObject({
        code: 'ERR_API_KEYS_INVALID',
      });
  });
});
