import { memoryApiKeyStore } from '@countersign/api-keys';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { collect, DAY_MS, managed, START_MS } from './fixtures.ts';

const settle = () => new Promise((resolve) => setImmediate(() => setImmediate(resolve)));

describe('create', () => {
  it('gives the key once and keeps all but the key', async () => {
    const { keys, store } = managed();
    const { key, record } = await keys.create({
      owner: 'acme',
      scopes: ['orders:*'],
      resources: ['projects/*'],
      expiresInDays: 30,
      rateLimit: { policy: 'partner' },
      maxUses: 1000,
      ipAllowlist: ['10.0.0.0/8'],
      metadata: { team: 'billing' },
    });
    expect(record).toEqual({
      id: key.slice(8, 24),
      display: key.slice(0, 16),
      environment: 'live',
      owner: 'acme',
      scopes: ['orders:*'],
      resources: ['projects/*'],
      rateLimit: { policy: 'partner' },
      maxUses: 1000,
      ipAllowlist: ['10.0.0.0/8'],
      metadata: { team: 'billing' },
      createdAtMs: START_MS,
      expiresAtMs: START_MS + 30 * DAY_MS,
      pepperId: 'p1',
    });
    const stored = await store.find(record.id);
    expect(stored?.record).toEqual(record);
    expect(JSON.stringify(stored)).not.toContain(key.slice(24, 56));
  });

  it('is not undone or widened by whoever holds the record', async () => {
    const { keys } = managed();
    const scopes = ['orders:read'];
    const { key, record } = await keys.create({ owner: 'a', scopes, metadata: { a: '1' } });
    scopes.push('admin');
    expect(() => (record.scopes as string[]).push('admin')).toThrow(TypeError);
    expect(() => {
      (record as { owner: string }).owner = 'b';
    }).toThrow(TypeError);
    expect(() => {
      (record.metadata as Record<string, string>)['a'] = '2';
    }).toThrow(TypeError);
    expect((await keys.verify(key, { scopes: ['admin'] })).status).toBe('insufficient_scope');
  });

  it('limits a life to 90 days unless another limit is configured by name', async () => {
    const { keys } = managed();
    const grant = { owner: 'a', scopes: [] };
    const lifetime = { code: 'ERR_API_KEYS_LIFETIME' };
    expect((await keys.create(grant)).record.expiresAtMs).toBe(START_MS + 90 * DAY_MS);
    await expect(keys.create({ ...grant, expiresInDays: 91 })).rejects.toMatchObject(lifetime);
    await expect(keys.create({ ...grant, expiresInDays: 'never' })).rejects.toMatchObject(lifetime);
    const year = managed({ maxAgeDays: 365 }).keys;
    expect((await year.create({ ...grant, expiresInDays: 365 })).record.expiresAtMs).toBe(
      START_MS + 365 * DAY_MS,
    );
    const unlimited = managed({ maxAgeDays: 'unlimited' }).keys;
    expect((await unlimited.create(grant)).record.expiresAtMs).toBe(START_MS + 90 * DAY_MS);
    const forever = await unlimited.create({ ...grant, expiresInDays: 'never' });
    expect(forever.record).not.toHaveProperty('expiresAtMs');
    expect((await unlimited.verify(forever.key)).status).toBe('valid');
  });

  it.each([
    [{ owner: '' }],
    [{ owner: 'a\nb' }],
    [{ owner: 'x'.repeat(201) }],
    [{ scopes: undefined }],
    [{ scopes: ['a b'] }],
    [{ scopes: ['a::b'] }],
    [{ scopes: ['*:read'] }],
    [{ scopes: ['or*'] }],
    [{ scopes: Array.from({ length: 101 }, (_, n) => `s${n}`) }],
    [{ resources: [] }],
    [{ resources: ['a//b'] }],
    [{ resources: ['a/../b'] }],
    [{ resources: ['**/b'] }],
    [{ ipAllowlist: [] }],
    [{ ipAllowlist: ['10.0.0.0/33'] }],
    [{ ipAllowlist: ['10.1/8'] }],
    [{ ipAllowlist: ['010.0.0.1'] }],
    [{ ipAllowlist: ['example.com'] }],
    [{ ipAllowlist: ['10.0.0.0/'] }],
    [{ expiresInDays: 0 }],
    [{ expiresInDays: Number.NaN }],
    [{ rateLimit: {} }],
    [{ rateLimit: { limit: 1.5, windowSeconds: 1 } }],
    [{ maxUses: 0 }],
    [{ metadata: { a: 1 } }],
    [{ metadata: { a: 'x'.repeat(5000) } }],
    [{ actor: '' }],
    [{ metadata: new Map([['a', 'b']]) }],
    [{ metadata: ['a'] }],
  ])('refuses %j', async (wrong) => {
    const { keys } = managed();
    await expect(
      keys.create({ owner: 'a', scopes: ['x'], ...(wrong as object) }),
    ).rejects.toMatchObject({
      name: 'ApiKeysError',
      code: 'ERR_API_KEYS_INVALID',
    });
  });

  it('refuses what JSON cannot say in the same way, and quotes nothing', async () => {
    const { keys } = managed();
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    for (const wrong of [1n, Symbol('x'), { toString: null }, key]) {
      const made = keys.create({ owner: 'a', scopes: [], ipAllowlist: [wrong as string] });
      await expect(made).rejects.toMatchObject({
        code: 'ERR_API_KEYS_INVALID',
        message: expect.not.stringContaining(key.slice(24, 56)),
      });
    }
  });

  it('survives a taken id and gives up when every id is taken', async () => {
    const memory = memoryApiKeyStore();
    let refusals = 2;
    const store = {
      ...memory,
      create: async (...args: Parameters<typeof memory.create>) =>
        refusals-- > 0 ? false : memory.create(...args),
    };
    const { keys } = managed({ store });
    expect((await keys.verify((await keys.create({ owner: 'a', scopes: [] })).key)).status).toBe(
      'valid',
    );
    refusals = 3;
    await expect(keys.create({ owner: 'a', scopes: [] })).rejects.toMatchObject({
      code: 'ERR_API_KEYS_ALREADY_EXISTS',
    });
  });
});

