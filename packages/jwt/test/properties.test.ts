import fc from 'fast-check';
import { createLocalJWKSet, jwtVerify } from 'jose';
import { describe, expect, it } from 'vitest';
import { decodeBase64url } from '../src/base64url.ts';
import { createJwtVerifier, JwtError } from '../src/index.ts';
import { parseJsonObject } from '../src/json.ts';
import { AUDIENCE, claims, encode, header, ISSUER, NOW, now, signingKey, token } from './issuer.ts';

const key = signingKey('ES256');
const jwks = { keys: [key.jwk] };
const verifier = createJwtVerifier({
  issuer: { issuer: ISSUER, jwks },
  audience: AUDIENCE,
  algorithms: ['ES256'],
  cache: { maxEntries: 4 },
  now,
});

async function outcome(text: string): Promise<'accepted' | JwtError> {
  try {
    await verifier.verify(text);
    return 'accepted';
  } catch (error) {
    if (error instanceof JwtError) return error;
    throw error;
  }
}

const part = fc.oneof(
  fc.string(),
  fc.string({ unit: 'binary' }),
  fc.json().map(encode),
  fc
    .dictionary(
      fc.constantFrom('alg', 'kid', 'typ', 'iss', 'aud', 'exp', '__proto__'),
      fc.jsonValue(),
    )
    .map(encode),
  fc.uint8Array().map((bytes) => Buffer.from(bytes).toString('base64url')),
);

describe('any text at all', () => {
  it('is refused with a code, and without being repeated', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(part, { maxLength: 6 }), async (parts) => {
        const result = await outcome(parts.join('.'));
        expect(result).toBeInstanceOf(JwtError);
        const { message, code } = result as JwtError;
        expect(code).toMatch(/^ERR_JWT_[A-Z_]+$/);
        for (const text of parts.filter(({ length }) => length > 20))
          expect(message).not.toContain(text);
      }),
      { numRuns: 2000 },
    );
  });

  it('is refused when one character of a good token is another', async () => {
    const good = token(key);
    await fc.assert(
      fc.asyncProperty(
        fc.nat(good.length - 1),
        fc.string({ minLength: 0, maxLength: 2, unit: 'binary' }),
        async (at, put) => {
          fc.pre(good[at] !== put);
          expect(await outcome(good.slice(0, at) + put + good.slice(at + 1))).toBeInstanceOf(
            JwtError,
          );
        },
      ),
      { numRuns: 1000 },
    );
  });

  it('is refused when a good token is cut or repeated', async () => {
    const good = token(key);
    await fc.assert(
      fc.asyncProperty(fc.nat(good.length - 1), async (at) => {
        expect(await outcome(good.slice(0, at))).toBeInstanceOf(JwtError);
        expect(await outcome(good + good.slice(at))).toBeInstanceOf(JwtError);
      }),
    );
  });
});

/** Values an issuer might put where a sensible one belongs. */
const odd = fc.oneof(
  fc.jsonValue(),
  fc.constantFrom(undefined, '', null, 0, -1, NOW, String(NOW), 1e300, [], {}, [AUDIENCE], true),
  fc.integer({ min: NOW - 2000, max: NOW + 2000 }),
  fc.double({ min: NOW - 10, max: NOW + 10, noNaN: true }),
);

describe('beside jose', () => {
  it('accepts nothing that jose refuses', async () => {
    const local = createLocalJWKSet(jwks);
    let accepted = 0;
    const name = fc.constantFrom('iss', 'sub', 'aud', 'exp', 'iat', 'nbf', 'jti', 'client_id', 'x');
    await fc.assert(
      fc.asyncProperty(fc.dictionary(name, odd), async (changes) => {
        const text = token(key, claims(changes), header({ alg: 'ES256' }));
        if ((await outcome(text)) !== 'accepted') return;
        accepted += 1;
        const result = await jwtVerify(text, local, {
          issuer: ISSUER,
          audience: AUDIENCE,
          typ: 'at+jwt',
          algorithms: ['ES256'],
          clockTolerance: 5,
          requiredClaims: ['sub', 'exp', 'iat', 'jti', 'client_id'],
          currentDate: new Date(NOW * 1000),
        });
        expect((await verifier.verify(text)).claims).toEqual(result.payload);
      }),
      { numRuns: 2000 },
    );
    expect(accepted).toBeGreaterThan(100);
  });
});

describe('decodeBase64url', () => {
  it('decodes what it should, and has one text for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array(), (bytes) => {
        const text = Buffer.from(bytes).toString('base64url');
        expect([...decodeBase64url(text)]).toEqual([...bytes]);
      }),
    );
    fc.assert(
      fc.property(fc.oneof(fc.string(), fc.base64String()), (text) => {
        let bytes: Buffer;
        try {
          bytes = decodeBase64url(text);
        } catch {
          return;
        }
        expect(bytes.toString('base64url')).toBe(text);
      }),
    );
  });
});

describe('parseJsonObject', () => {
  it('reads what JSON.parse reads, unless a member occurs twice', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.jsonValue({ maxDepth: 5 })),
        fc.constantFrom(undefined, 1, '\t'),
        (value, space) => {
          fc.pre(!JSON.stringify(value).includes('__proto__'));
          const text = JSON.stringify(value, null, space);
          expect(parseJsonObject(Buffer.from(text))).toEqual(JSON.parse(text));
        },
      ),
    );
  });

  it('refuses any object in which a member occurs twice, however deep', () => {
    fc.assert(
      fc.property(
        fc.dictionary(fc.string(), fc.jsonValue()),
        fc.string(),
        fc.nat(10),
        (others, name, depth) => {
          fc.pre(!JSON.stringify(others).includes('__proto__'));
          const members = Object.entries(others).map(
            ([n, v]) => `${JSON.stringify(n)}:${JSON.stringify(v)}`,
          );
          const twice = [...members, `${JSON.stringify(name)}:1`, `${JSON.stringify(name)}:2`].join(
            ',',
          );
          const text = `${'{"a":['.repeat(depth / 2)}{${twice}}${']}'.repeat(depth / 2)}`;
          expect(() => parseJsonObject(Buffer.from(text))).toThrow(JwtError);
        },
      ),
    );
  });
});
