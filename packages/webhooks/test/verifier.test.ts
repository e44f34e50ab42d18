import { createHmac, createSecretKey, generateKeyPairSync } from 'node:crypto';
import { describe, expect, expectTypeOf, it, vi } from 'vitest';
import {
  createSigner,
  createVerifier,
  generateKeyPair,
  generateSecret,
  type HeadersInput,
  type Message,
  publicKeyOf,
  standardWebhooks,
  WebhookError,
} from '../src/index.ts';

const nowMs = 1_800_000_000_000;
const now = () => nowMs;
const secret = generateSecret();
const signer = createSigner({ secrets: secret, now });
const verifier = createVerifier({ secrets: secret, now });
const id = 'msg_2KWPBgLlAfxdpx2AI54pPJ85f4W';
const body = '{"type":"contact.created","data":{"name":"Ünïcode"}}';

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof WebhookError) return error.code;
    throw error;
  }
  return 'none';
}

const refusalOf = (headers: HeadersInput, of: Uint8Array | string = body): string =>
  codeOf(() => verifier.verify(of, headers));

describe('sign and verify', () => {
  it('accepts what it signed, and says what it was', () => {
    const headers = signer.sign({ id, body });
    expect(verifier.verify(body, headers)).toEqual({ id, timestampMs: nowMs, body, keyIndex: 0 });
  });

  it('computes the known answer of the Standard Webhooks reference tests', () => {
    const known = createSigner({ secrets: 'whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw' });
    expect(
      known.sign({
        id: 'msg_p5jXN8AQM9LWM0D4loKWxJek',
        timestampMs: 1_614_265_330_000,
        body: '{"test": 2432232314}',
      }),
    ).toEqual({
      'webhook-id': 'msg_p5jXN8AQM9LWM0D4loKWxJek',
      'webhook-timestamp': '1614265330',
      'webhook-signature': 'v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=',
    });
  });

  it.each([
    ['a string', body],
    ['a Buffer', Buffer.from(body)],
    ['a Uint8Array', new TextEncoder().encode(body)],
    ['a view into a larger buffer', new Uint8Array(Buffer.from(`xx${body}yy`)).subarray(2, -2)],
  ])('signs the same bytes when the body is %s', (_, form) => {
    expect(signer.sign({ id, body: form })).toEqual(signer.sign({ id, body }));
    expect(verifier.verify(form, signer.sign({ id, body })).id).toBe(id);
  });

  it('compares bytes, not decoded text: ff is not fe, though both decode to U+FFFD', () => {
    const headers = signer.sign({ id, body: Uint8Array.of(0xff) });
    expect(verifier.verify(Uint8Array.of(0xff), headers).keyIndex).toBe(0);
    expect(refusalOf(headers, Uint8Array.of(0xfe))).toBe('ERR_WEBHOOKS_SIGNATURE_MISMATCH');
    expect(refusalOf(headers, '\ufffd')).toBe('ERR_WEBHOOKS_SIGNATURE_MISMATCH');
  });

  it('explains a body that was parsed before it was verified', () => {
    const parsed = JSON.parse(body) as never;
    expect(() => verifier.verify(parsed, signer.sign({ id, body }))).toThrowError(
      /express\.json\(\).*Read the raw body/s,
    );
    expect(refusalOf({}, parsed)).toBe('ERR_WEBHOOKS_BODY_PARSED');
    expect(codeOf(() => signer.sign({ id, body: parsed }))).toBe('ERR_WEBHOOKS_BODY_PARSED');
  });

  it.each([
    ['an ArrayBuffer', new ArrayBuffer(2), /new Uint8Array\(buffer\)/],
    ['a Promise', Promise.resolve('{}'), /await/],
  ])('says what to do with %s', (_, given, advice) => {
    const verify = () => verifier.verify(given as never, signer.sign({ id, body }));
    expect(verify).toThrowError(expect.objectContaining({ code: 'ERR_WEBHOOKS_BODY_PARSED' }));
    expect(verify).toThrowError(advice);
  });

  it('says which scheme wants the header that is missing', () => {
    expect(() => verifier.verify(body, { 'stripe-signature': 't=1,v1=00' })).toThrowError(
      /webhook-signature.*standard-webhooks/,
    );
  });

  it('signs each attempt with its own time', () => {
    const later = signer.sign({ id, body, timestampMs: nowMs + 60_999 });
    expect(later['webhook-timestamp']).toBe('1800000060');
    expect(verifier.verify(body, later).timestampMs).toBe(nowMs + 60_000);
  });
});

