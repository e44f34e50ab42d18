import { createHash, randomUUID } from 'node:crypto';
import { inspect } from 'node:util';
import { describe, expect, it } from 'vitest';
import { dpopPolicy } from '../src/dpop.ts';
import {
  createJwtVerifier,
  type DpopOptions,
  type DpopPresentation,
  dpopNonces,
  memoryDpopReplayStore,
} from '../src/index.ts';
import { keyThumbprint } from '../src/thumbprint.ts';
import {
  AUDIENCE,
  claims,
  ISSUER,
  NOW,
  now,
  type SigningKey,
  signingKey,
  token,
} from './issuer.ts';
import { refusal } from './refusal.ts';

const key = signingKey();
const holder = signingKey('ES256');
const thief = signingKey('ES256');
const bound = token(key, claims({ cnf: { jkt: keyThumbprint(holder.publicKey) } }));
const url = 'https://api.example.com/orders';

function verifier(dpop: DpopOptions = {}) {
  return createJwtVerifier({
    issuer: { issuer: ISSUER, jwks: { keys: [key.jwk] } },
    audience: AUDIENCE,
    dpop,
    now,
  });
}

/** The public members and nothing else. */
function publicJwk({ jwk: { kty, crv, x, y, n, e } }: SigningKey): object {
  return JSON.parse(JSON.stringify({ kty, crv, x, y, n, e }));
}

function hashOf(accessToken: string): string {
  return createHash('sha256').update(accessToken).digest('base64url');
}

interface ProofChanges {
  readonly by?: SigningKey;
  readonly header?: Record<string, unknown>;
  readonly payload?: Record<string, unknown>;
  readonly accessToken?: string;
}

/** A proof for `GET /orders`, with something wrong about it. */
function proof({
  by = holder,
  header = {},
  payload = {},
  accessToken = bound,
}: ProofChanges = {}): string {
  return token(
    by,
    {
      jti: randomUUID(),
      htm: 'GET',
      htu: url,
      iat: NOW,
      ath: hashOf(accessToken),
      ...payload,
    },
    { typ: 'dpop+jwt', alg: by.algorithm, jwk: publicJwk(by), ...header },
  );
}

function presented(value: string | readonly string[], changes: Partial<DpopPresentation> = {}) {
  return { dpop: { proof: value, method: 'GET', url, ...changes } };
}

describe('a DPoP-bound token', () => {
  it('is accepted with a proof by its holder', async () => {
    await expect(verifier().verify(bound, presented(proof()))).resolves.toHaveProperty(
      'claims.sub',
      'user-1',
    );
  });

  it.each(['ES256', 'RS256', 'PS256', 'EdDSA', 'Ed25519'])(
    'is accepted with %s',
    async (algorithm) => {
      const by = signingKey(algorithm);
      const own = token(key, claims({ cnf: { jkt: keyThumbprint(by.publicKey) } }));
      const attempt = verifier().verify(own, presented(proof({ by, accessToken: own })));
      await expect(attempt).resolves.toHaveProperty('claims.sub');
    },
  );

  it('is refused as a plain Bearer token', async () => {
    await expect(verifier().verify(bound)).rejects.toThrow(refusal('ERR_JWT_BOUND'));
  });

  it('is refused by a verifier that does not know DPoP, proof or not', async () => {
    const plain = createJwtVerifier({
      issuer: { issuer: ISSUER, key: key.jwk },
      audience: AUDIENCE,
      now,
    });
    await expect(plain.verify(bound, presented(proof()))).rejects.toThrow(refusal('ERR_JWT_BOUND'));
  });

  it('needs a new proof each time, cached or not', async () => {
    const jwt = verifier();
    const first = proof();
    await jwt.verify(bound, presented(first));
    await expect(jwt.verify(bound, presented(first))).rejects.toThrow(
      refusal('ERR_JWT_DPOP_REPLAYED'),
    );
    await expect(jwt.verify(bound, presented(proof()))).resolves.toBeDefined();
    await expect(jwt.verify(bound)).rejects.toThrow(refusal('ERR_JWT_BOUND'));
  });

  it("is not refused because of somebody else's proof of the same jti", async () => {
    const other = signingKey('ES256');
    const theirs = token(key, claims({ cnf: { jkt: keyThumbprint(other.publicKey) } }));
    const payload = { jti: 'the same' };
    const jwt = verifier();
    const first = proof({ by: other, accessToken: theirs, payload });
    await expect(jwt.verify(theirs, presented(first))).resolves.toBeDefined();
    await expect(jwt.verify(bound, presented(proof({ payload })))).resolves.toBeDefined();
  });

  it('is refused when it is bound in an unknown way, too', async () => {
    const cnf = { jkt: keyThumbprint(holder.publicKey), 'x5t#S512': 'x' };
    const doubly = token(key, claims({ cnf }));
    const attempt = verifier().verify(doubly, presented(proof({ accessToken: doubly })));
    await expect(attempt).rejects.toThrow(refusal('ERR_JWT_BOUND'));
  });

  it('is not used up by a proof that was refused', async () => {
    const jwt = verifier();
    const good = proof();
    await expect(jwt.verify(bound, presented(good, { method: 'PUT' }))).rejects.toThrow();
    await expect(jwt.verify(bound, presented(good))).resolves.toBeDefined();
  });
});

