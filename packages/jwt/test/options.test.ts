import { describe, expect, it } from 'vitest';
import { createJwtVerifier, type JwtVerifierOptions } from '../src/index.ts';
import { AUDIENCE, ISSUER, signingKey } from './issuer.ts';

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
    ['keys of no age', { issuer: ISSUER, keys: { maxAgeSeconds: 0 } }, /maxAgeSeconds/],
  ])('%s', (_, changes, message) => {
    const options = { issuer, audience: AUDIENCE, ...changes } as JwtVerifierOptions;
    expect(() => createJwtVerifier(options)).toThrow(TypeError);
    expect(() => createJwtVerifier(options)).toThrow(message);
  });
});
