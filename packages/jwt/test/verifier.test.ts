import { performance } from 'node:perf_hooks';
import { describe, expect, it, vi } from 'vitest';
import { createJwtVerifier, JwtError, type JwtVerifierOptions } from '../src/index.ts';
import { AUDIENCE, claims, header, ISSUER, NOW, now, signingKey, token } from './issuer.ts';
import { refusal } from './refusal.ts';

const key = signingKey();

function verifier(changes: Partial<JwtVerifierOptions> = {}) {
  return createJwtVerifier({
    issuer: { issuer: ISSUER, jwks: { keys: [key.jwk] } },
    audience: AUDIENCE,
    now,
    ...changes,
  } as JwtVerifierOptions);
}

describe('createJwtVerifier', () => {
  it('accepts an access token that is in order', async () => {
    const accepted = await verifier().verify(token(key));
    expect(accepted).toEqual({ claims: claims(), header: header() });
  });

  it('answers without a promise when nothing has to be waited for', () => {
    const jwt = verifier();
    const first = jwt.verifyNow(token(key));
    expect(first).not.toBeInstanceOf(Promise);
    expect(jwt.verifyNow(token(key))).toBe(first);
  });

  it('can be taken apart', async () => {
    const { verify, verifyNow } = verifier();
    await expect(verify(token(key))).resolves.toEqual(verifyNow(token(key)));
  });

  it.each([
    ['at the end of its life, within the tolerance', { exp: NOW - 4 }],
    ['with a life of 900 s', { iat: NOW, exp: NOW + 900 }],
    ['with fractions of seconds', { iat: NOW - 0.5, exp: NOW + 10.25 }],
    ['issued in the future, within the tolerance', { iat: NOW + 5, exp: NOW + 60 }],
    ['not valid yet, within the tolerance', { nbf: NOW + 5 }],
    ['with several audiences', { aud: ['https://other.example.com', AUDIENCE] }],
    ['with more claims', { roles: ['a', { b: [null, true, 1.5e3, 'ü "quoted": \\'] }] }],
  ])('accepts a token %s', async (_, changes) => {
    const accepted = await verifier().verify(token(key, claims(changes)));
    expect(accepted.claims).toEqual(claims(changes));
  });

  it.each(['at+jwt', 'AT+JWT', 'application/at+jwt', 'Application/At+Jwt'])(
    'accepts typ %s (RFC 7515 §4.1.9)',
    async (typ) => {
      await expect(verifier().verify(token(key, claims(), header({ typ })))).resolves.toBeDefined();
    },
  );

  it.each([
    { audience: AUDIENCE },
    { clientCert: 'PEM' },
    { scopes: ['orders:read'] },
    'secret',
    7,
  ])(
    'does not pass over what it was given beside a token and does not know: %j',
    async (presentation) => {
      const jwt = verifier();
      for (const each of ['fresh', 'cached'])
        await expect(jwt.verify(token(key), presentation as never), each).rejects.toThrow(
          TypeError,
        );
      await expect(jwt.verify(token(key), {})).resolves.toBeDefined();
    },
  );

  it('hands out what nobody can change', async () => {
    const accepted = await verifier().verify(token(key, claims({ x: { y: [1] } })));
    const { x } = accepted.claims as unknown as { x: { y: number[] } };
    for (const part of [accepted, accepted.claims, accepted.header, x, x.y])
      expect(Object.isFrozen(part)).toBe(true);
  });
});

async function* body(text: string): AsyncGenerator<Uint8Array> {
  yield Buffer.from(text);
}

