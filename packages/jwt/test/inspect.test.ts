import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { inspectToken } from '../src/index.ts';
import { claims, encode, header, NOW, now, signingKey, token } from './issuer.ts';

const key = signingKey('ES256');

function inspect(text: string, wordlist?: readonly string[]): readonly string[] {
  const found = inspectToken(text, { now, ...(wordlist ? { wordlist } : {}) });
  return found.map(({ code }) => code);
}

function signed(payload: object = claims(), head: object = header({ alg: 'ES256' })): string {
  return token(key, payload, head);
}

function hmac(secret: string, algorithm = 'HS256', payload: object = claims()): string {
  const input = `${encode(header({ alg: algorithm }))}.${encode(payload)}`;
  const tag = createHmac(`sha${algorithm.slice(2)}`, secret).update(input);
  return `${input}.${tag.digest('base64url')}`;
}

describe('inspectToken', () => {
  it('has nothing to say about an access token that is in order', () => {
    expect(inspect(signed())).toEqual([]);
  });

  it('shows names of claims so that no terminal obeys them', () => {
    const obeyed = '\u009b2J_password \u202e_password \u0007_password \u007f_password'.split(' ');
    const payload = claims(Object.fromEntries(obeyed.map((name) => [name, 'x'])));
    const finding = inspectToken(signed(payload), { now }).at(0);
    expect(finding?.code).toBe('JWT_SENSITIVE_CLAIM');
    expect(finding?.detail).toContain('\\u009b2J_password');
    expect(finding?.detail).not.toMatch(/\p{C}/u);
  });

  it.each([
    ['a text for a list of words', { wordlist: 'secret\npassword' }, /wordlist must be a list/],
    ['a misspelt option', { words: ['secret'] }, /unknown inspect option "words"/],
    ['a time for a clock', { now: 1e12 }, /now must be a function/],
  ])('refuses %s: it would find nothing', (_, options, message) => {
    expect(() => inspectToken(hmac('letmein'), options as never)).toThrow(TypeError);
    expect(() => inspectToken(hmac('an unguessable one'), options as never)).toThrow(message);
  });

  it.each(['none', 'None', 'NONE', 'nOnE'])('finds alg %s', (alg) => {
    expect(inspect(`${encode(header({ alg }))}.${encode(claims())}.`)).toContain('JWT_ALG_NONE');
  });

  it('finds a signature that is missing', () => {
    expect(inspect(`${signed().split('.').slice(0, 2).join('.')}.`)).toContain('JWT_NO_SIGNATURE');
  });

  it.each(['HS256', 'HS384', 'HS512'])('finds a common secret behind %s', (algorithm) => {
    expect(inspect(hmac('your-256-bit-secret', algorithm))).toEqual(['JWT_WEAK_SECRET']);
  });

  it('tries the words it is given, and no others', () => {
    expect(inspect(hmac('hunter2'), ['correct horse', 'hunter2'])).toEqual(['JWT_WEAK_SECRET']);
    expect(inspect(hmac('secret'), ['hunter2'])).toEqual(['JWT_SYMMETRIC']);
  });

  it('never says the secret or the value of a claim', () => {
    const text = hmac(
      'secret123',
      'HS256',
      claims({ password: 'hunter2-hunter2', x: '078-05-1120' }),
    );
    const said = JSON.stringify(inspectToken(text));
    expect(said).toContain('JWT_WEAK_SECRET');
    expect(said).toContain('password');
    for (const kept of ['secret123', 'hunter2', '078-05', text.slice(0, 20)])
      expect(said).not.toContain(kept);
  });

  it.each([
    ['JWT_EXP_MISSING', { exp: undefined }],
    ['JWT_EXP_FAR', { exp: NOW + 90_000 }],
    ['JWT_LIFETIME', { exp: NOW + 841 }],
    ['JWT_LIFETIME', { exp: NOW + 901, iat: undefined }],
    ['JWT_LIFETIME', { exp: NOW + 901, iat: 'today' }],
    ['JWT_EXPIRED', { exp: NOW }],
    ['JWT_TIME_INVALID', { exp: (NOW + 60) * 1000 }],
    ['JWT_TIME_INVALID', { iat: String(NOW) }],
    ['JWT_IAT_MISSING', { iat: undefined }],
    ['JWT_SUB_MISSING', { sub: undefined }],
    ['JWT_AUD_MISSING', { aud: undefined }],
    ['JWT_AUD_MISSING', { aud: [] }],
    ['JWT_ISS_MISSING', { iss: '' }],
    ['JWT_SENSITIVE_CLAIM', { password: 'x' }],
    ['JWT_SENSITIVE_CLAIM', { user: { creditCard: 1 } }],
    ['JWT_SENSITIVE_CLAIM', { SSN: 'x' }],
    ['JWT_SENSITIVE_CLAIM', { note: '4111 1111 1111 1111' }],
    ['JWT_SENSITIVE_CLAIM', { list: [{ n: '078-05-1120' }] }],
    ['JWT_IS_REFRESH_TOKEN', { typ: 'Refresh' }],
    ['JWT_IS_REFRESH_TOKEN', { token_use: 'refresh' }],
  ])('finds %s', (code, changes) => {
    expect(inspect(signed(claims(changes)))).toContain(code);
  });

  it.each([
    { card: 'x' },
    { paymentCard: 'x' },
    { creditCardNumber: 'x' },
    { credit_card_number: 'x' },
    { creditcardnumber: 'x' },
    { passwordHash: 'x' },
    { password_hash: 'x' },
    { user_password: 'x' },
    { 'old-password': 'x' },
    { ssn_last4: 'x' },
    { SSNLast4: 1234 },
    { userSSN: 'x' },
    { db_client_secret: 'x' },
    { note: 4111111111111111 },
    { note: 378282246310005 },
    { note: '2223003122003222' },
    { note: '2720 9999 9999 9996' },
    { note: 2223003122003222 },
  ])('finds what should not be in a payload: %j', (changes) => {
    expect(inspect(signed(claims(changes)))).toEqual(['JWT_SENSITIVE_CLAIM']);
  });

  it.each([
    { discard: 'x' },
    { cardinality: 1 },
    { card_brand: 'x' },
    { wildcard: 'x' },
    { id_card_type: 'x' },
    { passwordless: 'x' },
    { password_changed_at: NOW },
    { pwd_exp: NOW },
    { must_change_password: true },
    { compass: 'x' },
    { boarding_pass: 'x' },
    { secretary: 'x' },
    { spinning: 'x' },
    { company: 'x' },
    { note: 4111111111111112 },
    { note: 4111111111111111.5 },
    { note: NOW * 1000 },
    { note: '2220999999999991' },
    { note: '2721000000000004' },
  ])('takes a harmless claim for what it is: %j', (changes) => {
    expect(inspect(signed(claims(changes)))).toEqual([]);
  });

  it('reads very long names in no time', () => {
    for (const name of ['A'.repeat(200_000), 'password_'.repeat(30_000), '_'.repeat(200_000)])
      expect(inspect(signed(claims({ [name]: 'x' })))).toEqual([]);
  }, 2000);

  it.each([
    ['JWT_EMBEDDED_KEY', { jwk: {} }],
    ['JWT_EMBEDDED_KEY', { x5c: [] }],
    ['JWT_KEY_URL', { jku: 'https://evil.example/keys' }],
    ['JWT_KEY_URL', { x5u: 'https://evil.example/cert' }],
    ['JWT_KID_PATH', { kid: '../../../../dev/null' }],
    ['JWT_KID_PATH', { kid: '/etc/passwd' }],
    ['JWT_KID_PATH', { kid: 'keys/main.pem' }],
    ['JWT_KID_INJECTION', { kid: "x' UNION SELECT 'secret" }],
    ['JWT_KID_INJECTION', { kid: 'key.txt; curl evil.example' }],
    ['JWT_KID_INJECTION', { kid: 'x OR 1=1' }],
    ['JWT_CRITICAL_HEADER', { crit: ['exp'] }],
    ['JWT_TYPE_MISSING', { typ: undefined }],
  ])('finds %s in the header', (code, changes) => {
    expect(inspect(signed(claims(), header({ alg: 'ES256', ...changes })))).toContain(code);
  });

  it.each(['2024-01-main', 'arn:aws:kms:eu-west-1:1:key/ab', 'a+/b==', 'k6mO_zA'])(
    'takes the kid %s for what it is',
    (kid) => {
      expect(inspect(signed(claims(), header({ alg: 'ES256', kid })))).toEqual([]);
    },
  );

  it('measures the lifetime from now on when iat is absent', () => {
    expect(inspect(signed(claims({ exp: NOW + 900, iat: undefined })))).toEqual([
      'JWT_IAT_MISSING',
    ]);
    const { detail } = inspectToken(signed(claims({ exp: NOW + 1800, iat: undefined })), {
      now,
    }).find(({ code }) => code === 'JWT_LIFETIME') ?? { detail: '' };
    expect(detail).toBe('From now to exp it is 30 min.');
  });

  it('tells access, ID and refresh tokens apart', () => {
    const id = { client_id: undefined, scope: undefined, nonce: 'n', at_hash: 'h' };
    const jwt = header({ alg: 'ES256', typ: 'JWT' });
    expect(inspect(signed(claims(id), jwt))).toEqual(['JWT_IS_ID_TOKEN']);
    expect(inspect(signed(claims({ nonce: 'n' }), jwt))).toEqual([]);
    const refresh = claims({ typ: 'Refresh', exp: NOW + 1e6 });
    expect(inspect(signed(refresh, jwt))).toEqual(['JWT_IS_REFRESH_TOKEN']);
  });

  it('says what a strict parser refuses, and looks on', () => {
    const twice = `${JSON.stringify(claims()).slice(0, -1)},"aud":"x","password":"y"}`;
    expect(inspect(token(key, twice, header({ alg: 'ES256' })))).toEqual([
      'JWT_DUPLICATE_MEMBER',
      'JWT_SENSITIVE_CLAIM',
    ]);
    expect(inspect(`${signed()}=`)).toContain('JWT_MALFORMED');
    expect(inspect('a.b.c.d.e')).toEqual(['JWT_ENCRYPTED']);
  });

  it('never throws, whatever it is given', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string(),
          fc
            .tuple(fc.json(), fc.json(), fc.string())
            .map(([a, b, c]) => `${encode(a)}.${encode(b)}.${c}`),
        ),
        (text) => {
          for (const { code, severity, title, detail, fix } of inspectToken(text))
            expect([code, severity, title, detail, fix].every((part) => part.length > 0)).toBe(
              true,
            );
        },
      ),
    );
    expect(inspect(undefined as never)).toEqual(['JWT_MALFORMED']);
  });
});

describe('a long kid', () => {
  it('is looked at in time that does not grow with its square', () => {
    const kid = `../${'select '.repeat(100_000)}`;
    expect(inspect(`${encode(header({ kid }))}.${encode(claims())}.AAAA`)).toContain(
      'JWT_KID_PATH',
    );
  }, 5000);
});
