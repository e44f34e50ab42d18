import { createHash, randomUUID, X509Certificate } from 'node:crypto';
import { channel } from 'node:diagnostics_channel';
import type { GuardRequest, Verdict } from '@countersign/guard';
import { describe, expect, it } from 'vitest';
import { type JwtGuardOptions, jwtGuard, type Principal } from '../src/guard.ts';
import {
  createJwtVerifier,
  type DpopOptions,
  dpopNonces,
  type GenericClaims,
  type JwtVerifier,
  type JwtVerifierOptions,
} from '../src/index.ts';
import { certificateThumbprint, keyThumbprint } from '../src/thumbprint.ts';
import { CERTIFICATE } from './certificate.ts';
import { AUDIENCE, claims, ISSUER, NOW, now, signingKey, token } from './issuer.ts';
import { request } from './request.ts';

const key = signingKey();
const holder = signingKey('ES256');

function verifier(options: Partial<JwtVerifierOptions> = {}) {
  return createJwtVerifier({
    issuer: { issuer: ISSUER, key: key.publicKey },
    audience: AUDIENCE,
    now,
    ...options,
  } as JwtVerifierOptions);
}

async function ask(
  asked: GuardRequest,
  options: JwtGuardOptions = {},
  jwt: JwtVerifier<GenericClaims> = verifier(),
): Promise<Verdict<Principal<GenericClaims>>> {
  return jwtGuard(jwt, options)(asked, {});
}

function bearing(...authorization: readonly string[]): GuardRequest {
  return request({ headers: { authorization } });
}

/** The challenges of an answer. */
function challenges(verdict: Verdict<unknown>): readonly string[] {
  return headersOf(verdict, 'www-authenticate');
}

function headersOf(verdict: Verdict<unknown>, name: string): readonly string[] {
  return (verdict.headers ?? []).filter(([one]) => one === name).map(([, value]) => value);
}

function statusOf(verdict: Verdict<unknown>): number {
  return verdict.pass ? 200 : verdict.status;
}

describe('jwtGuard', () => {
  it('lets a good token pass and says who calls', async () => {
    expect(await ask(bearing(`Bearer ${token(key)}`))).toEqual({
      pass: true,
      context: {
        claims: claims(),
        clientId: 'client-1',
        subject: 'user-1',
        scopes: ['orders:read', 'orders:write'],
      },
    });
  });

  it.each(['bearer', 'BEARER', 'Bearer  '])(
    'takes the scheme without regard to case: %s',
    async (scheme) => {
      expect(await ask(bearing(`${scheme} ${token(key)}`))).toHaveProperty('pass', true);
    },
  );

  it('decides without a promise when nothing has to be waited for', () => {
    const verdict = jwtGuard(verifier())(bearing(`Bearer ${token(key)}`), {});
    expect(verdict).not.toBeInstanceOf(Promise);
  });

  it('waits for a denylist', async () => {
    const jwt = verifier({ denylist: () => Promise.resolve(true) });
    expect(statusOf(await ask(bearing(`Bearer ${token(key)}`), {}, jwt))).toBe(401);
  });
});