describe('RFC 9449 §4.3', () => {
  const bad = 'ERR_JWT_DPOP_PROOF';
  const { privateKey } = holder;
  const privateJwk = {
    ...publicJwk(holder),
    d: (privateKey.export({ format: 'jwk' }) as { d: string }).d,
  };

  it.each([
    ['1: no DPoP header', [], bad],
    ['1: two DPoP headers', [proof(), proof()], bad],
    ['2: a header with two proofs in it', `${proof()}, ${proof()}`, bad],
    ['2: something that is no JWT', 'proof', bad],
    ['2: an empty header', '', bad],
    ['2: a proof of 10,000 characters', proof({ payload: { x: 'x'.repeat(10_000) } }), bad],
    ['3: no jti', proof({ payload: { jti: undefined } }), bad],
    ['3: an empty jti', proof({ payload: { jti: '' } }), bad],
    ['3: a numeric jti', proof({ payload: { jti: 1 } }), bad],
    ['3: a jti of 2,000 characters', proof({ payload: { jti: 'x'.repeat(2000) } }), bad],
    ['3: no htm', proof({ payload: { htm: undefined } }), bad],
    ['3: no htu', proof({ payload: { htu: undefined } }), bad],
    ['3: no iat', proof({ payload: { iat: undefined } }), bad],
    ['3: iat as a text', proof({ payload: { iat: String(NOW) } }), bad],
    ['3: no ath', proof({ payload: { ath: undefined } }), bad],
    ['4: no typ', proof({ header: { typ: undefined } }), bad],
    ['4: another typ', proof({ header: { typ: 'JWT' } }), bad],
    ['4: an access token for a proof', bound, bad],
    ['5: alg none', proof({ header: { alg: 'none' } }), bad],
    [
      '5: a symmetric alg',
      proof({ header: { alg: 'HS256', jwk: { kty: 'oct', k: 'AAAA' } } }),
      bad,
    ],
    ['5: an alg that is not allowed', proof({ by: signingKey('ES384') }), bad],
    ["5: an alg that is not the key's", proof({ header: { alg: 'RS256' } }), bad],
    ['5: crit', proof({ header: { crit: ['x'] } }), bad],
    ['6: a signature by another key', proof({ by: { ...thief, jwk: holder.jwk } }), bad],
    ['6: no jwk', proof({ header: { jwk: undefined } }), bad],
    ['6: jwk as a text', proof({ header: { jwk: 'x' } }), bad],
    [
      '6: a point that is not on the curve',
      proof({ header: { jwk: { ...publicJwk(holder), y: holder.jwk.x } } }),
      bad,
    ],
    ['7: a private key in jwk', proof({ header: { jwk: privateJwk } }), bad],
    ['8: another method', proof({ payload: { htm: 'POST' } }), bad],
    ['8: the method in lower case', proof({ payload: { htm: 'get' } }), bad],
    ['9: another path', proof({ payload: { htu: `${url}/1` } }), bad],
    ['9: another host', proof({ payload: { htu: 'https://evil.example/orders' } }), bad],
    ['9: another scheme', proof({ payload: { htu: url.replace('https', 'http') } }), bad],
    ['9: another port', proof({ payload: { htu: 'https://api.example.com:8443/orders' } }), bad],
    ['9: a user in it', proof({ payload: { htu: 'https://x@api.example.com/orders' } }), bad],
    ['9: a path alone', proof({ payload: { htu: '/orders' } }), bad],
    [
      '9: a path in another case',
      proof({ payload: { htu: 'https://api.example.com/Orders' } }),
      bad,
    ],
    ['9: a slash escaped', proof({ payload: { htu: 'https://api.example.com/%2forders' } }), bad],
    ['11: 66 s old', proof({ payload: { iat: NOW - 66 } }), bad],
    ['11: 6 s in the future', proof({ payload: { iat: NOW + 6 } }), bad],
    ['11: iat beyond all numbers', proof({ payload: { iat: -Number.MAX_VALUE } }), bad],
    ['12: ath of another token', proof({ accessToken: 'x' }), bad],
    ['12: a key the token is not bound to', proof({ by: thief }), 'ERR_JWT_DPOP_BINDING'],
  ] as const)('refuses, check %s', async (_, value, code) => {
    await expect(verifier().verify(bound, presented(value))).rejects.toThrow(refusal(code));
  });

  it.each([
    ['9: a query and a fragment', 'https://api.example.com/orders?x=1#y', url],
    ['9: a query of the request', url, `${url}?page=2`],
    ['9: scheme and host in upper case', 'HTTPS://API.example.COM/orders', url],
    ['9: the port that goes without saying', 'https://api.example.com:443/orders', url],
    ['9: a letter escaped', 'https://api.example.com/%6frders', url],
    [
      '9: an escape in lower case',
      'https://api.example.com/a%c3%a9',
      'https://api.example.com/a%C3%A9',
    ],
    ['9: dots in the path', 'https://api.example.com/x/../orders', url],
    ['9: no path', 'https://api.example.com', 'https://api.example.com/'],
  ])('accepts, check %s', async (_, htu, requested) => {
    const attempt = presented(proof({ payload: { htu } }), { url: requested });
    await expect(verifier().verify(bound, attempt)).resolves.toBeDefined();
  });

  it.each([
    'https://api.example.com/admin/../orders',
    'https://api.example.com/admin/..',
    'https://api.example.com/admin/%2e%2E/orders',
    'https://api.example.com/./orders',
    'https://api.example.com/admin\\..\\orders',
    'https://api.example.com/admin/..?page=2',
  ])('refuses, check 9: a request for %s, which a router reads differently', async (requested) => {
    const htu = new URL(requested).href;
    const attempt = presented(proof({ payload: { htu } }), { url: requested });
    await expect(verifier().verify(bound, attempt)).rejects.toThrow(refusal(bad));
  });

  it.each(['https://api.example.com/a..b/...', 'https://api.example.com/orders?path=/../x'])(
    'accepts, check 9: dots that mean nothing, as in %s',
    async (requested) => {
      const attempt = presented(proof({ payload: { htu: requested } }), { url: requested });
      await expect(verifier().verify(bound, attempt)).resolves.toBeDefined();
    },
  );

  it.each([undefined, null, 7, {}])('refuses, check 1: %j for a header', async (value) => {
    await expect(verifier().verify(bound, presented(value as never))).rejects.toThrow(refusal(bad));
  });

  it('refuses, check 8: a proof for no method, however little is known of the request', async () => {
    const attempt = presented(proof({ payload: { htm: undefined } }), {
      method: undefined as never,
    });
    await expect(verifier().verify(bound, attempt)).rejects.toThrow(refusal(bad));
  });

  it.each([65, -5])('accepts, check 11: a proof %i s old', async (age) => {
    const attempt = presented(proof({ payload: { iat: NOW - age } }));
    await expect(verifier().verify(bound, attempt)).resolves.toBeDefined();
  });

  it('refuses, check 10: a proof without the nonce, or with an old or foreign one', async () => {
    let time = NOW * 1000;
    const nonces = dpopNonces({
      secrets: [Buffer.alloc(32, 1)],
      periodSeconds: 60,
      now: () => time,
    });
    const foreign = dpopNonces({ secrets: [Buffer.alloc(32, 2)], periodSeconds: 60, now });
    const jwt = verifier({ nonces });
    const withNonce = (nonce?: unknown) => presented(proof({ payload: { nonce } }));
    const nonce = nonces.issue();
    await expect(jwt.verify(bound, withNonce(nonce))).resolves.toBeDefined();
    for (const wrong of [undefined, '', 1, 'x', `${nonce}A`, foreign.issue()])
      await expect(jwt.verify(bound, withNonce(wrong))).rejects.toThrow(
        refusal('ERR_JWT_DPOP_NONCE'),
      );
    time += 60_000;
    await expect(jwt.verify(bound, withNonce(nonce))).resolves.toBeDefined();
    time += 60_000;
    await expect(jwt.verify(bound, withNonce(nonce))).rejects.toThrow(
      refusal('ERR_JWT_DPOP_NONCE'),
    );
  });
});

