import { inspect } from 'node:util';
import { fakeClock } from '@countersign/testkit/clock';
import fc from 'fast-check';
import { beforeEach, describe, expect, expectTypeOf, it } from 'vitest';
import { AccessToken, OAuthError, type TokenSource } from '../src/index.ts';
import { cacheKey } from '../src/shared-token.ts';
import { tokenCache, variantOf } from '../src/token-cache.ts';

const LIFE_MS = 600_000;
const clock = fakeClock();
let asked: { generation: number; settle: (error?: unknown) => void }[];
let source: TokenSource;

/** A cache in front of a server that answers when the test says so. */
beforeEach(() => {
  asked = [];
  source = tokenCache({
    issuer: 'https://auth.example.com',
    clientId: 'client',
    defaults: variantOf('read', undefined),
    renewBeforeSeconds: 60,
    now: clock.now,
    renew: (variant, generation) =>
      new Promise((resolve, reject) => {
        const settle = (error?: unknown) => {
          if (error !== undefined) return reject(error as Error);
          const parts = { value: `secret-${asked.length}`, type: 'Bearer' as const };
          const expiresAtMs = clock.now() + LIFE_MS;
          const scope = variant.scope ?? '';
          resolve(new AccessToken({ ...parts, expiresAtMs, scope, generation: generation + 1 }));
        };
        asked.push({ generation, settle });
      }),
  });
});

const obtain = async (request?: Parameters<TokenSource['getToken']>[0]) => {
  const token = source.getToken(request);
  asked.at(-1)?.settle();
  return token;
};
/** Lets promises that are settled have their effect. */
const turn = () => new Promise((resolve) => setImmediate(resolve));
const refused = (error: string) =>
  new OAuthError('ERR_OAUTH_REFUSED', 'refused', { error, status: 400 });

describe('a token', () => {
  it('is asked for once by all who come before it is there, and handed out without asking after that', async () => {
    const waiting = Array.from({ length: 1000 }, () => source.getToken());
    expect(asked).toHaveLength(1);
    asked[0]?.settle();
    const tokens = await Promise.all(waiting);
    expect(new Set(tokens).size).toBe(1);
    expect(source.getToken()).toBe(source.getToken());
    expect(asked).toHaveLength(1);
  });

  it('is renewed in the background while it is valid, and nobody waits', async () => {
    const first = await obtain();
    clock.advance(LIFE_MS - 73_000);
    await source.getToken();
    expect(asked).toHaveLength(1);
    clock.advance(14_000);
    for (let caller = 0; caller < 10; caller += 1) expect(await source.getToken()).toBe(first);
    expect(asked).toHaveLength(2);
    asked[1]?.settle();
    await turn();
    expect((await source.getToken()).generation).toBe(2);
  });

  it('is waited for when there is none that is valid', async () => {
    await obtain();
    clock.advance(LIFE_MS - 4000);
    const pending = source.getToken();
    expect(asked).toHaveLength(2);
    asked[1]?.settle();
    expect((await pending).generation).toBe(2);
  });

  it('that lives shortly is renewed at half its life', async () => {
    const short = tokenCache({
      issuer: 'i',
      clientId: 'c',
      defaults: variantOf(undefined, undefined),
      renewBeforeSeconds: 60,
      now: clock.now,
      renew: async (_, generation) => {
        asked.push({ generation, settle: () => {} });
        const expiresAtMs = clock.now() + 2000;
        return new AccessToken({ value: 'x', type: 'Bearer', expiresAtMs, scope: '', generation });
      },
    });
    await short.getToken();
    clock.advance(990);
    await short.getToken();
    expect(asked).toHaveLength(1);
    clock.advance(20);
    await short.getToken();
    expect(asked).toHaveLength(2);
  });
});

describe('forceRenewal', () => {
  it('gets a newer one; callers who saw the same one fail share it', async () => {
    const first = await obtain();
    const renewed = Array.from({ length: 50 }, () =>
      source.getToken({ forceRenewal: first.generation }),
    );
    expect(asked).toHaveLength(2);
    asked[1]?.settle();
    expect(new Set(await Promise.all(renewed)).size).toBe(1);
    // One who comes late with the old generation gets what there is by now.
    expect((await source.getToken({ forceRenewal: first.generation })).generation).toBe(2);
    expect(asked).toHaveLength(2);
  });

  it('does not keep others from the token there is', async () => {
    const first = await obtain();
    const forced = source.getToken({ forceRenewal: true });
    expect(await source.getToken()).toBe(first);
    asked[1]?.settle();
    expect((await forced).generation).toBe(2);
  });
});