describe('RFC 6750 §3', () => {
  it('challenges a request without a token, without an error code (§3.1)', async () => {
    for (const bare of [bearing(), bearing('Basic YTpi'), bearing('Bearerx y')]) {
      const verdict = await ask(bare, { realm: 'orders', scopes: ['orders:read'] });
      expect(statusOf(verdict)).toBe(401);
      expect(challenges(verdict)).toEqual(['Bearer realm="orders", scope="orders:read"']);
    }
    expect(challenges(await ask(bearing()))).toEqual(['Bearer']);
  });

  it.each([
    ['a malformed token', 'abc'],
    ['an expired token', token(key, claims({ exp: NOW - 10 }))],
    ['a token for somebody else', token(key, claims({ aud: 'x' }))],
    ['a forged token', token(signingKey())],
  ])('answers 401 invalid_token to %s, and does not say why', async (_, text) => {
    const verdict = await ask(bearing(`Bearer ${text}`), { scopes: ['orders:read'] });
    expect(statusOf(verdict)).toBe(401);
    expect(challenges(verdict)).toEqual(['Bearer error="invalid_token"']);
    expect(verdict).toHaveProperty(
      'body',
      '{"type":"about:blank","title":"Unauthorized","status":401}',
    );
    expect(headersOf(verdict, 'cache-control')).toEqual(['no-store']);
  });

  it.each([
    ['a token in the query', request({ query: 'access_token=x' })],
    [
      'a token in the query and one in the header',
      request({ query: 'access_token=x', headers: { authorization: [`Bearer ${token(key)}`] } }),
    ],
    ['two headers', bearing(`Bearer ${token(key)}`, `Bearer ${token(key)}`)],
    ['two tokens in a header', bearing(`Bearer ${token(key)} ${token(key)}`)],
    ['two schemes in a header', bearing(`Bearer ${token(key)}, Basic YTpi`)],
    ['no token behind the scheme', bearing('Bearer ')],
    ['the scheme alone', bearing('Bearer')],
    ['a token with a letter that has no place there', bearing('Bearer a"b')],
  ])('answers 400 invalid_request to %s', async (_, bad) => {
    const verdict = await ask(bad);
    expect(statusOf(verdict)).toBe(400);
    expect(challenges(verdict)).toEqual(['Bearer error="invalid_request"']);
  });

  it('answers 403 insufficient_scope and names the scopes that are needed', async () => {
    const options = { scopes: ['orders:read', 'orders:delete'], realm: 'a "b"\\' };
    const verdict = await ask(bearing(`Bearer ${token(key)}`), options);
    expect(statusOf(verdict)).toBe(403);
    expect(challenges(verdict)).toEqual([
      'Bearer realm="a \\"b\\"\\\\", error="insufficient_scope", scope="orders:read orders:delete"',
    ]);
  });

  it('takes no token from a form (§2.2)', async () => {
    const form = request({
      method: 'POST',
      headers: { 'content-type': ['application/x-www-form-urlencoded'] },
    });
    const body = Buffer.from(`access_token=${token(key)}`);
    expect(statusOf(await ask({ ...form, rawBody: () => Promise.resolve(body) }))).toBe(401);
  });

  it.each([
    ['application/x-www-form-urlencoded', 'amount=1&access_token=x', 400],
    ['Application/X-WWW-Form-URLencoded; charset=utf-8', 'acc%65ss_token=', 400],
    ['application/x-www-form-urlencoded', 'amount=1&note=access_token', 200],
    ['application/json', '{"access_token":"x"}', 200],
  ])('judges %s: %s beside a good token with %i (§2)', async (type, text, status) => {
    const posted = request({
      method: 'POST',
      headers: { authorization: [`Bearer ${token(key)}`], 'content-type': [type] },
    });
    const verdict = await ask({ ...posted, rawBody: async () => Buffer.from(text) });
    expect(verdict.pass ? 200 : verdict.status).toBe(status);
  });

  it('names the metadata of the resource (RFC 9728 §5.1)', async () => {
    const resourceMetadata = 'https://api.example.com/.well-known/oauth-protected-resource';
    expect(challenges(await ask(bearing(), { resourceMetadata }))).toEqual([
      `Bearer resource_metadata="${resourceMetadata}"`,
    ]);
  });
});

describe('scopes', () => {
  const needed = { scopes: ['orders:read', 'orders:write'] };

  it.each([
    ['scope', { scope: 'orders:write x orders:read' }],
    ['scp as a list', { scope: undefined, scp: ['orders:read', 'orders:write'] }],
    ['scp as a text', { scope: undefined, scp: 'orders:read orders:write' }],
  ])('are read from %s', async (_, changes) => {
    const verdict = await ask(bearing(`Bearer ${token(key, claims(changes))}`), needed);
    expect(verdict).toHaveProperty('pass', true);
  });

  it.each([
    ['are not there', { scope: undefined }, 403],
    ['are empty', { scope: '' }, 403],
    ['only begin alike', { scope: 'orders:reader orders:write' }, 403],
    ['are one text', { scope: 'orders:read,orders:write' }, 403],
    ['are in scp beside another scope', { scope: 'x', scp: ['orders:read', 'orders:write'] }, 403],
    ['are in scp beside an empty scope', { scope: '', scp: ['orders:read', 'orders:write'] }, 403],
    ['are a list in scope', { scope: ['orders:read', 'orders:write'] }, 401],
    [
      'are within a list within scp',
      { scope: undefined, scp: [['orders:read', 'orders:write']] },
      401,
    ],
    ['are an object', { scope: undefined, scp: { 'orders:read': true } }, 401],
  ])('are not granted when they %s', async (_, changes, status) => {
    const verdict = await ask(bearing(`Bearer ${token(key, claims(changes))}`), needed);
    expect(statusOf(verdict)).toBe(status);
  });
});

describe('when something is away', () => {
  const failing = () => Promise.reject(new Error('down'));

  it.each([
    ['the denylist', verifier({ denylist: failing })],
    ['the issuer', verifier({ issuer: ISSUER, keys: { fetch: failing } })],
    ['the clock', verifier({ now: () => Number.NaN })],
  ])('answers 503 and when to come again: %s', async (_, jwt) => {
    const verdict = await ask(bearing(`Bearer ${token(key)}`), {}, jwt);
    expect(statusOf(verdict)).toBe(503);
    expect(headersOf(verdict, 'retry-after')).toEqual(['5']);
    expect(challenges(verdict)).toEqual([]);
  });

  it('passes on what is no refusal', async () => {
    const now = () => {
      throw new RangeError('a bug');
    };
    await expect(ask(bearing('Bearer x'), {}, verifier({ now }))).rejects.toThrow('a bug');
  });
});

