import { describe, expect, it } from 'vitest';
import {
  createDenylist,
  createJwtVerifier,
  type DenylistOptions,
  type TokenIdentity,
} from '../src/index.ts';
import { AUDIENCE, claims, ISSUER, NOW, now, signingKey, token } from './issuer.ts';
import { refusal } from './refusal.ts';

const key = signingKey('ES256');

function verifier(options: DenylistOptions = {}, profile: 'rfc9068' | 'generic' = 'rfc9068') {
  const denylist = createDenylist({ now, ...options });
  const jwt = createJwtVerifier({
    issuer: [
      { issuer: ISSUER, jwks: { keys: [key.jwk] } },
      { issuer: 'https://login.example.net', jwks: { keys: [key.jwk] } },
    ],
    algorithms: ['ES256'],
    audience: AUDIENCE,
    denylist: denylist.isRevoked,
    profile,
    now,
  });
  return { denylist, jwt };
}

const down = {
  add: () => Promise.reject(new Error('connection refused')),
  has: () => Promise.reject(new Error('connection refused')),
};

describe('createDenylist', () => {
  it('refuses a token from the moment it is revoked', async () => {
    const { denylist, jwt } = verifier();
    const { claims: accepted } = await jwt.verify(token(key));
    await denylist.revoke(accepted as TokenIdentity);
    await expect(jwt.verify(token(key))).rejects.toThrow(refusal('ERR_JWT_REVOKED'));
    await expect(jwt.verify(token(key, claims({ jti: 'token-2' })))).resolves.toBeDefined();
  });

  it("revokes one issuer's token, not another's of the same jti", async () => {
    const { denylist, jwt } = verifier();
    await denylist.revoke({ iss: ISSUER, jti: 'token-1', exp: NOW + 240 });
    const other = token(key, claims({ iss: 'https://login.example.net' }));
    await expect(jwt.verify(other)).resolves.toBeDefined();
  });

  it('cannot be tricked by where issuer and jti meet', async () => {
    const { denylist } = verifier();
    await denylist.revoke({ iss: 'a', jti: 'b","c', exp: NOW + 240 });
    await denylist.revoke({ iss: 'ab', jti: 'c', exp: NOW + 240 });
    expect(denylist.isRevoked({ ...claims(), iss: 'a","b', jti: 'c' } as never)).toBe(false);
    expect(denylist.isRevoked({ ...claims(), iss: 'a', jti: 'bc' } as never)).toBe(false);
    expect(denylist.isRevoked({ ...claims(), iss: 'a', jti: 'b","c' } as never)).toBe(true);
  });

  it('keeps a token until it has expired everywhere, and no longer', async () => {
    let time = NOW * 1000;
    const denylist = createDenylist({ now: () => time });
    await denylist.revoke({ iss: 'a', jti: 'b', exp: NOW + 240 });
    const revoked = () => denylist.isRevoked({ ...claims(), iss: 'a', jti: 'b' } as never);
    // 240 s, and twice the largest tolerance.
    time += 839_999;
    expect(revoked()).toBe(true);
    time += 1;
    expect(revoked()).toBe(false);
  });

  it('outlasts the largest tolerance a verifier may have', async () => {
    let time = NOW * 1000;
    const denylist = createDenylist({ now: () => time });
    const jwt = createJwtVerifier({
      issuer: { issuer: ISSUER, jwks: { keys: [key.jwk] } },
      algorithms: ['ES256'],
      audience: AUDIENCE,
      denylist: denylist.isRevoked,
      clockToleranceSeconds: 300,
      now: () => time,
    });
    await denylist.revoke(claims() as unknown as TokenIdentity);
    time += (240 + 299) * 1000;
    await expect(jwt.verify(token(key))).rejects.toThrow(refusal('ERR_JWT_REVOKED'));
  });

  it('accepts no token without jti: it could not be revoked', async () => {
    const { jwt } = verifier({}, 'generic');
    const nameless = token(key, claims({ jti: undefined }));
    await expect(jwt.verify(nameless)).rejects.toThrow(refusal('ERR_JWT_CLAIM_MISSING'));
  });

  it('accepts nothing while the store is down', async () => {
    const { denylist, jwt } = verifier({ store: down });
    await expect(jwt.verify(token(key))).rejects.toThrow(refusal('ERR_JWT_DENYLIST_UNAVAILABLE'));
    const revoking = denylist.revoke({ iss: 'a', jti: 'b', exp: NOW + 240 });
    await expect(revoking).rejects.toThrow('connection refused');
  });

  it('accepts everything while the store is down, if it was told so', async () => {
    const { jwt } = verifier({ store: down, onStoreError: 'open' });
    await expect(jwt.verify(token(key))).resolves.toBeDefined();
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])(
    'does not say that a token is revoked when its clock gives no time: %s',
    async (wrong) => {
      const added: string[] = [];
      const store = { add: (id: string) => void added.push(id), has: () => false };
      const denylist = createDenylist({ store, now: () => wrong });
      const revoking = denylist.revoke({ iss: 'a', jti: 'b', exp: NOW + 240 });
      await expect(revoking).rejects.toThrow(refusal('ERR_JWT_CLOCK'));
      expect(added).toEqual([]);
    },
  );

  it.each([
    [{ onStoreError: 'ignore' }, /onStoreError/],
    [{ ttlMs: 1 }, /unknown denylist option "ttlMs"/],
  ])('refuses %j', (options, message) => {
    expect(() => createDenylist(options as DenylistOptions)).toThrow(message);
  });

  it.each([
    [{ iss: '', jti: 'b', exp: NOW }],
    [{ iss: 'a', jti: undefined, exp: NOW }],
    [{ iss: 'a', jti: 'b', exp: Number.NaN }],
  ])('does not take %j for a token', async (identity) => {
    await expect(createDenylist().revoke(identity as never)).rejects.toThrow(TypeError);
  });
});