describe('an abort', () => {
  it('ends its own wait and no other', async () => {
    const aborter = new AbortController();
    const impatient = source.getToken({ signal: aborter.signal });
    const patient = source.getToken();
    aborter.abort(new Error('gave up'));
    await expect(impatient).rejects.toThrow('gave up');
    asked[0]?.settle();
    expect((await patient).generation).toBe(1);
    expect(asked).toHaveLength(1);
  });

  it('of everybody leaves the work to whoever comes next', async () => {
    const signal = AbortSignal.abort(new Error('too late'));
    await expect(source.getToken({ signal })).rejects.toThrow('too late');
    asked[0]?.settle();
    await turn();
    expect((await source.getToken()).generation).toBe(1);
  });
});

describe('a failure', () => {
  it('is told to all who waited, and not remembered', async () => {
    const waiting = [source.getToken(), source.getToken()];
    asked[0]?.settle(new OAuthError('ERR_OAUTH_NETWORK', 'gone'));
    for (const one of waiting)
      await expect(one).rejects.toMatchObject({ code: 'ERR_OAUTH_NETWORK' });
    expect((await obtain()).generation).toBe(1);
  });

  it.each(['invalid_grant', 'invalid_request', 'access_denied', 'server_error'])(
    '%s is not remembered',
    async (error) => {
      const first = source.getToken();
      asked[0]?.settle(refused(error));
      await expect(first).rejects.toMatchObject({ error });
      expect((await obtain()).generation).toBe(1);
    },
  );

  it.each(['invalid_client', 'unauthorized_client', 'invalid_scope'])(
    '%s is remembered for ten seconds',
    async (error) => {
      const first = source.getToken();
      asked[0]?.settle(refused(error));
      await expect(first).rejects.toMatchObject({ error });
      await expect(source.getToken()).rejects.toMatchObject({ error });
      expect(asked).toHaveLength(1);
      clock.advance(10_000);
      expect((await obtain()).generation).toBe(1);
    },
  );

  it('that says when to come back is remembered until then, an hour at most', async () => {
    for (const [retryAfterMs, waitMs] of [
      [7000, 7000],
      [600_000, 600_000],
      [86_400_000, 3_600_000],
    ] as const) {
      const before = asked.length;
      const first = source.getToken();
      const busy = { status: 429, retryAfterMs };
      asked.at(-1)?.settle(new OAuthError('ERR_OAUTH_UNAVAILABLE', '429', busy));
      await expect(first).rejects.toMatchObject({ retryAfterMs });
      clock.advance(waitMs - 1);
      await expect(source.getToken()).rejects.toMatchObject({ retryAfterMs });
      clock.advance(1);
      expect(asked).toHaveLength(before + 1);
    }
  });

  it('that only says that this process leaves the server alone is not remembered: others may not have to', async () => {
    const first = source.getToken();
    const resting = new OAuthError('ERR_OAUTH_UNAVAILABLE', 'left alone', { retryAfterMs: 7000 });
    asked[0]?.settle(resting);
    await expect(first).rejects.toBe(resting);
    expect((await obtain()).generation).toBe(1);
  });

  it('is not remembered for longer when the clock is set back', async () => {
    await expect(
      Promise.all([
        source.getToken(),
        turn().then(() => asked[0]?.settle(refused('invalid_client'))),
      ]),
    ).rejects.toMatchObject({ error: 'invalid_client' });
    clock.advance(-60_000);
    expect(await obtain()).toMatchObject({ generation: 1 });
  });

  it('in the background is not noticed, and not repeated at every call', async () => {
    const first = await obtain();
    clock.advance(LIFE_MS - 30_000);
    await source.getToken();
    asked[1]?.settle(new OAuthError('ERR_OAUTH_NETWORK', 'gone'));
    await turn();
    for (let caller = 0; caller < 100; caller += 1) expect(await source.getToken()).toBe(first);
    expect(asked).toHaveLength(2);
    clock.advance(6001);
    await source.getToken();
    expect(asked).toHaveLength(3);
  });
});