describe('rotate', () => {
  it('gives a successor with the same grant while the old key works on until the overlap ends', async () => {
    const { keys, clock } = managed();
    const old = await keys.create({
      owner: 'a',
      scopes: ['x'],
      expiresInDays: 30,
      ipAllowlist: ['10.0.0.1'],
      metadata: { a: 'b' },
    });
    clock.ms += 10 * DAY_MS;
    const next = await keys.rotate(old.record.id, { overlapSeconds: 3600 });
    const { scopes, ipAllowlist, metadata, owner } = old.record;
    expect(next.record).toMatchObject({
      scopes,
      ipAllowlist,
      metadata,
      owner,
      predecessorId: old.record.id,
      expiresAtMs: clock.ms + 30 * DAY_MS,
    });
    expect(next.key.slice(24)).not.toBe(old.key.slice(24));
    expect(await keys.get(old.record.id)).toMatchObject({
      successorId: next.record.id,
      rotatedAtMs: clock.ms,
    });
    const status = async (key: string) => (await keys.verify(key, { ip: '10.0.0.1' })).status;
    clock.ms += 3_600_000 - 1;
    expect([await status(old.key), await status(next.key)]).toEqual(['valid', 'valid']);
    clock.ms += 1;
    expect([await status(old.key), await status(next.key)]).toEqual(['expired', 'valid']);
  });

  it('never prolongs the old key, and at once ends it with no overlap', async () => {
    const { keys, clock } = managed();
    const old = await keys.create({ owner: 'a', scopes: [], expiresInDays: 1 });
    clock.ms += DAY_MS - 1000;
    await keys.rotate(old.record.id, { overlapSeconds: 86_400 });
    clock.ms += 1000;
    expect((await keys.verify(old.key)).status).toBe('expired');
    const other = await keys.create({ owner: 'a', scopes: [] });
    expect((await keys.verify(other.key)).status).toBe('valid');
    await keys.rotate(other.record.id, { overlapSeconds: 0 });
    expect((await keys.verify(other.key)).status).toBe('expired');
  });

  it('refuses what cannot be rotated', async () => {
    const { keys, clock } = managed();
    const rotate = (id: string) => keys.rotate(id, { overlapSeconds: 60 });
    await expect(rotate('0123456789abcdef')).rejects.toMatchObject({
      code: 'ERR_API_KEYS_NOT_FOUND',
    });
    const twice = await keys.create({ owner: 'a', scopes: [] });
    await rotate(twice.record.id);
    await expect(rotate(twice.record.id)).rejects.toMatchObject({
      code: 'ERR_API_KEYS_ALREADY_ROTATED',
    });
    const revoked = await keys.create({ owner: 'a', scopes: [] });
    await keys.revoke(revoked.record.id, { reason: 'lost' });
    await expect(rotate(revoked.record.id)).rejects.toMatchObject({ code: 'ERR_API_KEYS_REVOKED' });
    const expired = await keys.create({ owner: 'a', scopes: [], expiresInDays: 1 });
    clock.ms += DAY_MS;
    await expect(rotate(expired.record.id)).rejects.toMatchObject({ code: 'ERR_API_KEYS_EXPIRED' });
    await expect(keys.rotate(twice.record.id, { overlapSeconds: -1 })).rejects.toMatchObject({
      code: 'ERR_API_KEYS_INVALID',
    });
  });

  it('holds successors to a limit that is newer than the key', async () => {
    const store = memoryApiKeyStore();
    const before = managed({ store, maxAgeDays: 'unlimited' });
    const { record } = await before.keys.create({ owner: 'a', scopes: [], expiresInDays: 'never' });
    const { keys } = managed({ store, maxAgeDays: 30 });
    const next = await keys.rotate(record.id, { overlapSeconds: 60 });
    expect(next.record.expiresAtMs).toBe(START_MS + 30 * DAY_MS);
  });

  it('keeps a lineage in one Redis Cluster slot, whatever the length of the chain', async () => {
    const { keys } = managed();
    let { record } = await keys.create({ owner: 'a', scopes: [] });
    const lineage = record.id.slice(-8);
    for (let turn = 0; turn < 5; turn += 1) {
      ({ record } = await keys.rotate(record.id, { overlapSeconds: 60 }));
      expect(record.id.slice(-8)).toBe(lineage);
    }
  });
});

