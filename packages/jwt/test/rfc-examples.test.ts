import type { JWK } from 'jose';
import { describe, expect, it } from 'vitest';
import { ALGORITHMS, verifySignature } from '../src/algorithms.ts';
import { parseCompact } from '../src/compact.ts';
import { createJwtVerifier, type JwtVerifierOptions } from '../src/index.ts';
import { importJwk } from '../src/keys.ts';
import { keyThumbprint } from '../src/thumbprint.ts';
import { signingKey, token } from './issuer.ts';
import { refusal } from './refusal.ts';

const PAYLOAD =
  'eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ';

const HMAC_KEY: JWK = {
  kty: 'oct',
  k: 'AyM1SysPpbyDfgZld3umj1qzKObwVMkoqQ-EstJQLr_T-1qS0gZH75aKtMN3Yj0iPS4hcgUuTwjAzZr1Z9CAow',
};
const RSA_KEY: JWK = {
  kty: 'RSA',
  n: 'ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SFd2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkMLs91kzk2PAcDTW9gb54h4FRWyuXpoQ',
  e: 'AQAB',
};
const EC_KEY: JWK = {
  kty: 'EC',
  crv: 'P-256',
  x: 'f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU',
  y: 'x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0',
};

const A1 = `eyJ0eXAiOiJKV1QiLA0KICJhbGciOiJIUzI1NiJ9.${PAYLOAD}.dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk`;
const A2 = `eyJhbGciOiJSUzI1NiJ9.${PAYLOAD}.cC4hiUPoj9Eetdgtv3hF80EGrhuB__dzERat0XF9g2VtQgr9PJbu3XOiZj5RZmh7AAuHIm4Bh-0Qc_lF5YKt_O8W2Fp5jujGbds9uJdbF9CUAr7t1dnZcAcQjbKBYNX4BAynRFdiuB--f_nZLgrnbyTyWzO75vRK5h6xBArLIARNPvkSjtQBMHlb1L07Qe7K0GarZRmB_eSN9383LcOLn6_dO--xi12jzDwusC-eOkHWEsqtFZESc6BfI7noOPqvhJ1phCnvWh6IeYI2w9QOYEUipUTI8np6LbgGY9Fs98rqVt5AXLIhWkWywlVmtVrBp0igcN_IoypGlUPQGe77Rw`;
const A3 = `eyJhbGciOiJFUzI1NiJ9.${PAYLOAD}.DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q`;
/** Also the unsecured JWT of RFC 7519 §6.1. */
const A5 = `eyJhbGciOiJub25lIn0.${PAYLOAD}.`;

function verifier(algorithm: 'HS256' | 'RS256' | 'ES256', key: JWK) {
  return createJwtVerifier({
    issuer: { issuer: 'joe', key },
    audience: 'https://api.example.com',
    algorithms: [algorithm],
    profile: 'generic',
    now: () => 1_300_819_000_000,
  } as JwtVerifierOptions);
}

describe('the examples of RFC 7515 and RFC 7519', () => {
  it.each([
    ['appendix A.1, HS256', A1, 'HS256', HMAC_KEY],
    ['appendix A.2, RS256', A2, 'RS256', RSA_KEY],
    ['appendix A.3, ES256', A3, 'ES256', EC_KEY],
  ] as const)('have a good signature: %s', (_, text, algorithm, jwk) => {
    const { header, payload, signingInput, signature } = parseCompact(text, 8192);
    expect(header['alg']).toBe(algorithm);
    expect(payload).toEqual({ iss: 'joe', exp: 1_300_819_380, 'http://example.com/is_root': true });
    const rule = ALGORITHMS.get(algorithm);
    const { key } = importJwk(jwk, [algorithm]);
    expect(rule && verifySignature(rule, key, signingInput, signature)).toBe(true);
    signature[0] = (signature[0] ?? 0) ^ 1;
    expect(rule && verifySignature(rule, key, signingInput, signature)).toBe(false);
  });

  it.each([
    ['appendix A.1', A1, 'HS256', HMAC_KEY],
    ['appendix A.2', A2, 'RS256', RSA_KEY],
    ['appendix A.3', A3, 'ES256', EC_KEY],
  ] as const)(
    'are no access tokens all the same: %s has neither aud nor sub',
    async (_, text, algorithm, jwk) => {
      await expect(verifier(algorithm, jwk).verify(text)).rejects.toThrow(
        refusal('ERR_JWT_CLAIM_MISSING'),
      );
    },
  );

  it('are refused where they are not signed: appendix A.5 and RFC 7519 §6.1', async () => {
    await expect(verifier('RS256', RSA_KEY).verify(A5)).rejects.toThrow(
      refusal('ERR_JWT_ALGORITHM'),
    );
  });
});

describe('the example of RFC 9068 §2.2', () => {
  const key = signingKey('RS256', 'RjEwOwOA');
  const header = { typ: 'at+JWT', alg: 'RS256', kid: 'RjEwOwOA' };
  const payload = {
    iss: 'https://authorization-server.example.com/',
    sub: '5ba552d67',
    aud: 'https://rs.example.com/',
    exp: 1_639_528_912,
    iat: 1_618_354_090,
    jti: 'dbe39bf3a3ba4238a513f51d6e1691c4',
    client_id: 's6BhdRkqt3',
    scope: 'openid profile reademail',
  };
  const options = {
    issuer: { issuer: payload.iss, jwks: { keys: [key.jwk] } },
    audience: payload.aud,
    now: () => 1_618_354_100_000,
  };

  it('is accepted once its life of 245 days is allowed by name', async () => {
    const lenient = createJwtVerifier({ ...options, maxLifetimeSeconds: 'unlimited' });
    const accepted = await lenient.verify(token(key, payload, header));
    expect(accepted).toEqual({ header, claims: payload });
    await expect(createJwtVerifier(options).verify(token(key, payload, header))).rejects.toThrow(
      refusal('ERR_JWT_LIFETIME'),
    );
  });
});

it('computes the thumbprint of RFC 7638 §3.1', () => {
  const { key } = importJwk(
    {
      kty: 'RSA',
      n: '0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiFV4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1jF44-csFCur-kEgU8awapJzKnqDKgw',
      e: 'AQAB',
      alg: 'RS256',
      kid: '2011-04-29',
    },
    ['RS256'],
  );
  expect(keyThumbprint(key)).toBe('NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs');
});