describe('what makes a token its own', () => {
  const parts = fc.record({
    issuer: fc.constantFrom('https://a', 'https://b'),
    clientId: fc.constantFrom('a', 'b', 'a","b'),
    auth: fc.tuple(fc.constantFrom('x', 'y'), fc.constantFrom('1', '2')),
    dpop: fc.option(fc.constantFrom('t1', 't2'), { nil: undefined }),
    audience: fc.option(fc.constantFrom('', 'aud'), { nil: undefined }),
    parameters: fc.array(fc.tuple(fc.constantFrom('p', 'q'), fc.constantFrom('1', '2'))),
    scope: fc.option(fc.constantFrom('a b', 'a', 'b', 'ab'), { nil: undefined }),
    resource: fc.uniqueArray(fc.constantFrom('https://r', 'https://s')),
  });
  const keyOf = ({ scope, resource, ...rest }: Record<string, unknown>) =>
    cacheKey({ ...rest, variant: variantOf(scope as string, resource as string[]) });
  const canonical = ({ scope, resource, ...rest }: Record<string, unknown>) =>
    JSON.stringify([rest, String(scope).split(' ').sort(), [...(resource as string[])].sort()]);

  it('is in the key: keys are the same exactly when everything is', () => {
    fc.assert(
      fc.property(parts, parts, (one, other) => {
        expect(keyOf(one) === keyOf(other)).toBe(canonical(one) === canonical(other));
      }),
      { numRuns: 2000 },
    );
  });

  it('is not the order of scopes or resources', () => {
    expect(variantOf('b a  b', ['y', 'x', 'y'])).toEqual({ scope: 'a b', resource: ['x', 'y'] });
    expect(variantOf('', undefined)).toEqual({ resource: [] });
  });

  it('is not mixed up by scopes and resources that look like something else', async () => {
    const requests = [
      { resource: 'c' },
      { scope: 'undefined', resource: 'c' },
      { scope: 'a\nb', resource: 'c' },
      { scope: 'a', resource: 'b\nc' },
    ];
    for (const one of requests) await obtain(one);
    expect(asked).toHaveLength(requests.length);
  });

  it('is not mistaken for the one asked for last', async () => {
    const resource = ['https://a'];
    const requests = [
      { scope: 'a' },
      { scope: 'a', resource: 'https://a' },
      { resource: 'https://a' },
      { scope: 'b' },
      {},
    ];
    const tokens = new Map<object, AccessToken>();
    for (const one of requests) tokens.set(one, await obtain(one));
    const first = await obtain({ scope: 'c', resource });
    resource[0] = 'https://b';
    expect(await obtain({ scope: 'c', resource })).not.toBe(first);
    for (const one of [...requests, ...requests.toReversed(), ...requests]) {
      expect(await source.getToken(one)).toBe(tokens.get(one));
      expect(await source.getToken({ ...one })).toBe(tokens.get(one));
    }
    expect(asked).toHaveLength(requests.length + 2);
  });

  it('is kept while it is used, however many others come and go', async () => {
    const used = await obtain({ scope: 'used' });
    for (let index = 0; index < 3000; index += 1) {
      await obtain({ scope: `s${index}` });
      if (index % 500 === 0) expect(await source.getToken({ scope: 'used' })).toBe(used);
    }
  });

  it('is kept for a bounded number of variants', async () => {
    for (let index = 0; index <= 1000; index += 1) await obtain({ scope: `s${index}` });
    expect(asked).toHaveLength(1001);
    await source.getToken({ scope: 's1000' });
    expect(asked).toHaveLength(1001);
    await obtain({ scope: 's0' });
    expect(asked).toHaveLength(1002);
  });
});

const spread = (token: object) => ({ ...token });

it('shows a token only to whoever asks for its value', async () => {
  const token = await obtain();
  const { value } = token;
  const shown = [
    inspect(token, { depth: 9, showHidden: true }),
    JSON.stringify(token),
    JSON.stringify(spread(token)),
    `${token as unknown as string}`,
    JSON.stringify(structuredClone(spread(token))),
  ];
  for (const one of shown) expect(one).not.toContain(value);
  expectTypeOf(token.type).toEqualTypeOf<'Bearer' | 'DPoP'>();
  expectTypeOf<TokenSource['getToken']>().returns.resolves.toEqualTypeOf<AccessToken>();
});