it.each([undefined, 1, 'yes', Promise.resolve(true), Promise.resolve(false)])(
  'a nonce is refused unless the answer is yes: %s',
  async (answer) => {
    const nonces = { issue: () => 'nonce', accepts: (() => answer) as unknown as () => boolean };
    const attempt = presented(proof({ payload: { nonce: 'any' } }));
    await expect(verifier({ nonces }).verify(bound, attempt)).rejects.toThrow(
      refusal('ERR_JWT_DPOP_NONCE'),
    );
  },
);

it.each([Number.NaN, Number.POSITIVE_INFINITY, -1])(
  'a nonce is neither made nor accepted by a clock that gives no time: %d',
  (time) => {
    const nonces = dpopNonces({ secrets: [Buffer.alloc(32, 1)], now: () => time });
    expect(() => nonces.issue()).toThrow(refusal('ERR_JWT_CLOCK'));
    expect(() => nonces.accepts('nonce')).toThrow(refusal('ERR_JWT_CLOCK'));
  },
);

it('a nonce of the first period there ever was is accepted in it', () => {
  const nonces = dpopNonces({ secrets: [Buffer.alloc(32, 1)], now: () => 0 });
  expect(nonces.accepts(nonces.issue())).toBe(true);
});

describe('DPoP and tokens that are not bound', () => {
  it('refuses a proof beside a token that is bound to no key', async () => {
    const plain = token(key);
    const attempt = verifier().verify(plain, presented(proof({ accessToken: plain })));
    await expect(attempt).rejects.toThrow(refusal('ERR_JWT_DPOP_BINDING'));
  });

  it('accepts a plain token unless binding is required', async () => {
    await expect(verifier().verify(token(key))).resolves.toBeDefined();
    await expect(verifier({ required: true }).verify(token(key))).rejects.toThrow(
      refusal('ERR_JWT_BOUND'),
    );
  });

  it('refuses when the replay store fails', async () => {
    for (const claim of [
      () => Promise.reject(new Error('connection refused')),
      () => {
        throw new Error('connection refused');
      },
    ])
      await expect(
        verifier({ replayStore: { claim } }).verify(bound, presented(proof())),
      ).rejects.toThrow(refusal('ERR_JWT_REPLAY_STORE_UNAVAILABLE'));
  });

  it.each([false, undefined, null, 0, 1, 'OK'])(
    'refuses when the replay store answers %j',
    async (answer) => {
      for (const claim of [() => answer, () => Promise.resolve(answer)]) {
        const replayStore = { claim: claim as unknown as () => boolean };
        await expect(verifier({ replayStore }).verify(bound, presented(proof()))).rejects.toThrow(
          refusal('ERR_JWT_DPOP_REPLAYED'),
        );
      }
    },
  );

  it('refuses when the memory for proofs is full, and goes on when they have expired', async () => {
    let time = NOW * 1000;
    const replayStore = memoryDpopReplayStore({ maxEntries: 2, now: () => time });
    const jwt = verifier({ replayStore });
    await jwt.verify(bound, presented(proof()));
    await jwt.verify(bound, presented(proof()));
    await expect(jwt.verify(bound, presented(proof()))).rejects.toThrow(
      refusal('ERR_JWT_REPLAY_STORE_UNAVAILABLE'),
    );
    time += 120_000;
    await expect(jwt.verify(bound, presented(proof()))).resolves.toBeDefined();
  });
});