describe('revoke', () => {
  it('ends a key at once, cached or not, and spares its successor', async () => {
    const { keys } = managed();
    const old = await keys.create({ owner: 'a', scopes: [] });
    const next = await keys.rotate(old.record.id, { overlapSeconds: 60 });
    await keys.verify(old.key);
    expect(await keys.revoke(old.record.id, { reason: 'left the company' })).toMatchObject({
      revokedAtMs: START_MS,
      revokedReason: 'left the company',
    });
    expect(await keys.verify(old.key)).toEqual({ status: 'revoked', id: old.record.id });
    expect((await keys.verify(next.key)).status).toBe('valid');
  });

  it('says when there is nothing to revoke, and does not repeat a key given for an id', async () => {
    const { keys } = managed();
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    await expect(keys.revoke('0123456789abcdef', { reason: 'lost' })).rejects.toMatchObject({
      code: 'ERR_API_KEYS_NOT_FOUND',
    });
    const error = await keys.revoke(key, { reason: 'lost' }).catch((reason: unknown) => reason);
    expect(String(error)).not.toContain(key);
    await expect(keys.revoke(key, { reason: '' })).rejects.toMatchObject({
      code: 'ERR_API_KEYS_INVALID',
    });
  });
});

describe('upkeep', () => {
  it('lists what is due for rotation, soonest first, without what is already taken care of', async () => {
    const { keys } = managed();
    const create = (expiresInDays: number) =>
      keys.create({ owner: 'a', scopes: [], expiresInDays });
    const [late, soon, revoked, rotated] = [
      await create(13),
      await create(2),
      await create(3),
      await create(4),
    ];
    await create(15);
    await keys.revoke(revoked.record.id, { reason: 'lost' });
    const next = await keys.rotate(rotated.record.id, { overlapSeconds: 86_400 });
    const ids = (page: { records: readonly { id: string }[] }) => page.records.map(({ id }) => id);
    expect(ids(await keys.dueForRotation())).toEqual(
      [soon, next, late].map((created) => created.record.id),
    );
    expect(ids(await keys.dueForRotation({ withinDays: 2.5 }))).toEqual([soon.record.id]);
  });

  it('notes the last use at most once a minute, and not while the request waits', async () => {
    const memory = memoryApiKeyStore();
    let touches = 0;
    const store = {
      ...memory,
      touch: (...args: Parameters<typeof memory.touch>) => {
        touches += 1;
        return memory.touch(...args);
      },
    };
    const { keys, clock } = managed({ store });
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    const { events, stop } = collect('used');
    await keys.verify(key);
    expect(touches).toBe(0);
    await settle();
    expect(touches).toBe(1);
    clock.ms += 59_999;
    await keys.verify(key);
    await settle();
    expect(touches).toBe(1);
    clock.ms += 1;
    await keys.verify(key);
    await keys.close();
    stop();
    expect(touches).toBe(2);
    expect((await keys.get(record.id))?.lastUsedAtMs).toBe(clock.ms);
    const ours = events.filter(({ id }) => id === record.id);
    expect(ours.map(({ atMs }) => atMs)).toEqual([START_MS, clock.ms]);
  });

  it('loses a last use without anybody noticing but the event', async () => {
    const store = { ...memoryApiKeyStore(), touch: () => Promise.reject(new Error('down')) };
    const { keys } = managed({ store });
    const { key } = await keys.create({ owner: 'a', scopes: [] });
    const { events, stop } = collect('store-error');
    expect((await keys.verify(key)).status).toBe('valid');
    await keys.close();
    stop();
    expect(events).toContainEqual({ operation: 'touch', error: new Error('down') });
  });

  it('is asked for by a page of 1 to 1000, and takes no actor that is no text', async () => {
    const { keys } = managed({ audit: true });
    const { record } = await keys.create({ owner: 'a', scopes: [] });
    const invalid = { code: 'ERR_API_KEYS_INVALID' };
    for (const limit of [0, -1, 1001, Number.NaN, '5' as never])
      await expect(keys.trail(record.id, limit)).rejects.toMatchObject(invalid);
    for (const actor of ['', 'a\nb', 'x'.repeat(201), {} as never]) {
      const options = { overlapSeconds: 0, actor };
      await expect(keys.rotate(record.id, options)).rejects.toMatchObject(invalid);
    }
  });

  it('keeps a trail in the store where asked to, and none otherwise', async () => {
    const { keys, clock } = managed({ audit: true });
    const { key, record } = await keys.create({ owner: 'a', scopes: [], actor: 'ada' });
    await keys.verify(key, { ip: '192.0.2.1' });
    await keys.verify(key, { scopes: ['x'], ip: '192.0.2.1' });
    await keys.verify(key, { scopes: ['x'], ip: '192.0.2.1' });
    await settle();
    clock.ms += 1000;
    await keys.rotate(record.id, { overlapSeconds: 60, actor: 'bob' });
    await keys.revoke(record.id, { reason: 'lost', actor: 'eve' });
    await keys.close();
    const { id } = record;
    expect(await keys.trail(id)).toEqual([
      { event: 'revoked', id, atMs: clock.ms, reason: 'lost', actor: 'eve' },
      { event: 'rotated', id, atMs: clock.ms, actor: 'bob' },
      { event: 'denied', id, atMs: START_MS, reason: 'insufficient_scope', ip: '192.0.2.1' },
      { event: 'used', id, atMs: START_MS, ip: '192.0.2.1' },
      { event: 'created', id, atMs: START_MS, actor: 'ada' },
    ]);
    const silent = managed();
    const other = await silent.keys.create({ owner: 'a', scopes: [] });
    await silent.keys.verify(other.key);
    await silent.keys.close();
    expect(await silent.keys.trail(other.record.id)).toEqual([]);
  });

  it('reports each change as an event', async () => {
    const { keys } = managed();
    const created = collect('created');
    const rotated = collect('rotated');
    const revoked = collect('revoked');
    const { record } = await keys.create({ owner: 'a', scopes: [], actor: 'ada' });
    const next = await keys.rotate(record.id, { overlapSeconds: 60, actor: 'ada' });
    const ended = await keys.revoke(record.id, { reason: 'lost', actor: 'ada' });
    for (const { stop } of [created, rotated, revoked]) stop();
    expect(created.events).toEqual([{ record, actor: 'ada' }]);
    expect(rotated.events).toMatchObject([
      { record: { id: record.id }, successor: next.record, actor: 'ada' },
    ]);
    expect(revoked.events).toEqual([{ record: ended, reason: 'lost', actor: 'ada' }]);
  });
});

