import { describe, expect, it } from 'vitest';
import { createJwtVerifier, type JwtVerifierOptions } from '../src/index.ts';
import { AUDIENCE, claims, header, ISSUER, NOW, now, signingKey, token } from './issuer.ts';

const key = signingKey();

function verifier(changes: Partial<JwtVerifierOptions> = {}) {
  return createJwtVerifier({
    issuer: { issuer: ISSUER, jwks: { keys: [key.jwk] } },
    audience: AUDIENCE,
    now,
    ...changes,
  } as JwtVerifierOptions);
}

const code = (error: string) => expect.objectContaining({ name: 'JwtError', code: error });

describe('createJwtVerifier', () => {
  it('accepts an access token that is in order', async () => {
    const accepted = await verifier().verify(token(key));
    expect(accepted.claims).toEqual(claims());
    expect(accepted.header).toEqual(header());
  });

  it('answers without a promise when nothing has to be waited for', () => {
    const jwt = verifier();
    const first = jwt.verifyNow(token(key));
    expect(first).not.toBeInstanceOf(Promise);
    expect(jwt.verifyNow(token(key))).toBe(first);
  });

  it.each([
    ['a token that has expired', { exp: NOW - 5, iat: NOW - 60 }, 'ERR_JWT_EXPIRED'],
    ['a token that lives for more than 900 s', { exp: NOW + 841 }, 'ERR_JWT_LIFETIME'],
    ['a token issued in the future', { iat: NOW + 6 }, 'ERR_JWT_ISSUED_IN_FUTURE'],
    ['a token that is not valid yet', { nbf: NOW + 6 }, 'ERR_JWT_NOT_YET_VALID'],
    ['a token of another issuer', { iss: 'https://auth.example.org' }, 'ERR_JWT_ISSUER'],
    ['a token for another audience', { aud: 'https://api.example.org' }, 'ERR_JWT_AUDIENCE'],
    ['a bound token without its proof', { cnf: { jkt: 'x' } }, 'ERR_JWT_BOUND'],
  ])('refuses %s', async (_, changes, error) => {
    await expect(verifier().verify(token(key, claims(changes)))).rejects.toThrow(code(error));
  });

  it.each(['iss', 'sub', 'aud', 'exp', 'iat', 'client_id', 'jti'])(
    'refuses a token without %s',
    async (claim) => {
      const jwt = token(key, claims({ [claim]: undefined }));
      await expect(verifier().verify(jwt)).rejects.toThrow(code('ERR_JWT_CLAIM_MISSING'));
    },
  );

  it('refuses a token signed with another key', async () => {
    const jwt = token(signingKey());
    await expect(verifier().verify(jwt)).rejects.toThrow(code('ERR_JWT_SIGNATURE'));
  });

  it('refuses a cached token as soon as it has expired', async () => {
    let time = NOW;
    const jwt = verifier({ now: () => time * 1000 });
    await jwt.verify(token(key));
    time = NOW + 240 + 5;
    await expect(jwt.verify(token(key))).rejects.toThrow(code('ERR_JWT_EXPIRED'));
  });
});
