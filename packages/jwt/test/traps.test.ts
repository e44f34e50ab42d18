import { describe, expect, it } from 'vitest';
import type { FetchLike } from '../src/fetch-json.ts';
import { createDenylist, createJwtVerifier } from '../src/index.ts';
import { AUDIENCE, claims, header, ISSUER, NOW, now, signingKey, token } from './issuer.ts';
import { refusal } from './refusal.ts';

const key = signingKey('ES256');
const issuer = { issuer: ISSUER, jwks: { keys: [key.jwk] }, algorithms: ['ES256'] as const };

async function* body(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

/** A `fetch` that answers what `answer` says for each URL; `undefined` is an outage. */
function fetching(answer: (url: string) => object | undefined): FetchLike {
  return async (url) => {
    const document = answer(url);
    if (document === undefined) throw new Error('connection refused');
    return { status: 200, body: body(JSON.stringify(document)) };
  };
}

/** What others fell into. */
describe('traps', () => {
  it('shares no cached token across audiences or policies', async () => {
    const text = token(key);
    const orders = createJwtVerifier({ issuer, audience: AUDIENCE, now });
    const billing = createJwtVerifier({ issuer, audience: 'https://billing.example.com', now });
    const short = createJwtVerifier({ issuer, audience: AUDIENCE, maxLifetimeSeconds: 60, now });
    await orders.verify(text);
    await expect(billing.verify(text)).rejects.toThrow(refusal('ERR_JWT_AUDIENCE'));
    await expect(short.verify(text)).rejects.toThrow(refusal('ERR_JWT_LIFETIME'));
  });

  it('gives no token the cached answer of another, however alike', async () => {
    const jwt = createJwtVerifier({ issuer, audience: AUDIENCE, now });
    const text = token(key);
    await jwt.verify(text);
    const [head, , tag] = text.split('.');
    for (const sub of ['admin', 'user-2', 'user-1 ']) {
      const payload = Buffer.from(JSON.stringify(claims({ sub }))).toString('base64url');
      // The very end of the text, by which the cache finds it, is the same.
      await expect(jwt.verify(`${head}.${payload}.${tag}`)).rejects.toThrow(
        refusal('ERR_JWT_SIGNATURE'),
      );
    }
  });

  it('accepts no token without an audience, whatever the profile', async () => {
    for (const profile of ['rfc9068', 'generic'] as const) {
      const jwt = createJwtVerifier({ issuer, audience: AUDIENCE, profile, now });
      for (const aud of [undefined, null, [], [null], ''])
        await expect(jwt.verify(token(key, claims({ aud })))).rejects.toThrow();
    }
  });

  it('does not remember that discovery failed', async () => {
    let time = NOW * 1000;
    let up = false;
    const jwt = createJwtVerifier({
      issuer: ISSUER,
      audience: AUDIENCE,
      algorithms: ['ES256'],
      now: () => time,
      keys: {
        fetch: fetching((url) => {
          if (!up) return undefined;
          return url.endsWith('/jwks')
            ? { keys: [key.jwk] }
            : { issuer: ISSUER, jwks_uri: `${ISSUER}/jwks` };
        }),
      },
    });
    await expect(jwt.verify(token(key))).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
    up = true;
    time += 1000;
    await expect(jwt.verify(token(key))).resolves.toBeDefined();
  });

  it('goes on when the key set cannot be fetched any more', async () => {
    let time = NOW * 1000;
    let up = true;
    const jwt = createJwtVerifier({
      issuer: { issuer: ISSUER, jwksUri: `${ISSUER}/jwks` },
      audience: AUDIENCE,
      algorithms: ['ES256'],
      now: () => time,
      keys: { fetch: fetching(() => (up ? { keys: [key.jwk] } : undefined)) },
    });
    await jwt.verify(token(key));
    up = false;
    for (let minute = 0; minute < 59; minute += 1) {
      time += 60_000;
      const seconds = time / 1000;
      const fresh = token(key, claims({ iat: seconds - 10, exp: seconds + 60 }));
      await expect(jwt.verify(fresh)).resolves.toBeDefined();
    }
  });

  it('denies a token by what it is, not by its text', async () => {
    const denylist = createDenylist({ now });
    const jwt = createJwtVerifier({
      issuer,
      audience: AUDIENCE,
      denylist: denylist.isRevoked,
      now,
    });
    const text = token(key);
    const twin = withOtherSignature(text);
    const { claims: accepted } = await jwt.verify(text);
    await expect(jwt.verify(twin)).resolves.toBeDefined();
    await denylist.revoke(accepted);
    for (const either of [text, twin])
      await expect(jwt.verify(either)).rejects.toThrow(refusal('ERR_JWT_REVOKED'));
  });

  it('takes one text of a signature only', async () => {
    const jwt = createJwtVerifier({ issuer, audience: AUDIENCE, now });
    const text = token(key);
    const alphabet = 'ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_';
    const last = alphabet.indexOf(text.slice(-1));
    // 64 bytes leave four unused bits in the last character.
    for (let bits = 1; bits < 16; bits += 1) {
      const other = text.slice(0, -1) + alphabet[last ^ bits];
      await expect(jwt.verify(other)).rejects.toThrow(refusal('ERR_JWT_ENCODING'));
    }
  });

  it('checks no signature with a key of another algorithm (the psychic signature)', async () => {
    const jwt = createJwtVerifier({ issuer, audience: AUDIENCE, now });
    const [head, payload] = token(key).split('.');
    const n = 'ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551';
    const one = '01'.padStart(64, '0');
    const zero = '00'.repeat(32);
    for (const [r, s] of [
      [zero, zero],
      [zero, one],
      [one, zero],
      [n, n],
      [n, one],
      [one, n],
    ] as const) {
      const tag = Buffer.from(r + s, 'hex').toString('base64url');
      await expect(jwt.verify(`${head}.${payload}.${tag}`)).rejects.toThrow(
        refusal('ERR_JWT_SIGNATURE'),
      );
    }
  });

  it('takes no ECDSA signature in DER', async () => {
    const { sign } = await import('node:crypto');
    const jwt = createJwtVerifier({ issuer, audience: AUDIENCE, now });
    const input = token(key).split('.').slice(0, 2).join('.');
    const der = sign('sha256', Buffer.from(input), key.privateKey).toString('base64url');
    await expect(jwt.verify(`${input}.${der}`)).rejects.toThrow(refusal('ERR_JWT_SIGNATURE'));
  });

  it('takes no discovery document of another issuer, not even one with a slash behind', async () => {
    for (const named of [`${ISSUER}/`, 'https://evil.example', undefined]) {
      const jwt = createJwtVerifier({
        issuer: ISSUER,
        audience: AUDIENCE,
        algorithms: ['ES256'],
        now,
        keys: {
          fetch: fetching((url) =>
            url.endsWith('/jwks')
              ? { keys: [key.jwk] }
              : { issuer: named, jwks_uri: `${ISSUER}/jwks` },
          ),
        },
      });
      await expect(jwt.verify(token(key, claims(), header({ alg: 'ES256' })))).rejects.toThrow(
        refusal('ERR_JWT_KEYS_UNAVAILABLE'),
      );
    }
  });
});

/** Of an ECDSA signature (r, s) there is always a second one, (r, n − s). */
function withOtherSignature(text: string): string {
  const n = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551n;
  const [head, payload, tag = ''] = text.split('.');
  const bytes = Buffer.from(tag, 'base64url');
  const s = BigInt(`0x${bytes.subarray(32).toString('hex')}`);
  const other = Buffer.from((n - s).toString(16).padStart(64, '0'), 'hex');
  const both = Buffer.concat([bytes.subarray(0, 32), other]).toString('base64url');
  return `${head}.${payload}.${both}`;
}