describe('secrets', () => {
  it('signs with every active secret, and accepts any of them during a rotation', () => {
    const [older, newer] = [generateSecret(), generateSecret()];
    const both = createSigner({ secrets: [newer, older], now }).sign({ id, body });
    expect(both['webhook-signature']?.split(' ')).toHaveLength(2);
    const accepts = (secrets: string[]) =>
      createVerifier({ secrets, now }).verify(body, both).keyIndex;
    expect(accepts([older])).toBe(0);
    expect(accepts([newer])).toBe(0);
    expect(accepts([generateSecret(), older])).toBe(1);
    expect(codeOf(() => accepts([generateSecret()]))).toBe('ERR_WEBHOOKS_SIGNATURE_MISMATCH');
  });

  it('takes text, bytes and KeyObjects for the same secret', () => {
    const bytes = Buffer.from(secret.slice(6), 'base64');
    for (const form of [secret, secret.slice(6), bytes, createSecretKey(bytes)]) {
      expect(createSigner({ secrets: form, now }).sign({ id, body })).toEqual(
        signer.sign({ id, body }),
      );
    }
  });

  it.each([
    ['nothing', ''],
    ['a bare prefix', 'whsec_'],
    ['16 bytes', `whsec_${Buffer.alloc(16).toString('base64')}`],
    ['23 bytes', Buffer.alloc(23)],
    ['65 bytes', Buffer.alloc(65)],
    ['text that is not base64', 'whsec_not base64, but long enough to be a secret'],
    ['base64 with a newline at its end', `${secret}\n`],
    ['no secret at all', []],
    ['a number', 42],
    ['17 secrets', Array.from({ length: 17 }, () => generateSecret())],
    ['an RSA key', generateKeyPairSync('rsa', { modulusLength: 2048 }).privateKey],
  ])('refuses %s when it is built', (_, secrets) => {
    expect(() => createSigner({ secrets: secrets as string })).toThrow(TypeError);
    expect(() => createVerifier({ secrets: secrets as string })).toThrow(TypeError);
  });

  it('never names the secret in an error', () => {
    const short = `whsec_${Buffer.alloc(16, 7).toString('base64')}`;
    expect(() => createSigner({ secrets: short })).toThrowError(
      expect.not.stringContaining(short.slice(6)),
    );
  });

  it('imports a secret once, however much is signed and verified with it', async () => {
    const { importSecret } = standardWebhooks();
    const spy = vi.fn(importSecret);
    const scheme = { ...standardWebhooks(), importSecret: spy };
    let current = [secret];
    const provider = async () => current;
    const [fixed, lively] = [
      { secrets: secret, scheme, now },
      { secrets: provider, scheme, now },
    ];
    const uses = [
      createSigner(fixed).sign,
      createSigner(lively).sign,
      (message: Message) => createdVerifier.verify(body, signer.sign(message)),
      (message: Message) => livelyVerifier.verify(body, signer.sign(message)),
    ];
    const [createdVerifier, livelyVerifier] = [createVerifier(fixed), createVerifier(lively)];
    for (let round = 0; round < 3; round += 1) {
      for (const use of uses) await use({ id, body });
    }
    expect(spy).toHaveBeenCalledTimes(4);
    current = [secret];
    for (const use of uses) await use({ id, body });
    expect(spy).toHaveBeenCalledTimes(6);
  });

  it('asks a provider for every message, and imports what it returns once', async () => {
    let current = [secret];
    const lively = createVerifier({ secrets: async () => current, now });
    expect((await lively.verify(body, signer.sign({ id, body }))).keyIndex).toBe(0);
    current = [generateSecret()];
    await expect(lively.verify(body, signer.sign({ id, body }))).rejects.toMatchObject({
      code: 'ERR_WEBHOOKS_SIGNATURE_MISMATCH',
    });
    expectTypeOf(lively.verify).returns.resolves.toHaveProperty('keyIndex');
    expectTypeOf(verifier.verify(Buffer.from(body), signer.sign({ id, body })).body).toEqualTypeOf<
      Buffer<ArrayBuffer>
    >();
    const asynchronous = createSigner({ secrets: async () => [secret], now });
    expect(await asynchronous.sign({ id, body })).toEqual(signer.sign({ id, body }));
  });
});

