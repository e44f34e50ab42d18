import type { GuardRequest } from '@countersign/guard';
import { describe, expect, it } from 'vitest';
import { jwtGuard } from '../src/guard.ts';
import { createJwtVerifier } from '../src/index.ts';
import { AUDIENCE, claims, ISSUER, now, signingKey, token } from './issuer.ts';

const key = signingKey();
const verifier = createJwtVerifier({
  issuer: { issuer: ISSUER, key: key.publicKey },
  audience: AUDIENCE,
  now,
});

function request(authorization: readonly string[], query = ''): GuardRequest {
  const fields: Record<string, readonly string[]> = { authorization };
  return {
    method: 'GET',
    path: '/orders',
    query: new URLSearchParams(query),
    headers: {
      get: (name) => fields[name.toLowerCase()]?.join(', '),
      all: (name) => fields[name.toLowerCase()] ?? [],
    },
    remoteAddress: '192.0.2.1',
    secure: true,
    signal: new AbortController().signal,
    rawBody: () => Promise.resolve(new Uint8Array()),
  };
}

describe('jwtGuard', () => {
  it('lets a good token pass and says who calls', async () => {
    const verdict = await jwtGuard(verifier)(request([`Bearer ${token(key)}`]), {});
    expect(verdict).toEqual({
      pass: true,
      context: {
        claims: claims(),
        clientId: 'client-1',
        subject: 'user-1',
        scopes: ['orders:read', 'orders:write'],
      },
    });
  });

  it.each([
    ['no token', request([]), 401, 'Bearer'],
    ['another scheme', request(['Basic YTpi']), 401, 'Bearer'],
    ['a bad token', request(['Bearer abc']), 401, 'Bearer error="invalid_token"'],
    [
      'a token in the query',
      request([], 'access_token=abc'),
      400,
      'Bearer error="invalid_request"',
    ],
    ['two headers', request(['Bearer a', 'Bearer b']), 400, 'Bearer error="invalid_request"'],
    ['an unreadable header', request(['Bearer a b']), 400, 'Bearer error="invalid_request"'],
  ])('refuses %s', async (_, bad, status, challenge) => {
    const verdict = await jwtGuard(verifier)(bad, {});
    expect(verdict).toMatchObject({ pass: false, status });
    expect(verdict).toHaveProperty(
      'headers',
      expect.arrayContaining([['www-authenticate', challenge]]),
    );
  });

  it('answers 403 naming the scopes when one is missing', async () => {
    const guard = jwtGuard(verifier, { scopes: ['orders:delete'] });
    const verdict = await guard(request([`bearer ${token(key)}`]), {});
    expect(verdict).toHaveProperty('status', 403);
    expect(verdict).toHaveProperty(
      'headers',
      expect.arrayContaining([
        ['www-authenticate', 'Bearer error="insufficient_scope", scope="orders:delete"'],
      ]),
    );
  });
});