describe('the examples of RFC 9449', () => {
  const resourceProof =
    'eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiJlMWozVl9iS2ljOC1MQUVCIiwiaHRtIjoiR0VUIiwiaHR1IjoiaHR0cHM6Ly9yZXNvdXJjZS5leGFtcGxlLm9yZy9wcm90ZWN0ZWRyZXNvdXJjZSIsImlhdCI6MTU2MjI2MjYxOCwiYXRoIjoiZlVIeU8ycjJaM0RaNTNFc05yV0JiMHhXWG9hTnk1OUlpS0NBcWtzbVFFbyJ9.2oW9RP35yRqzhrtNP86L-Ey71EOptxRimPPToA1plemAgR6pxHF8y6-yqyVnmcw6Fy1dqd-jfxSYoMxhAJpLjA';
  const accessToken = 'Kz~8mXK1EalYznwH-LC-1fBAo.4Ljp~zsPE_NeO.gxU';
  const jkt = '0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I';
  const at = { nowMs: 1_562_262_618_000, latestMs: 1_562_262_618_000 };
  const target = { method: 'GET', url: 'https://resource.example.org/protectedresource' };

  it('accepts the proof of figure 12 for the token and the key of the example', () => {
    const context = { token: accessToken, jkt, at, toleranceSeconds: 0 };
    const used = dpopPolicy({}, undefined).check({ proof: resourceProof, ...target }, context);
    expect(used.ttlMs).toBe(61_000);
  });

  it('refuses it for another token', () => {
    const context = { token: 'x', jkt, at, toleranceSeconds: 0 };
    expect(() =>
      dpopPolicy({}, undefined).check({ proof: resourceProof, ...target }, context),
    ).toThrow(refusal('ERR_JWT_DPOP_PROOF'));
  });
});