describe('ed25519 (v1a)', () => {
  const { privateKey, publicKey } = generateKeyPair();
  const asymmetric = createSigner({ secrets: privateKey, now });

  it('signs with the private and verifies with the public key', () => {
    const headers = asymmetric.sign({ id, body });
    expect(headers['webhook-signature']).toMatch(/^v1a,[A-Za-z0-9+/]{86}==$/);
    expect(createVerifier({ secrets: publicKey, now }).verify(body, headers).id).toBe(id);
    expect(createVerifier({ secrets: privateKey, now }).verify(body, headers).id).toBe(id);
    expect(
      codeOf(() => createVerifier({ secrets: publicKey, now }).verify(`${body} `, headers)),
    ).toBe('ERR_WEBHOOKS_SIGNATURE_MISMATCH');
  });

  it('computes the known answer of RFC 8032, test 1, for the seed and for the 64-byte form', () => {
    const seed = Buffer.from(
      '9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60',
      'hex',
    );
    const point = Buffer.from(
      'd75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a',
      'hex',
    );
    const short = `whsk_${seed.toString('base64')}`;
    const long = `whsk_${Buffer.concat([seed, point]).toString('base64')}`;
    expect(publicKeyOf(short)).toBe(`whpk_${point.toString('base64')}`);
    expect(createSigner({ secrets: short, now }).sign({ id, body })).toEqual(
      createSigner({ secrets: long, now }).sign({ id, body }),
    );
    const mixed = `whsk_${Buffer.concat([seed, seed]).toString('base64')}`;
    expect(() => createSigner({ secrets: mixed })).toThrow(TypeError);
  });

  it('lets a symmetric and an asymmetric signature travel together', () => {
    const headers = createSigner({ secrets: [secret, privateKey], now }).sign({ id, body });
    expect(verifier.verify(body, headers).keyIndex).toBe(0);
    expect(createVerifier({ secrets: publicKey, now }).verify(body, headers).keyIndex).toBe(0);
  });

  it('does not let a public key be used as an HMAC secret', () => {
    const bytes = Buffer.from(publicKey.slice(5), 'base64');
    const forged = createHmac('sha256', bytes).update(`${id}.1800000000.${body}`).digest('base64');
    const headers = { ...asymmetric.sign({ id, body }), 'webhook-signature': `v1,${forged}` };
    expect(codeOf(() => createVerifier({ secrets: publicKey, now }).verify(body, headers))).toBe(
      'ERR_WEBHOOKS_SIGNATURE_UNSUPPORTED',
    );
  });

  it('refuses to sign with a public key', () => {
    expect(() => createSigner({ secrets: publicKey })).toThrow(/public key cannot sign/);
  });
});

describe('headers', () => {
  const headers = signer.sign({ id, body });
  const signature = headers['webhook-signature'] as string;

  it('finds them in any letter case, in records, Headers and lookups', () => {
    const upper = Object.fromEntries(
      Object.entries(headers).map(([name, value]) => [name.toUpperCase(), value]),
    );
    const lookup = {
      get: (name: string) => headers[name],
      all: (name: string) => (headers[name] ? [headers[name]] : []),
    };
    for (const form of [headers, upper, new Headers(headers), lookup, { ...headers, get: 'x' }]) {
      expect(verifier.verify(body, form as HeadersInput).id).toBe(id);
    }
  });

  it.each(['webhook-id', 'webhook-timestamp', 'webhook-signature'])('needs %s', (name) => {
    expect(refusalOf({ ...headers, [name]: undefined })).toBe('ERR_WEBHOOKS_HEADER_MISSING');
  });

  it.each([42, null, {}, [5], true])('refuses a header whose value is %j', (value) => {
    expect(refusalOf({ ...headers, 'webhook-id': value as unknown as string })).toBe(
      'ERR_WEBHOOKS_HEADER_MALFORMED',
    );
  });

  it('refuses a header that occurs twice, however it is presented', () => {
    const twice = new Headers(headers);
    twice.append('webhook-signature', signature);
    const lookup = { get: (name: string) => headers[name], all: () => ['1', '2'] };
    expect(refusalOf({ ...headers, 'webhook-id': [id, id] })).toBe('ERR_WEBHOOKS_HEADER_DUPLICATE');
    expect(refusalOf({ ...headers, 'Webhook-Id': 'msg_other' })).toBe(
      'ERR_WEBHOOKS_HEADER_DUPLICATE',
    );
    expect(refusalOf(lookup)).toBe('ERR_WEBHOOKS_HEADER_DUPLICATE');
    expect(refusalOf(twice)).toBe('ERR_WEBHOOKS_SIGNATURE_MALFORMED');
  });

  it.each(['', ' ', 'v1', 'v1,a,b', ',x', 'v1,x  v1,y'])(
    'refuses the signature header %j',
    (value) => {
      expect(refusalOf({ ...headers, 'webhook-signature': value })).toBe(
        'ERR_WEBHOOKS_SIGNATURE_MALFORMED',
      );
    },
  );

  it('skips signatures of versions it does not know', () => {
    const mixed = `v2,whatever v1a,AAAA ${signature}`;
    expect(verifier.verify(body, { ...headers, 'webhook-signature': mixed }).id).toBe(id);
    expect(refusalOf({ ...headers, 'webhook-signature': 'v2,whatever' })).toBe(
      'ERR_WEBHOOKS_SIGNATURE_UNSUPPORTED',
    );
  });

  it('looks at 16 signatures and no more', () => {
    const wrong = `v1,${Buffer.alloc(32).toString('base64')}`;
    const at = (position: number) => `${`${wrong} `.repeat(position)}${signature} ${wrong}`;
    expect(verifier.verify(body, { ...headers, 'webhook-signature': at(15) }).id).toBe(id);
    expect(refusalOf({ ...headers, 'webhook-signature': at(16) })).toBe(
      'ERR_WEBHOOKS_SIGNATURE_MISMATCH',
    );
  });

  it('refuses a header of 100,000 signatures, the first of which is right', () => {
    const many = { ...headers, 'webhook-signature': `${signature} `.repeat(100_000) };
    expect(refusalOf(many)).toBe('ERR_WEBHOOKS_SIGNATURE_MALFORMED');
  });

  it('takes only the canonical spelling of a signature', () => {
    const value = signature.slice(3);
    for (const other of [
      value.replaceAll('+', '-').replaceAll('/', '_').replace('=', ''),
      `${value}=`,
      value.replace(/.=$/, (last) => `${last === 'A=' ? 'B' : 'A'}=`),
      value.replace(/^./, (first) => String.fromCharCode(first.charCodeAt(0) + 256)),
      '',
    ]) {
      expect(refusalOf({ ...headers, 'webhook-signature': `v1,${other}` })).toBe(
        'ERR_WEBHOOKS_SIGNATURE_MISMATCH',
      );
    }
  });

  it('takes ids of up to 256 characters', () => {
    const [longest, longer] = ['x'.repeat(256), 'x'.repeat(257)];
    expect(verifier.verify(body, signer.sign({ id: longest, body })).id).toBe(longest);
    expect(codeOf(() => signer.sign({ id: longer, body }))).toBe('ERR_WEBHOOKS_ID_MALFORMED');
    expect(refusalOf({ ...headers, 'webhook-id': longer })).toBe('ERR_WEBHOOKS_ID_MALFORMED');
  });

  it('refuses ids with a full stop, which could move bytes of the body into the timestamp', () => {
    expect(codeOf(() => signer.sign({ id: 'a.b', body }))).toBe('ERR_WEBHOOKS_ID_MALFORMED');
    const shifted = createHmac('sha256', Buffer.from(secret.slice(6), 'base64'))
      .update(`a.1.1800000000.x`)
      .digest('base64');
    expect(
      refusalOf(
        {
          'webhook-id': 'a.1',
          'webhook-timestamp': '1800000000',
          'webhook-signature': `v1,${shifted}`,
        },
        'x',
      ),
    ).toBe('ERR_WEBHOOKS_ID_MALFORMED');
  });
});