describe('the generic profile', () => {
  const jwt = verifier({ profile: 'generic' });

  it.each([undefined, 'JWT', 'jwt', 'at+jwt'])('accepts typ %s', async (typ) => {
    const plain = token(key, claims({ client_id: undefined, jti: undefined }), header({ typ }));
    await expect(jwt.verify(plain)).resolves.toBeDefined();
  });

  it.each(['dpop+jwt', 'logout+jwt', 'secevent+jwt', ''])('refuses typ %j', async (typ) => {
    const other = token(key, claims(), header({ typ }));
    await expect(jwt.verify(other)).rejects.toThrow(refusal('ERR_JWT_TYPE'));
  });

  it.each(['sub', 'exp', 'iat', 'iss', 'aud'])('still requires %s', async (claim) => {
    const without = token(key, claims({ [claim]: undefined }));
    await expect(jwt.verify(without)).rejects.toThrow(refusal('ERR_JWT_CLAIM_MISSING'));
  });

  it('refuses a client_id or a jti that is no text', async () => {
    for (const changes of [{ client_id: 1 }, { jti: [] }])
      await expect(jwt.verify(token(key, claims(changes)))).rejects.toThrow(
        refusal('ERR_JWT_CLAIM_INVALID'),
      );
  });
});

describe('policies', () => {
  it('allows longer lives, and endless ones by name', async () => {
    const hour = token(key, claims({ iat: NOW, exp: NOW + 3600 }));
    await expect(verifier({ maxLifetimeSeconds: 3600 }).verify(hour)).resolves.toBeDefined();
    await expect(verifier({ maxLifetimeSeconds: 3599 }).verify(hour)).rejects.toThrow(
      refusal('ERR_JWT_LIFETIME'),
    );
    const years = token(key, claims({ iat: NOW, exp: NOW + 1e8 }));
    await expect(
      verifier({ maxLifetimeSeconds: 'unlimited' }).verify(years),
    ).resolves.toBeDefined();
  });

  it('requires more claims when asked', async () => {
    const jwt = verifier({ requiredClaims: ['tenant'] });
    await expect(jwt.verify(token(key, claims({ tenant: 't' })))).resolves.toBeDefined();
    for (const tenant of [undefined, null, ''])
      await expect(jwt.verify(token(key, claims({ tenant })))).rejects.toThrow(
        refusal('ERR_JWT_CLAIM_MISSING'),
      );
  });

  it('says which claim is at fault, and nothing of the token', async () => {
    const error = await verifier()
      .verify(token(key, claims({ sub: 1 })))
      .catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(JwtError);
    expect(error).toMatchObject({ code: 'ERR_JWT_CLAIM_INVALID', member: 'sub' });
  });
});

describe('several issuers', () => {
  const other = signingKey('ES256', 'key-1');
  const jwt = createJwtVerifier({
    issuer: [
      { issuer: ISSUER, jwks: { keys: [key.jwk] } },
      {
        issuer: 'https://login.example.net',
        jwks: { keys: [other.jwk] },
        algorithms: ['ES256'],
        audience: 'orders',
        profile: 'generic',
        maxLifetimeSeconds: 3600,
      },
    ],
    audience: AUDIENCE,
    now,
  });
  const theirs = { iss: 'https://login.example.net', aud: 'orders', exp: NOW + 3000 };

  it("applies each issuer's own policy and keys", async () => {
    await expect(jwt.verify(token(key))).resolves.toBeDefined();
    const generic = token(
      other,
      claims({ ...theirs, jti: undefined }),
      header({ alg: 'ES256', typ: 'JWT' }),
    );
    await expect(jwt.verify(generic)).resolves.toBeDefined();
  });

  it.each([
    ['an audience', token(other, claims({ ...theirs, aud: AUDIENCE })), 'ERR_JWT_AUDIENCE'],
    ['an algorithm', token(key, claims(theirs)), 'ERR_JWT_ALGORITHM'],
    ['a key', token(other, claims()), 'ERR_JWT_ALGORITHM'],
    ['a type', token(key, claims(), header({ typ: 'JWT' })), 'ERR_JWT_TYPE'],
    ['a lifetime', token(key, claims({ exp: NOW + 3000 })), 'ERR_JWT_LIFETIME'],
  ] as const)("does not let one issuer use another's: %s", async (_, text, code) => {
    await expect(jwt.verify(text)).rejects.toThrow(refusal(code));
  });
});

