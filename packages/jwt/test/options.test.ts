import { describe, expect, it } from 'vitest';
import {
  createDenylist,
  createJwtVerifier,
  dpopNonces,
  type JwtVerifierOptions,
  memoryDenylistStore,
} from '../src/index.ts';
import { AUDIENCE, ISSUER, signingKey, token } from './issuer.ts';
import { refusal } from './refusal.ts';

const key = signingKey('ES256').publicKey;
const issuer = { issuer: ISSUER, key, algorithms: ['ES256'] };

describe('createJwtVerifier refuses', () => {
  it.each([
    ['no audience', { audience: undefined }, /audience/],
    ['an empty audience', { audience: '' }, /audience/],
    ['an empty list of audiences', { audience: [] }, /audience/],
    ['an audience that is a pattern', { audience: /api/ }, /audience/],
    ['no issuer', { issuer: [] }, /at least one issuer/],
    ['an empty issuer', { issuer: '' }, /issuer must be a string/],
    ['an issuer twice', { issuer: [issuer, issuer] }, /twice/],
    ['an issuer that cannot be asked', { issuer: 'auth.example.com' }, /issuer must be a URL/],
    ['an issuer over http', { issuer: 'http://auth.example.com' }, /https/],
    ['an unknown option', { denylst: () => true }, /unknown option "denylst"/],
    [
      'an unknown option of an issuer',
      { issuer: { ...issuer, jwksUrl: 'x' } },
      /unknown issuer option "jwksUrl"/,
    ],
    ['an unknown option for keys', { keys: { maxAge: 1 } }, /unknown keys option "maxAge"/],
    ['an unknown option of the cache', { cache: { max: 1 } }, /unknown cache option "max"/],
    ['alg none', { issuer: { ...issuer, algorithms: ['none'] } }, /algorithms must be among/],
    [
      'an unknown algorithm',
      { issuer: { ...issuer, algorithms: ['ES256K'] } },
      /algorithms must be among/,
    ],
    ['no algorithm', { issuer: { ...issuer, algorithms: [] } }, /at least one algorithm/],
    ['an unknown profile', { profile: 'rfc9069' }, /profile/],
    ['a lifetime of nothing', { maxLifetimeSeconds: 0 }, /maxLifetimeSeconds/],
    [
      'an endless lifetime that is not named so',
      { maxLifetimeSeconds: Number.POSITIVE_INFINITY },
      /maxLifetimeSeconds/,
    ],
    ['a lifetime that is no number', { maxLifetimeSeconds: Number.NaN }, /maxLifetimeSeconds/],
    ['a tolerance below nothing', { clockToleranceSeconds: -1 }, /clockToleranceSeconds/],
    [
      'an endless tolerance',
      { clockToleranceSeconds: Number.POSITIVE_INFINITY },
      /clockToleranceSeconds/,
    ],
    ['a tolerance that makes exp meaningless', { clockToleranceSeconds: 301 }, /at most 300/],
    ['a cache for nothing', { cache: { maxEntries: 0 } }, /maxEntries/],
    ['a claim without a name', { requiredClaims: [''] }, /requiredClaims/],
    ['tokens of no length', { maxTokenBytes: 0 }, /maxTokenBytes/],
    [
      'keys that are never stale before they are old',
      { issuer: ISSUER, keys: { maxStaleSeconds: 1 } },
      /maxStaleSeconds/,
    ],
    ['a request for keys that takes for ever', { keys: { timeoutMs: 1e10 } }, /timeoutMs/],
    ['a wait for keys that takes for ever', { keys: { maxWaitMs: 1e10 } }, /maxWaitMs/],
    ['a denylist for the check of one', { denylist: createDenylist() }, /denylist must be a func/],
    ['no denylist where one was meant', { denylist: null }, /denylist must be a function/],
    ['a time for a clock', { now: 1e12 }, /now must be a function/],
    ['a dispatcher for fetch', { keys: { fetch: {} } }, /keys.fetch must be a function/],
    ['nonces that are none', { dpop: { nonces: true } }, /dpop.nonces must have issue and accepts/],
    ['a store for something else', { dpop: { replayStore: new Map() } }, /dpop.replayStore must/],
    ['keys of no age', { issuer: ISSUER, keys: { maxAgeSeconds: 0 } }, /maxAgeSeconds/],
  ])('%s', (_, changes, message) => {
    const from = 'keys' in changes ? ISSUER : issuer;
    const options = { issuer: from, audience: AUDIENCE, ...changes } as JwtVerifierOptions;
    expect(() => createJwtVerifier(options)).toThrow(TypeError);
    expect(() => createJwtVerifier(options)).toThrow(message);
  });
});

it.each([
  ['createDenylist', () => createDenylist({ store: new Map() as never }), /store must have add/],
  ['createDenylist', () => createDenylist({ now: 0 as never }), /now must be a function/],
  ['memoryDenylistStore', () => memoryDenylistStore({ now: 0 as never }), /now must be a function/],
  ['dpopNonces', () => dpopNonces({ secrets: 'x' as never }), /secrets must be a list/],
  [
    'dpopNonces',
    () => dpopNonces({ secrets: [Buffer.alloc(32)], now: 0 as never }),
    /now must be a function/,
  ],
])('%s refuses what it could not use: %#', (_, make, message) => {
  expect(make).toThrow(TypeError);
  expect(make).toThrow(message);
});

it('takes any part of a millisecond to wait for keys', async () => {
  const asked: AbortSignal[] = [];
  const jwt = createJwtVerifier({
    issuer: ISSUER,
    audience: AUDIENCE,
    keys: {
      timeoutMs: 100_000.5,
      fetch: (_, { signal }) => {
        asked.push(signal);
        return Promise.reject(new Error('down'));
      },
    },
  });
  await expect(jwt.verify(token(signingKey(), { iss: ISSUER }))).rejects.toThrow(
    refusal('ERR_JWT_KEYS_UNAVAILABLE'),
  );
  expect(asked).toHaveLength(2);
});