describe('options of DPoP', () => {
  it.each([
    [{ algorithms: ['HS256'] }, /asymmetric/],
    [{ algorithms: [] }, /at least one/],
    [{ maxAgeSeconds: 0 }, /maxAgeSeconds/],
    [{ nonce: true }, /unknown dpop option "nonce"/],
  ])('refuses %j', (dpop, message) => {
    expect(() => verifier(dpop as DpopOptions)).toThrow(message);
  });

  it.each([
    [{ secrets: [] }, /at least one/],
    [{ secrets: [Buffer.alloc(31)] }, /32 bytes/],
    [{ secrets: [key.publicKey] }, /32 bytes/],
    [{ secrets: [Buffer.alloc(32)], periodSeconds: -1 }, /periodSeconds/],
  ])('refuses nonces from %j', (options, message) => {
    expect(() => dpopNonces(options)).toThrow(message);
  });

  it('accepts nonces of a secret that is being replaced', () => {
    const [older, newer] = [Buffer.alloc(32, 1), Buffer.alloc(32, 2)];
    const nonce = dpopNonces({ secrets: [older], now }).issue();
    expect(dpopNonces({ secrets: [newer, older], now }).accepts(nonce)).toBe(true);
    expect(dpopNonces({ secrets: [newer], now }).accepts(nonce)).toBe(false);
  });
});

describe('a replay store shared by processes whose clocks differ', () => {
  it('keeps a proof used up for as long as the slowest of them would take it', async () => {
    let time = NOW * 1000;
    const replayStore = memoryDpopReplayStore({ now: () => time });
    const process = (aheadMs: number) =>
      createJwtVerifier({
        issuer: { issuer: ISSUER, jwks: { keys: [key.jwk] } },
        audience: AUDIENCE,
        dpop: { replayStore },
        now: () => time + aheadMs,
      });
    const slow = process(0);
    const used = presented(proof());
    await process(5000).verify(bound, used);
    for (; time < (NOW + 80) * 1000; time += 1000)
      await expect(slow.verify(bound, used)).rejects.toHaveProperty('name', 'JwtError');
  });
});

describe('an error about a proof', () => {
  it.each([
    { kty: 'EC', crv: 'MARKER', x: 'MARKER', y: 'MARKER' },
    { kty: 'MARKER' },
    { kty: 'RSA', n: ['MARKER'], e: 'AQAB' },
  ])('quotes nothing of its key: %j', async (jwk) => {
    const error: unknown = await verifier()
      .verify(bound, presented(proof({ header: { jwk } })))
      .catch((caught: unknown) => caught);
    expect(error).toHaveProperty('code', 'ERR_JWT_DPOP_PROOF');
    expect(inspect(error, { depth: 9 })).not.toContain('MARKER');
  });
});

describe('a key that the token is not bound to', () => {
  it('is refused before any signature is checked with it', async () => {
    const [head, body] = proof({ by: thief }).split('.');
    const unsigned = presented(`${head}.${body}.AAAA`);
    await expect(verifier().verify(bound, unsigned)).rejects.toThrow(
      refusal('ERR_JWT_DPOP_BINDING'),
    );
  });
});
