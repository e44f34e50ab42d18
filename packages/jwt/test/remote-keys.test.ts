import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import type { JWK } from 'jose';
import { describe, expect, it } from 'vitest';
import type { FetchLike } from '../src/fetch-json.ts';
import { type RemoteKeysOptions, remoteKeys } from '../src/remote-keys.ts';
import { ISSUER, signingKey } from './issuer.ts';
import { refusal } from './refusal.ts';

const old = signingKey('ES256', 'old').jwk;
const next = signingKey('ES256', 'next').jwk;

/** An issuer whose answers, and a clock whose time, are set by hand. */
function issuer(options: Partial<RemoteKeysOptions> = {}) {
  const state = {
    timeMs: 1e12,
    keys: [old] as JWK[],
    asked: [] as string[],
    answer: 'keys' as 'keys' | 'failure' | 'silence',
  };
  const fetch: FetchLike = (url, { signal }) => {
    state.asked.push(url);
    if (state.answer === 'failure') return Promise.reject(new Error('connection refused'));
    if (state.answer === 'silence')
      return new Promise((_, reject) => {
        signal.addEventListener('abort', () => reject(signal.reason as Error));
      });
    const body = [Buffer.from(JSON.stringify({ keys: state.keys }))];
    return Promise.resolve({ status: 200, body: asyncIterable(body) });
  };
  const source = remoteKeys({
    issuer: ISSUER,
    jwksUri: `${ISSUER}/jwks`,
    algorithms: ['ES256'],
    now: () => state.timeMs,
    fetch,
    ...options,
  });
  return {
    state,
    source,
    current: () => source.current(state.timeMs),
    load: () => source.load(state.timeMs),
    reload: () => source.reload(state.timeMs),
    /** Lets time pass, and what is under way finish. */
    pass: async (seconds: number) => {
      state.timeMs += seconds * 1000;
      await settled();
    },
  };
}

async function* asyncIterable(chunks: readonly Uint8Array[]): AsyncGenerator<Uint8Array> {
  yield* chunks;
}

function settled(): Promise<void> {
  return new Promise((resolve) => setImmediate(() => setImmediate(resolve)));
}