describe('DPoP at the guard', () => {
  const bound = token(key, claims({ cnf: { jkt: keyThumbprint(holder.publicKey) } }));
  const baseUrl = 'https://api.example.com/v1/';
  const { kty, crv, x, y } = holder.jwk;

  function proof(payload: Record<string, unknown> = {}): string {
    return token(
      holder,
      {
        jti: randomUUID(),
        htm: 'GET',
        htu: 'https://api.example.com/v1/orders',
        iat: NOW,
        ath: createHash('sha256').update(bound).digest('base64url'),
        ...payload,
      },
      { typ: 'dpop+jwt', alg: 'ES256', jwk: { kty, crv, x, y } },
    );
  }

  function asking(dpop: readonly string[], scheme = 'DPoP', text = bound): GuardRequest {
    return request({ headers: { authorization: [`${scheme} ${text}`], dpop } });
  }

  const jwt = (dpop: DpopOptions = {}) => verifier({ dpop });

  it('lets a token with its proof pass', async () => {
    expect(await ask(asking([proof()]), { dpop: { baseUrl } }, jwt())).toHaveProperty('pass', true);
  });

  it('takes the address from its options, never from the request', async () => {
    const elsewhere = proof({ htu: 'https://evil.example/v1/orders' });
    const asked = request({
      headers: { authorization: [`DPoP ${bound}`], dpop: [elsewhere], host: ['evil.example'] },
    });
    expect(statusOf(await ask(asked, { dpop: { baseUrl } }, jwt()))).toBe(401);
  });

  it.each([
    ['no proof', []],
    ['two proofs', [proof(), proof()]],
    ['a bad proof', [proof({ htm: 'PUT' })]],
  ])(
    'answers invalid_dpop_proof to %s, beside a challenge for Bearer (RFC 9449 §7.1)',
    async (_, proofs) => {
      const verdict = await ask(asking(proofs), { dpop: { baseUrl } }, jwt());
      expect(statusOf(verdict)).toBe(401);
      expect(challenges(verdict)).toEqual([
        'DPoP error="invalid_dpop_proof", algs="ES256 EdDSA Ed25519 RS256 PS256"',
        'Bearer',
      ]);
    },
  );

  it('refuses a bound token under the Bearer scheme (RFC 9449 §7.2)', async () => {
    const verdict = await ask(asking([proof()], 'Bearer'), { dpop: { baseUrl } }, jwt());
    expect(challenges(verdict)).toEqual([
      'DPoP algs="ES256 EdDSA Ed25519 RS256 PS256"',
      'Bearer error="invalid_token"',
    ]);
  });

  it('refuses a token that is not bound under the DPoP scheme', async () => {
    const plain = token(key);
    const ath = createHash('sha256').update(plain).digest('base64url');
    const verdict = await ask(
      asking([proof({ ath })], 'DPoP', plain),
      { dpop: { baseUrl } },
      jwt(),
    );
    expect(statusOf(verdict)).toBe(401);
  });

  it('refuses the DPoP scheme where it was not asked for', async () => {
    const verdict = await ask(asking([proof()]), {}, jwt());
    expect(statusOf(verdict)).toBe(401);
    expect(challenges(verdict)).toEqual(['Bearer error="invalid_token"']);
  });

  it('has no challenge for Bearer where binding is required', async () => {
    const verdict = await ask(
      bearing(),
      { dpop: { baseUrl } },
      jwt({ required: true, algorithms: ['ES256'] }),
    );
    expect(challenges(verdict)).toEqual(['DPoP algs="ES256"']);
  });

  it('hands out nonces: with the demand for one, and with every answer (RFC 9449 §9)', async () => {
    const nonces = dpopNonces({ secrets: [Buffer.alloc(32)], now });
    const strict = jwt({ nonces });
    const first = await ask(asking([proof()]), { dpop: { baseUrl } }, strict);
    expect(challenges(first)[0]).toBe(
      'DPoP error="use_dpop_nonce", algs="ES256 EdDSA Ed25519 RS256 PS256"',
    );
    const [nonce] = headersOf(first, 'dpop-nonce');
    const second = await ask(asking([proof({ nonce })]), { dpop: { baseUrl } }, strict);
    expect(second).toHaveProperty('pass', true);
    expect(headersOf(second, 'dpop-nonce')).toEqual([nonces.issue()]);
    expect(
      headersOf(await ask(bearing('Bearer x'), { dpop: { baseUrl } }, strict), 'dpop-nonce'),
    ).toEqual([]);
  });

  it('takes no target that is no path for the end of its own address', async () => {
    // HTTP/2 lets one through under a scheme of the caller's making.
    const elsewhere = proof({ htu: 'https://api.example.com.evil.example/orders' });
    const asked = { ...asking([elsewhere]), path: '.evil.example/orders' };
    const verdict = await ask(asked, { dpop: { baseUrl: 'https://api.example.com' } }, jwt());
    expect(statusOf(verdict)).toBe(400);
  });

  it('answers 503 when the clock of the nonces gives no time, whatever the token', async () => {
    const nonces = dpopNonces({ secrets: [Buffer.alloc(32)], now: () => Number.NaN });
    for (const text of [bound, 'x']) {
      const verdict = await ask(
        asking([proof({ nonce: 'x' })], 'DPoP', text),
        { dpop: { baseUrl } },
        jwt({ nonces }),
      );
      expect(statusOf(verdict)).toBe(503);
      expect(headersOf(verdict, 'dpop-nonce')).toEqual([]);
    }
  });

  it.each([
    [{ dpop: { baseUrl: 'api.example.com' } }, /baseUrl/],
    [{ dpop: { baseUrl: 'https://api.example.com#' } }, /baseUrl/],
    [{ dpop: {} }, /baseUrl/],
    [{ dpop: true }, /baseUrl/],
    [{ scopes: 'orders:read' }, /^scopes must be/],
    [{ scopes: [1] }, /^scopes must be/],
    [{ realm: 7 }, /^realm must be a string/],
    [{ resourceMetadata: new URL(ISSUER) }, /^resourceMetadata must be a string/],
    [{ clientCertificate: 'PEM' }, /^clientCertificate must be/],
    [{ dpop: { baseUrl: 'https://api.example.com/?v=1' } }, /baseUrl/],
    [{ scopes: ['a b'] }, /scope tokens/],
    [{ scope: 'a' }, /unknown guard option "scope"/],
  ])('refuses the options %j', (options, message) => {
    expect(() => jwtGuard(jwt(), options as JwtGuardOptions)).toThrow(message);
  });

  it('refuses a verifier that requires DPoP without the place that proofs are for', () => {
    const required = jwt({ required: true });
    for (const options of [{}, { scopes: ['orders:read'] }])
      expect(() => jwtGuard(required, options)).toThrow(
        new TypeError('dpop.baseUrl is needed with a verifier that has dpop.required'),
      );
    expect(() => jwtGuard(required, { dpop: { baseUrl } })).not.toThrow();
    expect(() => jwtGuard(jwt())).not.toThrow();
  });

  it('refuses to accept DPoP with a verifier that does not', () => {
    expect(() => jwtGuard(verifier(), { dpop: { baseUrl } })).toThrow(/verifier/);
  });
});

