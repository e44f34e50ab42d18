import { createSecretKey, generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto';
import { types } from 'node:util';
import { importSPKI, type JWK } from 'jose';
import { describe, expect, it } from 'vitest';
import { createJwtVerifier, type IssuerOptions, type JwtVerifierOptions } from '../src/index.ts';
import { AUDIENCE, claims, header, ISSUER, now, signingKey, token } from './issuer.ts';
import { refusal } from './refusal.ts';

const rsa = signingKey('RS256');
const pem = rsa.publicKey.export({ type: 'spki', format: 'pem' }).toString();

function verifier(issuer: Partial<IssuerOptions>, options: Partial<JwtVerifierOptions> = {}) {
  return createJwtVerifier({
    issuer: { issuer: ISSUER, ...issuer },
    audience: AUDIENCE,
    now,
    ...options,
  } as JwtVerifierOptions);
}

describe('a static key', () => {
  it.each([
    ['PEM', () => pem],
    ['a KeyObject', () => rsa.publicKey],
    ['a JWK', () => rsa.jwk],
    ['a JWK without alg', () => ({ ...rsa.jwk, alg: undefined }) as unknown as JWK],
    ['a CryptoKey imported by jose', () => importSPKI(pem, 'RS256')],
  ])('is taken as %s', async (_, input) => {
    const jwt = verifier({ key: await input() });
    await expect(jwt.verify(token(rsa))).resolves.toHaveProperty('claims', claims());
  });

  it.each([undefined, 'key-1', 'any'])('serves a token whose kid is %s', async (kid) => {
    const jwt = token(rsa, claims(), header({ kid }));
    await expect(verifier({ key: rsa.jwk }).verify(jwt)).resolves.toBeDefined();
  });

  it.each([
    'RS384',
    'RS512',
    'PS256',
    'PS384',
    'PS512',
    'ES256',
    'ES384',
    'ES512',
    'EdDSA',
    'Ed25519',
  ] as const)('verifies %s when that is what is allowed', async (algorithm) => {
    const key = signingKey(algorithm);
    const jwt = verifier({ key: key.publicKey, algorithms: [algorithm] });
    await expect(jwt.verify(token(key))).resolves.toBeDefined();
    const [head, body, tag = ''] = token(key).split('.');
    const other = Buffer.from(tag, 'base64url').map((byte) => byte ^ 1);
    const forged = `${head}.${body}.${Buffer.from(other).toString('base64url')}`;
    await expect(jwt.verify(forged)).rejects.toThrow(refusal('ERR_JWT_SIGNATURE'));
  });

  const weak = generateKeyPairSync('rsa', { modulusLength: 1024 }).publicKey;
  const smallExponent = generateKeyPairSync('rsa', {
    modulusLength: 2048,
    publicExponent: 3,
  }).publicKey;
  const k256 = generateKeyPairSync('ec', { namedCurve: 'secp256k1' }).publicKey;

  it.each([
    ['an RSA key of 1024 bits', { key: weak }, /2048 bits/],
    ['an RSA key with exponent 3', { key: smallExponent }, /exponent/],
    ['a private KeyObject', { key: rsa.privateKey }, /public half/],
    [
      'a private PEM',
      { key: rsa.privateKey.export({ type: 'pkcs8', format: 'pem' }).toString() },
      /public half/,
    ],
    ['a private JWK', { key: rsa.privateKey.export({ format: 'jwk' }) as JWK }, /public half/],
    ['a text that is no PEM', { key: 'secret' }, /PEM/],
    [
      'a PEM that is no key',
      { key: '-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----' },
      /cannot be imported/,
    ],
    ['a key for encryption', { key: { ...rsa.jwk, use: 'enc' } }, /"use"/],
    ['a key of another family', { key: signingKey('ES256').publicKey }, /none of the allowed/],
    [
      'a key of another curve',
      { key: signingKey('ES384').publicKey, algorithms: ['ES256'] },
      /none of the allowed/,
    ],
    ['secp256k1 for ES256', { key: k256, algorithms: ['ES256'] }, /none of the allowed/],
    ['a JWK for another algorithm', { key: { ...rsa.jwk, alg: 'RS512' } }, /none of the allowed/],
    [
      'one key for two algorithms',
      { key: pem, algorithms: ['RS256', 'PS256'] },
      /both RS256 and PS256/,
    ],
    ['a key set without keys', { jwks: { keys: [] } }, /no usable key: it is empty/],
    ['a key set that is none', { jwks: [] as never }, /JWK set/],
    [
      'a key set without a usable key',
      { jwks: { keys: [{ ...rsa.jwk, use: 'enc' }] } },
      /no usable key: "use"/,
    ],
    ['a number', { key: 1 as never }, /must be PEM/],
    [
      'two sources',
      { key: pem, jwksUri: 'https://auth.example.com/jwks' },
      /one of jwksUri, jwks and key/,
    ],
  ] as const)('is refused at construction: %s', (_, issuer, message) => {
    expect(() => verifier(issuer as Partial<IssuerOptions>)).toThrow(TypeError);
    expect(() => verifier(issuer as Partial<IssuerOptions>)).toThrow(message);
  });
});

/** An RSA key that nobody holds the other half of. */
function rsaJwk(modulusBits: number, exponent: bigint): JWK {
  const n = randomBytes(modulusBits / 8);
  n[0] = 0x80;
  n[n.length - 1] = 1;
  const hex = exponent.toString(16);
  const e = Buffer.from(hex.padStart(hex.length + (hex.length % 2), '0'), 'hex');
  return { kty: 'RSA', n: n.toString('base64url'), e: e.toString('base64url') };
}

describe('an RSA key', () => {
  it.each([
    ['of 8192 bits', rsaJwk(8192, 65537n)],
    ['with the largest exponent (FIPS 186-5 §A.1.1)', rsaJwk(2048, 2n ** 256n - 1n)],
  ])('serves: %s', (_, key) => {
    expect(() => verifier({ key })).not.toThrow();
  });

  // Whoever makes such a key for proofs of DPoP pays a hundredth of what each costs the server.
  it.each([
    ['of 16384 bits', rsaJwk(16_384, 65537n), /8192 bits/],
    ['with an exponent of 257 bits', rsaJwk(3072, 2n ** 256n + 1n), /exponent/],
    ['with an exponent as long as its modulus', rsaJwk(3072, 2n ** 3071n + 1n), /exponent/],
    ['with an even exponent', rsaJwk(2048, 65538n), /exponent/],
  ])('is refused: %s', (_, key, message) => {
    expect(() => verifier({ key })).toThrow(message);
  });
});

/**
 * The y of each point of edwards25519 (RFC 8032 §5.1) whose order divides eight, in every encoding below 2^255, worked out from the
 * curve: 1, −1 and 0 are those of order 1, 2 and 4; doubled, those of order 8 have y = 0, so that d·y⁴ + 2·y² − 1 = 0.
 */
function smallOrderPoints(): string[] {
  const p = 2n ** 255n - 19n;
  const mod = (value: bigint): bigint => ((value % p) + p) % p;
  const power = (base: bigint, exponent: bigint): bigint =>
    exponent === 0n
      ? 1n
      : mod(power(mod(base * base), exponent / 2n) * (exponent % 2n === 1n ? base : 1n));
  const roots = (square: bigint): bigint[] => {
    const candidate = power(mod(square), (p + 3n) / 8n);
    return [candidate, mod(candidate * power(2n, (p - 1n) / 4n))]
      .filter((root) => mod(root * root) === mod(square))
      .flatMap((root) => [root, mod(-root)]);
  };
  const d = mod(-121665n * power(121666n, p - 2n));
  const ofOrder8 = roots(1n + d).flatMap((root) => roots((root - 1n) * power(d, p - 2n)));
  const all = new Set([0n, 1n, p - 1n, ...ofOrder8].flatMap((y) => [y, y + p]));
  return [...all]
    .filter((y) => y < 2n ** 255n)
    .map((y) => Buffer.from(y.toString(16).padStart(64, '0'), 'hex').reverse().toString('hex'));
}

describe('an Ed25519 key', () => {
  it('has seven encodings of points that prove nothing', () => {
    expect(smallOrderPoints()).toHaveLength(7);
  });

  // OpenSSL before 3.5, as in Node 22, takes signatures over any text for good with some of them.
  const smallOrder = smallOrderPoints();

  it.each(smallOrder.flatMap((point) => [[point, 0] as const, [point, 0x80] as const]))(
    'is refused when its point is of small order: %s, %i',
    (point, sign) => {
      const x = Buffer.from(point, 'hex');
      x[31] = (x[31] ?? 0) | sign;
      const key = { kty: 'OKP', crv: 'Ed25519', x: x.toString('base64url') };
      expect(() => verifier({ key, algorithms: ['EdDSA'] })).toThrow(/small order/);
    },
  );
});

describe('a key of Web Crypto', () => {
  const hmac = (usages: ('sign' | 'verify')[]) =>
    webcrypto.subtle.generateKey({ name: 'HMAC', hash: 'SHA-512' }, true, usages);

  it.each([
    ['another hash', () => importSPKI(pem, 'RS512'), ['RS256']],
    ['another padding', () => importSPKI(pem, 'PS256'), ['RS256']],
    ['encryption', () => importSPKI(pem, 'RSA-OAEP-256'), ['RS256']],
    ['another hash', () => hmac(['sign', 'verify']), ['HS256']],
    ['signing alone', () => hmac(['sign']), ['HS512']],
  ] as const)('is refused when it is for %s, %#', async (_, make, algorithms) => {
    const key = await make();
    expect(() => verifier({ key, algorithms })).toThrow(/none of the allowed/);
  });

  it('serves the algorithm it is for, also where others are allowed', async () => {
    const pss = signingKey('PS256');
    const spki = pss.publicKey.export({ type: 'spki', format: 'pem' }).toString();
    const key = await importSPKI(spki, 'PS256');
    const jwt = verifier({ key, algorithms: ['RS256', 'PS256'] });
    await expect(jwt.verify(token(pss))).resolves.toBeDefined();
  });

  it.each(['RS512', 'PS384', 'ES256', 'ES384', 'ES512', 'EdDSA', 'Ed25519'] as const)(
    'serves %s',
    async (algorithm) => {
      const signer = signingKey(algorithm);
      const spki = signer.publicKey.export({ type: 'spki', format: 'pem' }).toString();
      const jwt = verifier({ key: await importSPKI(spki, algorithm), algorithms: [algorithm] });
      await expect(jwt.verify(token(signer))).resolves.toBeDefined();
    },
  );
});

describe('HMAC', () => {
  const secret = Buffer.alloc(32, 7);
  const signer = { algorithm: 'HS256', privateKey: createSecretKey(secret) };

  async function hmac(payload = claims()): Promise<string> {
    const { SignJWT } = await import('jose');
    return new SignJWT(payload).setProtectedHeader({ alg: 'HS256', typ: 'at+jwt' }).sign(secret);
  }

  it('verifies when asked for by name, with a secret', async () => {
    for (const key of [secret, signer.privateKey, { kty: 'oct', k: secret.toString('base64url') }])
      await expect(
        verifier({ key, algorithms: ['HS256'] }).verify(await hmac()),
      ).resolves.toBeDefined();
    const other = verifier({ key: Buffer.alloc(32, 8), algorithms: ['HS256'] });
    await expect(other.verify(await hmac())).rejects.toThrow(refusal('ERR_JWT_SIGNATURE'));
  });

  it.each([
    ['a secret of 31 bytes', { key: secret.subarray(1), algorithms: ['HS256'] }, /32 bytes/],
    ['an empty secret', { key: Buffer.alloc(0), algorithms: ['HS256'] }, /32 bytes/],
    [
      'a secret of 47 bytes for HS384',
      { key: Buffer.alloc(47), algorithms: ['HS384'] },
      /48 bytes/,
    ],
    [
      'a secret of 63 bytes for HS512',
      { key: Buffer.alloc(63), algorithms: ['HS512'] },
      /64 bytes/,
    ],
    [
      'a secret in a JWK that is no base64url',
      { key: { kty: 'oct', k: 'correct horse battery staple, '.repeat(3) }, algorithms: ['HS256'] },
      /"k" is not base64url/,
    ],
    ['a secret without asking for HMAC', { key: secret }, /none of the allowed/],
    ['a public key as the secret', { key: Buffer.from(pem), algorithms: ['HS256'] }, /PEM text/],
    ['an RSA key under HS256', { key: pem, algorithms: ['HS256'] }, /none of the allowed/],
    ['HMAC beside signatures', { key: pem, algorithms: ['RS256', 'HS256'] }, /must not mix/],
    ['a secret to be fetched', { algorithms: ['HS256'] }, /cannot be fetched/],
  ] as const)('is refused at construction: %s', (_, issuer, message) => {
    expect(() => verifier(issuer as unknown as Partial<IssuerOptions>)).toThrow(message);
  });
});

describe('HMAC and signatures', () => {
  it('are refused in one verifier, even from two issuers', () => {
    const secret = Buffer.alloc(32, 7);
    const options = (algorithms: readonly ['RS256'] | readonly ['HS512']) => ({
      issuer: [
        { issuer: 'https://hmac.example.com', key: secret, algorithms: ['HS256'] as const },
        {
          issuer: 'https://other.example.com',
          key:
            algorithms[0] === 'RS256' ? signingKey('RS256', 'one').publicKey : Buffer.alloc(64, 9),
          algorithms,
        },
      ],
      audience: 'https://api.example.com',
    });
    expect(() => createJwtVerifier(options(['RS256']))).toThrow(/must not mix HMAC/);
    expect(() => createJwtVerifier(options(['HS512']))).not.toThrow();
  });
});

describe('a static key set', () => {
  const [one, two] = [signingKey('RS256', 'one'), signingKey('ES256', 'two')];
  const jwt = verifier({
    jwks: { keys: [one.jwk, two.jwk, { ...one.jwk, kid: 'three', use: 'enc' }] },
    algorithms: ['RS256', 'ES256'],
  });

  it('serves each token with the key it names', async () => {
    for (const [key, kid] of [
      [one, 'one'],
      [two, 'two'],
    ] as const)
      await expect(
        jwt.verify(token(key, claims(), header({ alg: key.algorithm, kid }))),
      ).resolves.toBeDefined();
  });

  it('binds each key to one algorithm', async () => {
    const swapped = token(two, claims(), header({ alg: 'ES256', kid: 'one' }));
    await expect(jwt.verify(swapped)).rejects.toThrow(refusal('ERR_JWT_KEY_UNKNOWN'));
  });

  it('serves a token with a kid by that kid only, beside keys without one', async () => {
    const mixed = verifier({ jwks: { keys: [{ ...one.jwk, kid: undefined } as never, two.jwk] } });
    const named = token(one, claims(), header({ kid: 'one' }));
    await expect(mixed.verify(named)).rejects.toThrow(refusal('ERR_JWT_KEY_UNKNOWN'));
    const nameless = token(one, claims(), header({ kid: undefined }));
    await expect(mixed.verify(nameless)).resolves.toBeDefined();
  });

  it('serves a token without kid if only one key can be meant', async () => {
    const nameless = token(one, claims(), header({ kid: undefined }));
    await expect(jwt.verify(nameless)).resolves.toBeDefined();
    const both = verifier({ jwks: { keys: [one.jwk, signingKey('RS256', 'x').jwk] } });
    await expect(both.verify(nameless)).rejects.toThrow(refusal('ERR_JWT_KEY_AMBIGUOUS'));
  });
});

it('has Web Crypto keys as jose makes them', async () => {
  expect(types.isCryptoKey(await importSPKI(pem, 'RS256'))).toBe(true);
});

describe('a public key taken for an HMAC secret', () => {
  it.each([
    ['bytes', Buffer.from(pem)],
    ['a KeyObject', createSecretKey(Buffer.from(pem))],
    ['a JWK', { kty: 'oct', k: Buffer.from(pem).toString('base64url') }],
  ])('is refused as %s', (_, key) => {
    expect(() => verifier({ key }, { algorithms: ['HS256'] })).toThrow(/PEM/);
  });
});

describe('an option of an issuer that is there but undefined', () => {
  it('does not switch off what the verifier demands', async () => {
    const issuer = { key: pem, requiredClaims: undefined } as unknown as IssuerOptions;
    const jwt = verifier(issuer, { requiredClaims: ['roles'] });
    await expect(jwt.verify(token(rsa))).rejects.toThrow(refusal('ERR_JWT_CLAIM_MISSING'));
  });
});

describe('keys fetched over http', () => {
  it.each([
    'http://auth.example.com',
    'http://127.0.0.1.example.com',
    'http://localhost.evil.example',
  ])('are refused from %s, even where loopback is allowed', (issuer) => {
    expect(() => verifier({ issuer }, { keys: { allowInsecureLoopback: true } })).toThrow(/https/);
  });

  it('are allowed from this machine, by name', () => {
    const issuer = 'http://127.0.0.1:8080';
    expect(() => verifier({ issuer })).toThrow(/https/);
    expect(() => verifier({ issuer }, { keys: { allowInsecureLoopback: true } })).not.toThrow();
  });
});
