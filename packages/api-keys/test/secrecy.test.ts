import { execFile } from 'node:child_process';
import { channel } from 'node:diagnostics_channel';
import { fileURLToPath } from 'node:url';
import { inspect, promisify } from 'node:util';
import { memoryApiKeyStore } from '@countersign/api-keys';
import { apiKeyGuard } from '@countersign/api-keys/guard';
import { describe, expect, it } from 'vitest';
import { guardRequest, managed, PEPPER_1 } from './fixtures.ts';

const EVENTS = [
  'created',
  'rotated',
  'revoked',
  'adopted',
  'denied',
  'used',
  'rehashed',
  'exposed',
  'leaked',
  'store-error',
];

it('a key given for an id reaches no store', async () => {
  const { keys: issuing } = managed();
  const { key } = await issuing.create({ owner: 'a', scopes: [] });
  const asked: unknown[] = [];
  const store = new Proxy(memoryApiKeyStore(), {
    get: (target, name) =>
      name === 'subscribe' ? undefined : (...args: unknown[]) => asked.push(name, args) && target,
  });
  const { keys } = managed({ store });
  const notFound = { code: 'ERR_API_KEYS_NOT_FOUND', message: expect.not.stringContaining(key) };
  expect(await keys.get(key)).toBeUndefined();
  expect(await keys.trail(key)).toEqual([]);
  await expect(keys.rotate(key, { overlapSeconds: 0 })).rejects.toMatchObject(notFound);
  await expect(keys.revoke(key, { reason: 'lost' })).rejects.toMatchObject(notFound);
  await expect(keys.revoke(undefined as never, { reason: 'lost' })).rejects.toMatchObject(notFound);
  expect(asked).toEqual([]);
});

describe('the secret of a key', () => {
  it('is in no record, event, answer, error, inspection or JSON', async () => {
    const seen: unknown[] = [];
    const listener = (message: unknown): void => {
      seen.push(message);
    };
    for (const event of EVENTS) channel(`countersign:api-keys:${event}`).subscribe(listener);
    const memory = memoryApiKeyStore();
    const { keys, store } = managed({ store: memory, audit: true });
    const guard = apiKeyGuard(keys, { header: 'x-api-key' });
    const { key, record } = await keys.create({ owner: 'a', scopes: [] });
    const next = await keys.rotate(record.id, { overlapSeconds: 60 });
    for (const text of [key, next.key]) {
      for (const presented of [
        text,
        `${text}x`,
        text.replace('live', 'test'),
        `${text.slice(0, -1)}!`,
      ]) {
        const { status, ...rest } = await keys.verify(presented, { scopes: ['x'] });
        seen.push(status, rest);
        seen.push(await guard(guardRequest([['x-api-key', presented]], `/a?b=${presented}`), {}));
        seen.push(await guard(guardRequest([['x-api-key', presented]]), {}));
      }
      for (const failing of [
        () => keys.revoke(text, { reason: 'x' }),
        () => keys.rotate(text, { overlapSeconds: 1 }),
        () => keys.importHash({ owner: 'a', scopes: [], sha256: text }),
        () => keys.create({ owner: 'a', scopes: [], expiresInDays: 1000 }),
      ]) {
        seen.push(await failing().catch((error: unknown) => error));
      }
    }
    await keys.close();
    for (const id of [record.id, next.record.id])
      seen.push(await store.find(id), await keys.get(id), await keys.trail(id));
    seen.push(
      await keys.list({ owner: 'a' }),
      await keys.dueForRotation({ withinDays: 100 }),
      keys,
      guard,
      store,
    );
    for (const event of EVENTS) channel(`countersign:api-keys:${event}`).unsubscribe(listener);

    const text = seen
      .map(
        (item) =>
          `${inspect(item, { depth: 20, showHidden: true, getters: true })}${JSON.stringify(item)}`,
      )
      .join('\n');
    expect(text).toContain(record.id);
    for (const secret of [key, next.key].map((whole) => whole.slice(24, 56))) {
      for (let from = 0; from <= secret.length - 8; from += 4)
        expect(text).not.toContain(secret.slice(from, from + 8));
    }
    expect(text).not.toContain(PEPPER_1.secret);
  });

  it('is not left in the heap: not in the store, nor in caches or what notes the last use', {
    timeout: 60_000,
  }, async () => {
    const program = fileURLToPath(new URL('./secrecy.process.ts', import.meta.url));
    const { stdout } = await promisify(execFile)(process.execPath, [program, 'control']);
    // The control is a secret that was kept on purpose: the search would find it.
    expect(JSON.parse(stdout)).toEqual({ secrets: false, control: true });
  });
});