describe('scopes and resources', () => {
  it('a wildcard covers exactly what begins with its own segments (property)', async () => {
    const segment = fc.stringMatching(/^[a-z]{1,3}$/);
    const path = fc.array(segment, { minLength: 1, maxLength: 4 });
    const { keys } = managed();
    await fc.assert(
      fc.asyncProperty(path, path, async (granted, required) => {
        const { key } = await keys.create({ owner: 'a', scopes: [`${granted.join(':')}:*`] });
        const { status } = await keys.verify(key, { scopes: [required.join(':')] });
        const covered =
          required.length > granted.length && granted.every((part, at) => part === required[at]);
        expect(status).toBe(covered ? 'valid' : 'insufficient_scope');
      }),
    );
  });
});

describe('an owner that is no well-formed text', () => {
  it('is refused: stores of UTF-8 would mistake it for another', async () => {
    const { keys } = managed();
    await expect(keys.create({ owner: '\ud800', scopes: [] })).rejects.toMatchObject({
      code: 'ERR_API_KEYS_INVALID',
    });
  });
});

describe('times that no store can keep', () => {
  it('are refused before anything is stored', async () => {
    const { keys } = managed({ maxAgeDays: 'unlimited' });
    const { record } = await keys.create({ owner: 'acme', scopes: [], expiresInDays: 'never' });
    const invalid = { code: 'ERR_API_KEYS_INVALID' };
    await expect(keys.rotate(record.id, { overlapSeconds: 1e300 })).rejects.toMatchObject(invalid);
    await expect(
      keys.create({ owner: 'acme', scopes: [], expiresInDays: 1e300 }),
    ).rejects.toMatchObject(invalid);
    for (const withinDays of [Number.POSITIVE_INFINITY, Number.NaN, -1])
      await expect(keys.dueForRotation({ withinDays })).rejects.toMatchObject(invalid);
  });

  it('rounds the end of an overlap down to a millisecond', async () => {
    const { keys, clock } = managed();
    const { record } = await keys.create({ owner: 'acme', scopes: [] });
    await keys.rotate(record.id, { overlapSeconds: 1.0007 });
    expect((await keys.get(record.id))?.expiresAtMs).toBe(clock.ms + 1000);
  });
});