describe('the cache', () => {
  it('gives the same answer to the same token', async () => {
    const jwt = verifier();
    const first = await jwt.verify(token(key));
    expect(await jwt.verify(token(key))).toBe(first);
    expect(await verifier({ cache: false }).verify(token(key))).not.toBe(first);
  });

  it('asks for the times on every hit', async () => {
    let time = NOW;
    const jwt = verifier({ now: () => time * 1000 });
    const text = token(key, claims({ nbf: NOW - 60 }));
    await jwt.verify(text);
    time = NOW + 240 + 4;
    await expect(jwt.verify(text)).resolves.toBeDefined();
    time = NOW + 240 + 5;
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_EXPIRED'));
  });

  it('asks for the beginning on every hit: the clock may have gone back', async () => {
    let time = NOW;
    const jwt = verifier({ now: () => time * 1000 });
    const text = token(key, claims({ nbf: NOW - 60 }));
    await jwt.verify(text);
    time = NOW - 66;
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_ISSUED_IN_FUTURE'));
  });

  it('asks the denylist on every hit', async () => {
    let revoked = false;
    const jwt = verifier({ denylist: () => revoked });
    await jwt.verify(token(key));
    revoked = true;
    await expect(jwt.verify(token(key))).rejects.toThrow(refusal('ERR_JWT_REVOKED'));
  });

  it('checks a token again when the keys of its issuer have changed', async () => {
    let time = NOW * 1000;
    let keys = [key.jwk];
    const answer = async () => ({ status: 200, body: body(JSON.stringify({ keys })) });
    const jwt = verifier({
      issuer: { issuer: ISSUER, jwksUri: `${ISSUER}/jwks` },
      keys: { fetch: answer },
      now: () => time,
    });
    const text = token(key, claims({ exp: NOW + 800 }));
    const first = await jwt.verify(text);
    expect(await jwt.verify(text)).toBe(first);
    keys = [{ ...signingKey().jwk, kid: 'key-2' }];
    time += 600_000;
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_KEY_UNKNOWN'));
  });

  it('remembers no refusal', async () => {
    let time = NOW - 100;
    const jwt = verifier({ now: () => time * 1000 });
    await expect(jwt.verify(token(key))).rejects.toThrow(refusal('ERR_JWT_ISSUED_IN_FUTURE'));
    time = NOW;
    await expect(jwt.verify(token(key))).resolves.toBeDefined();
  });

  it('does not bring an expired token back when the clock steps back', async () => {
    let time = NOW;
    const jwt = verifier({ now: () => time * 1000 });
    const text = token(key);
    await jwt.verify(text);
    time = NOW + 300;
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_EXPIRED'));
    time = NOW;
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_EXPIRED'));
  });
});