describe('remoteKeys', () => {
  it('fetches once, however many ask', async () => {
    const { state, load, current } = issuer();
    expect(current()).toBeUndefined();
    const [set] = await Promise.all([load(), load(), load()]);
    expect(set?.find('ES256', 'old')).toBeDefined();
    expect(current()).toBe(set);
    expect(state.asked).toHaveLength(1);
  });

  it('refreshes beside its users from 80 % of its age on, and nobody waits', async () => {
    const { state, load, current, pass } = issuer();
    const first = await load();
    await pass(479);
    expect(current()).toBe(first);
    expect(state.asked).toHaveLength(1);
    state.keys = [next];
    await pass(1);
    expect(current()).toBe(first);
    await settled();
    expect(state.asked).toHaveLength(2);
    expect(current()?.find('ES256', 'next')).toBeDefined();
    expect(current()?.find('ES256', 'old')).toBeUndefined();
  });

  it('keeps the very same set when nothing has changed, so that cached tokens stay', async () => {
    const { state, load, current, pass } = issuer();
    const first = await load();
    await pass(500);
    current();
    await settled();
    expect(state.asked).toHaveLength(2);
    expect(current()).toBe(first);
  });

  it('asks before it trusts aged keys once more, after a quiet time', async () => {
    const { state, load, current, pass } = issuer();
    await load();
    await pass(3000);
    state.keys = [next];
    expect(current()).toBeUndefined();
    expect((await load()).find('ES256', 'old')).toBeUndefined();
  });

  it('serves aged keys while the issuer is away, up to the ceiling and not beyond', async () => {
    const { state, load, current, pass } = issuer({ maxAgeSeconds: 600, maxStaleSeconds: 3600 });
    const first = await load();
    state.answer = 'failure';
    await pass(3599);
    expect(await load()).toBe(first);
    expect(current()).toBe(first);
    await pass(1);
    expect(current()).toBeUndefined();
    await expect(load()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
  });

  it.each([
    ['no key', []],
    [
      'no usable key',
      [
        { ...old, use: 'enc' },
        { kty: 'oct', k: 'c2VjcmV0' },
      ],
    ],
  ])('takes an answer with %s for a failure, and serves on up to the ceiling', async (_, keys) => {
    const { state, load, reload, current, pass } = issuer();
    const failures: unknown[] = [];
    const listen = (event: unknown): void => {
      failures.push((event as { error: Error }).error.message);
    };
    subscribe('countersign:jwt:keys-failed', listen);
    try {
      const first = await load();
      state.keys = keys;
      await expect(reload()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
      expect(current()).toBe(first);
      await pass(3599);
      expect(await load()).toBe(first);
      expect(failures).toEqual(Array(2).fill(`${ISSUER}/jwks holds no usable key`));
      await pass(1);
      expect(current()).toBeUndefined();
      await expect(load()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
      state.keys = [next];
      await pass(30);
      expect((await load()).find('ES256', 'next')).toBeDefined();
    } finally {
      unsubscribe('countersign:jwt:keys-failed', listen);
    }
  });

  it('has no keys if the first answer has no usable one', async () => {
    const { state, load, current, pass } = issuer();
    state.keys = [];
    await expect(load()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
    expect(current()).toBeUndefined();
    state.keys = [old];
    await pass(1);
    expect((await load()).keys).toHaveLength(1);
  });

  it('lets nobody wait longer than it may for an issuer that is silent', async () => {
    const { state, load, current, pass } = issuer({ maxWaitMs: 1 });
    const first = await load();
    state.answer = 'silence';
    await pass(700);
    expect(await Promise.all([load(), load()])).toEqual([first, first]);
    expect(current()).toBe(first);
    expect(state.asked).toHaveLength(2);
  });

  it.each([
    ['never answers', () => new Promise<never>(() => undefined)],
    [
      'never ends its answer',
      async () => ({
        status: 200,
        body: (async function* () {
          yield await new Promise<never>(() => undefined);
        })(),
      }),
    ],
  ])(
    'waits for its time and no longer for a fetch that ignores its signal and %s',
    async (_, fetch) => {
      const { load, pass } = issuer({ fetch, timeoutMs: 1 });
      await expect(load()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
      await pass(1);
      await expect(load()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
    },
  );

  it('takes no keys from where a fetch of somebody else was redirected to', async () => {
    const { load } = issuer({
      fetch: async () => ({
        status: 200,
        redirected: true,
        body: asyncIterable([Buffer.from(JSON.stringify({ keys: [old] }))]),
      }),
    });
    const error: unknown = await load().catch((caught: unknown) => caught);
    expect(error).toHaveProperty('cause.message', `${ISSUER}/jwks was redirected`);
  });

  it('pauses after failures: longer each time, and not beyond the cooldown', async () => {
    const { state, load, pass } = issuer({ cooldownSeconds: 30 });
    state.answer = 'failure';
    await expect(load()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
    const asked: number[] = [];
    for (let second = 1; second <= 120; second += 1) {
      await pass(1);
      const before = state.asked.length;
      await load().catch(() => undefined);
      if (state.asked.length > before) asked.push(second);
    }
    expect(asked).toEqual([1, 3, 7, 15, 31, 61, 91]);
    state.answer = 'keys';
    await pass(30);
    expect((await load()).keys).toHaveLength(1);
  });

  it('asks before it trusts aged keys, after an unknown kid has found the issuer back', async () => {
    const { state, load, reload, current, pass } = issuer();
    await load();
    state.answer = 'failure';
    await pass(700);
    await load();
    state.answer = 'keys';
    await reload();
    state.keys = [next];
    await pass(700);
    expect(current()).toBeUndefined();
    expect((await load()).find('ES256', 'old')).toBeUndefined();
  });

  it('pauses for a second again after a first failure, whatever it was that succeeded before', async () => {
    const { state, load, reload, current, pass } = issuer();
    await load();
    state.answer = 'failure';
    for (let each = 0; each < 4; each += 1) {
      await reload()?.catch(() => undefined);
      await pass(30);
    }
    state.answer = 'keys';
    await pass(400);
    current();
    await settled();
    state.answer = 'failure';
    await reload()?.catch(() => undefined);
    expect(reload()).toBeUndefined();
    await pass(1);
    state.answer = 'keys';
    expect(await reload()).toBeDefined();
  });

  it('asks once for a hundred unknown kids while the issuer is away', async () => {
    const { state, load, reload } = issuer();
    await load();
    state.answer = 'failure';
    for (let each = 0; each < 100; each += 1) await reload()?.catch(() => undefined);
    expect(state.asked).toHaveLength(2);
  });

  it('asks once in a cooldown for unknown kids while the issuer answers', async () => {
    const { state, load, reload, pass } = issuer({ cooldownSeconds: 30 });
    await load();
    for (let second = 0; second < 60; second += 1) {
      await reload();
      await pass(1);
    }
    expect(state.asked).toHaveLength(3);
  });

  it('refreshes known keys however many unknown kids there are', async () => {
    const { state, load, reload, current, pass } = issuer();
    await load();
    state.answer = 'failure';
    await pass(480);
    for (let each = 0; each < 1000; each += 1) await reload()?.catch(() => undefined);
    const flooded = state.asked.length;
    expect(reload()).toBeUndefined();
    state.answer = 'keys';
    state.keys = [next];
    current();
    await settled();
    expect(state.asked.length).toBe(flooded + 1);
    expect(current()?.find('ES256', 'next')).toBeDefined();
  });

  it('finds a new key at once when a token names it', async () => {
    const { state, load, reload } = issuer();
    await load();
    state.keys = [old, next];
    expect((await reload())?.find('ES256', 'next')).toBeDefined();
  });

  it('tells keys apart by what they are, not by their names alone', async () => {
    const { state, load, current, pass } = issuer();
    const first = await load();
    state.keys = [{ ...next, kid: 'old' }];
    await pass(500);
    current();
    await settled();
    expect(current()).not.toBe(first);
  });

  it('uses no key of a set that is private, weak, for another use, or of another kind', async () => {
    const rsa = signingKey('RS256').jwk;
    const { state, load } = issuer();
    state.keys = [
      { ...old, kid: 'private', d: old.x ?? '' },
      { ...old, kid: 'encryption', use: 'enc' },
      { ...old, kid: 'signing only', key_ops: ['sign'] },
      { ...old, kid: 'another algorithm', alg: 'ES384' },
      { ...rsa, kid: 'rsa' },
      { kty: 'oct', k: 'c2VjcmV0', kid: 'secret' },
      { ...old, kid: 'off the curve', y: old.x ?? '' },
      null as unknown as JWK,
      'text' as unknown as JWK,
      old,
    ];
    expect((await load()).keys.map(({ kid }) => kid)).toEqual(['old']);
  });

  it.each(['RS256', 'PS256', 'ES256', 'EdDSA'] as const)(
    'verifies %s with a key that says it may do more than verify',
    async (algorithm) => {
      const key = signingKey(algorithm, 'named');
      const { state, load } = issuer({ algorithms: [algorithm] });
      state.keys = [{ ...key.jwk, alg: algorithm, key_ops: ['sign', 'verify'] }];
      const [published] = (await load()).keys;
      expect(published?.key.equals(key.publicKey)).toBe(true);
    },
  );

  it('refuses to guess between two keys of one name', async () => {
    const { state, load } = issuer();
    state.keys = [old, { ...next, kid: 'old' }];
    const set = await load();
    expect(() => set.find('ES256', 'old')).toThrow(refusal('ERR_JWT_KEY_AMBIGUOUS'));
    expect(() => set.find('ES256', undefined)).toThrow(refusal('ERR_JWT_KEY_AMBIGUOUS'));
  });

  it('asks nobody any more once closed', async () => {
    const { state, source, load, reload } = issuer();
    source.close();
    await expect(load()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
    expect(reload()).toBeUndefined();
    expect(state.asked).toHaveLength(0);
  });

  it('serves on once closed, at once and up to the ceiling', async () => {
    const { state, source, load, current, pass } = issuer();
    const first = await load();
    state.answer = 'silence';
    await pass(3000);
    const waiting = load();
    expect(current()).toBeUndefined();
    source.close();
    expect(current()).toBe(first);
    expect(await waiting).toBe(first);
    await pass(599);
    expect(current()).toBe(first);
    await pass(1);
    expect(current()).toBeUndefined();
    await expect(load()).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
    expect(state.asked).toHaveLength(2);
  });

  it.each([
    ['http://auth.example.com/jwks', /https/],
    ['https://user:secret@auth.example.com/jwks', /credentials/],
    ['auth.example.com', /URL/],
  ])('does not fetch keys from %s', (jwksUri, message) => {
    expect(() => issuer({ jwksUri })).toThrow(message);
  });
});