describe('time', () => {
  const at = (seconds: number) =>
    refusalOf(signer.sign({ id, body, timestampMs: nowMs + seconds * 1000 }));

  it('allows 300 seconds both ways, and not one more', () => {
    expect(at(-300)).toBe('none');
    expect(at(-301)).toBe('ERR_WEBHOOKS_TIMESTAMP_TOO_OLD');
    expect(at(300)).toBe('none');
    expect(at(301)).toBe('ERR_WEBHOOKS_TIMESTAMP_TOO_NEW');
  });

  it.each([
    '123abc',
    '1e9',
    '0x1f',
    ' 1800000000',
    '1800000000.5',
    '+1800000000',
    '-5',
    '00',
    '',
    'NaN',
  ])('refuses the timestamp %j', (text) => {
    const headers = { ...signer.sign({ id, body }), 'webhook-timestamp': text };
    expect(refusalOf(headers)).toBe('ERR_WEBHOOKS_TIMESTAMP_MALFORMED');
  });

  it('lets nothing through by a clock that is broken', () => {
    const signed = createSigner({ secrets: secret, now: () => 0 }).sign({ id: 'a', body: '{}' });
    const broken = createVerifier({ secrets: secret, now: () => Number.NaN });
    expect(() => broken.verify('{}', signed)).toThrow(
      expect.objectContaining({ code: 'ERR_WEBHOOKS_TIMESTAMP_TOO_OLD' }),
    );
  });

  it.each([0, -1, Number.NaN, 86_401])('refuses a tolerance of %d seconds', (toleranceSeconds) => {
    for (const secrets of [secret, async () => [secret]]) {
      const build = () => createVerifier({ secrets: secrets as string, toleranceSeconds });
      expect(build).toThrow(TypeError);
    }
  });

  it('refuses to sign a moment that is none', () => {
    for (const timestampMs of [Number.NaN, Infinity, -1000]) {
      expect(codeOf(() => signer.sign({ id, body, timestampMs }))).toBe(
        'ERR_WEBHOOKS_TIMESTAMP_MALFORMED',
      );
    }
  });
});