describe('a token bound to a certificate (RFC 8705 §3)', () => {
  const der = new X509Certificate(CERTIFICATE).raw;
  const bound = token(key, claims({ cnf: { 'x5t#S256': certificateThumbprint(der) } }));
  const asked = bearing(`Bearer ${bound}`);

  it.each([
    ['DER', der],
    ['PEM', CERTIFICATE],
  ])('passes with its certificate in %s', async (_, certificate) => {
    expect(await ask(asked, { clientCertificate: () => certificate })).toHaveProperty('pass', true);
  });

  it.each([
    ['none', undefined],
    ['null', null as never],
    ['an empty one', new Uint8Array()],
    ['another', Buffer.concat([der, Buffer.from([0])])],
    ['something that is none', 'certificate'],
  ])('is refused with %s', async (_, certificate) => {
    expect(statusOf(await ask(asked, { clientCertificate: () => certificate }))).toBe(401);
    expect(statusOf(await ask(asked))).toBe(401);
  });

  it('needs its DPoP proof, too, when it is bound to both', async () => {
    const both = { jkt: keyThumbprint(holder.publicKey), 'x5t#S256': certificateThumbprint(der) };
    const doubly = bearing(`Bearer ${token(key, claims({ cnf: both }))}`);
    expect(statusOf(await ask(doubly, { clientCertificate: () => der }))).toBe(401);
  });
});

describe('what the guard reports', () => {
  it('is precise, and holds no token', async () => {
    const heard: unknown[] = [];
    const listen = (message: unknown) => heard.push(message);
    channel('countersign:jwt:request-refused').subscribe(listen);
    await ask(bearing(`Bearer ${token(key, claims({ sub: 1 }))}`));
    await ask(bearing());
    channel('countersign:jwt:request-refused').unsubscribe(listen);
    expect(heard).toEqual([
      {
        status: 401,
        code: 'ERR_JWT_CLAIM_INVALID',
        message: 'sub must be a string with something in it',
        member: 'sub',
      },
      { status: 401, code: 'ERR_JWT_REQUEST', message: 'The request brings no token' },
    ]);
  });
});
