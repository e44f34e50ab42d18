import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, it } from 'vitest';
import { createDenylist, createJwtVerifier, type DenylistCheck } from '../src/index.ts';
import { AUDIENCE, claims, ISSUER, now, signingKey, token } from './issuer.ts';

const key = signingKey('ES256');

/** What a channel carries while `act` is under way. */
async function heard(name: string, act: () => unknown): Promise<readonly unknown[]> {
  const messages: unknown[] = [];
  const listen = (message: unknown): void => {
    messages.push(message);
  };
  subscribe(`countersign:jwt:${name}`, listen);
  try {
    await act();
  } catch {
    // The refusal itself is looked at elsewhere.
  } finally {
    unsubscribe(`countersign:jwt:${name}`, listen);
  }
  return messages;
}

function verifier(denylist?: DenylistCheck) {
  return createJwtVerifier({
    issuer: { issuer: ISSUER, key: key.publicKey },
    algorithms: ['ES256'],
    audience: AUDIENCE,
    now,
    ...(denylist ? { denylist } : {}),
  });
}

describe('events', () => {
  it('tell of a token that was accepted, and whether it had been seen before', async () => {
    const jwt = verifier();
    const verifyTwice = async () => [await jwt.verify(token(key)), await jwt.verify(token(key))];
    const text = token(key);
    expect(await heard('verified', () => jwt.verify(text))).toEqual([
      { issuer: ISSUER, cached: false },
    ]);
    expect(await heard('verified', () => jwt.verify(text))).toEqual([
      { issuer: ISSUER, cached: true },
    ]);
    expect(await heard('refused', verifyTwice)).toEqual([]);
  });

  it.each([
    ['at once', undefined],
    ['later', () => Promise.resolve(false)],
  ])('tell of a token that was refused, whether it was known %s', async (_, denylist) => {
    const jwt = verifier(denylist);
    const bad = token(key, claims({ aud: 'somebody-else' }));
    expect(await heard('refused', () => jwt.verify(bad))).toEqual([
      { code: 'ERR_JWT_AUDIENCE', message: 'The token is meant for somebody else', member: 'aud' },
    ]);
  });

  it('tell of a refusal that had to be waited for', async () => {
    const jwt = verifier(() => Promise.resolve(true));
    expect(await heard('refused', () => jwt.verify(token(key)))).toEqual([
      { code: 'ERR_JWT_REVOKED', message: 'The token has been revoked' },
    ]);
  });

  it('tell of a store that cannot be asked, also when tokens are accepted all the same', async () => {
    const error = new Error('connection refused');
    for (const onStoreError of ['open', 'closed'] as const) {
      const store = { add: () => undefined, has: () => Promise.reject(error) };
      const { isRevoked } = createDenylist({ store, onStoreError });
      expect(await heard('store-failed', () => verifier(isRevoked).verify(token(key)))).toEqual([
        { store: 'denylist', error },
      ]);
    }
  });

  it('tell of published keys that are not used, and why', async () => {
    const document = { keys: [{ ...key.jwk, use: 'enc' }, key.jwk] };
    const jwt = createJwtVerifier({
      issuer: { issuer: ISSUER, jwksUri: `${ISSUER}/jwks` },
      algorithms: ['ES256'],
      audience: AUDIENCE,
      now,
      keys: { fetch: async () => ({ status: 200, body: chunks(JSON.stringify(document)) }) },
    });
    expect(await heard('key-ignored', () => jwt.verify(token(key)))).toEqual([
      { issuer: ISSUER, reason: '"use" is not "sig"' },
    ]);
  });
});

async function* chunks(text: string): AsyncGenerator<Uint8Array> {
  for (const character of text) yield Buffer.from(character);
}