describe('published keys, when the clock steps back', () => {
  const removed = signingKey('RS256', 'removed');

  /** A verifier in use, its issuer, and a token by a key that the issuer removes then. */
  async function inUse(changes: Partial<JwtVerifierOptions> = {}) {
    const issuer = { keys: [removed.jwk], asked: 0, away: false };
    const jwt = verifier({
      issuer: { issuer: ISSUER, jwksUri: `${ISSUER}/jwks` },
      maxLifetimeSeconds: 1e6,
      keys: {
        fetch: async () => {
          issuer.asked += 1;
          if (issuer.away) throw new Error('connection refused');
          return { status: 200, body: body(JSON.stringify({ keys: issuer.keys })) };
        },
      },
      ...changes,
    });
    const text = token(
      removed,
      claims({ iat: NOW - 1e5, exp: NOW + 1e5 }),
      header({ kid: 'removed' }),
    );
    await jwt.verify(text);
    issuer.keys = [key.jwk];
    return { jwt, text, issuer };
  }

  it('are asked for again although time has hidden the step', async () => {
    const time = { wall: NOW * 1000, monotonic: 0 };
    const spies = [
      vi.spyOn(Date, 'now').mockImplementation(() => time.wall),
      vi.spyOn(performance, 'now').mockImplementation(() => time.monotonic),
    ];
    const { jwt, text } = await inUse({ now: undefined as never });
    time.monotonic += 7_200_000;
    time.wall += 60_000;
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_KEY_UNKNOWN'));
    for (const spy of spies) spy.mockRestore();
  });

  /** Used half an hour after the issuer was last there; then the clock goes back by ten hours. */
  async function steppedBack() {
    let time = NOW * 1000;
    const { jwt, text, issuer } = await inUse({ now: () => time });
    issuer.away = true;
    const pass = (ms: number): void => {
      time += ms;
    };
    pass(1_800_000);
    await jwt.verify(text);
    pass(-36_000_000);
    return { jwt, text, issuer, pass };
  }

  it('age on, and are trusted no longer than ever while the issuer is away', async () => {
    const { jwt, text, pass } = await steppedBack();
    await expect(jwt.verify(text)).resolves.toBeDefined();
    pass(1_800_000);
    await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_KEYS_UNAVAILABLE'));
  });

  it('are asked for again soon', async () => {
    const { jwt, text, issuer, pass } = await steppedBack();
    await jwt.verify(text);
    const { asked } = issuer;
    pass(30_000);
    await jwt.verify(text);
    expect(issuer.asked).toBe(asked + 1);
  });

  it.each([Number.NaN, Number.POSITIVE_INFINITY])(
    'do not come at a time that is none: %s',
    async (wrong) => {
      let time = NOW * 1000;
      const { jwt, text, issuer } = await inUse({ now: () => time });
      time += 3_600_000;
      for (const away of [true, false]) {
        issuer.away = away;
        const verifying = jwt.verify(text);
        time = wrong;
        await expect(verifying).rejects.toThrow(JwtError);
        time = NOW * 1000 + 3_600_000;
      }
      await expect(jwt.verify(text)).rejects.toThrow(refusal('ERR_JWT_KEY_UNKNOWN'));
    },
  );
});

describe('a denylist that cannot be asked', () => {
  it.each([
    [
      'throws',
      () => {
        throw new Error('down');
      },
    ],
    ['rejects', () => Promise.reject(new Error('down'))],
  ])('refuses the token when it %s', async (_, denylist) => {
    await expect(verifier({ denylist }).verify(token(key))).rejects.toThrow(
      refusal('ERR_JWT_DENYLIST_UNAVAILABLE'),
    );
  });

  it.each([undefined, null, 0, '', 1, 'no'])(
    'refuses the token when it answers %j',
    async (answer) => {
      for (const denylist of [() => answer, () => Promise.resolve(answer)])
        await expect(
          verifier({ denylist: denylist as unknown as () => boolean }).verify(token(key)),
        ).rejects.toThrow(JwtError);
    },
  );

  it('accepts the token only when it answers no', async () => {
    for (const denylist of [() => false, () => Promise.resolve(false)])
      await expect(verifier({ denylist }).verify(token(key))).resolves.toBeDefined();
  });
});

describe('a text with half a character', () => {
  const written = (subject: string) =>
    token(signing, JSON.stringify(claims()).replace('user-1', subject));
  const signing = signingKey();
  const jwt = createJwtVerifier({
    issuer: { issuer: ISSUER, key: signing.publicKey },
    audience: AUDIENCE,
    now,
  });

  it.each(['\\ud800', '\\uDFFF', 'a\\udc00\\ud800', '\\\\\\ud800'])(
    'is refused: %s',
    async (subject) => {
      await expect(jwt.verify(written(subject))).rejects.toThrow(refusal('ERR_JWT_JSON'));
    },
  );

  it.each(['\\ud83d\\ude00', '\\\\ud800', '\\u00e9'])(
    'is not what this is: %s',
    async (subject) => {
      const { claims: accepted } = await jwt.verify(written(subject));
      expect(accepted.sub).toBe(JSON.parse(`"${subject}"`));
    },
  );
});
