import { createHmac } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  bodyDigest,
  createSigner,
  createVerifier,
  generateKeyPair,
  generateSecret,
  github,
  jsonField,
  type Scheme,
  type Signature,
  shopify,
  slack,
  standardWebhooks,
  stripe,
  timestampedHmac,
  WebhookError,
} from '../src/index.ts';

const nowMs = 1_800_000_000_000;
const now = () => nowMs;
const textSecret = 'whsec_0123456789abcdef0123456789abcdef';
const schemes: readonly (readonly [string, Scheme, string])[] = [
  ['standardWebhooks', standardWebhooks(), generateSecret()],
  ['standardWebhooks ed25519', standardWebhooks(), generateKeyPair().privateKey],
  ['timestampedHmac', timestampedHmac(), textSecret],
  ['stripe', stripe(), textSecret],
  ['github', github(), textSecret],
  ['slack', slack(), textSecret],
  ['shopify', shopify(), textSecret],
];

function codeOf(work: () => unknown): string {
  try {
    work();
  } catch (error) {
    if (error instanceof WebhookError) return error.code;
    throw error;
  }
  return 'none';
}

describe.each(schemes)('%s', (_, scheme, secret) => {
  const signer = createSigner({ secrets: secret, scheme, now });
  const verifier = createVerifier({ secrets: secret, scheme, now });

  it('verifies what it signed, for any bytes', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (body) => {
        const verified = verifier.verify(body, signer.sign({ id: 'msg_1', body }));
        expect(verified).toMatchObject({
          keyIndex: 0,
          timestampMs: scheme.timestamped ? nowMs : undefined,
        });
      }),
    );
  });

  it('notices any change of any bit', () => {
    const body = Buffer.from('{"amount":42}');
    const headers = signer.sign({ id: 'msg_1', body });
    for (let bit = 0; bit < body.length * 8; bit += 1) {
      const changed = Buffer.from(body);
      changed[bit >> 3] = (changed[bit >> 3] ?? 0) ^ (1 << (bit & 7));
      expect(codeOf(() => verifier.verify(changed, headers))).toBe(
        'ERR_WEBHOOKS_SIGNATURE_MISMATCH',
      );
    }
  });

  it('signs with two secrets, and either verifies', () => {
    const other = secret.startsWith('whsk_') ? generateKeyPair().privateKey : `${generateSecret()}`;
    const headers = createSigner({ secrets: [other, secret], scheme, now }).sign({
      id: 'msg_1',
      body: 'x',
    });
    expect(verifier.verify('x', headers).keyIndex).toBe(0);
    expect(createVerifier({ secrets: other, scheme, now }).verify('x', headers).keyIndex).toBe(0);
  });

  it('never throws anything but WebhookError, whatever headers and body arrive', () => {
    const signed = signer.sign({ id: 'msg_1', body: 'x' });
    const names = Object.keys(signed);
    const piece = fc.oneof(
      fc.constantFrom(
        'v1,',
        'v1a,',
        't=',
        'sha256=',
        'v0=',
        ',',
        ' ',
        '=',
        '1800000000',
        'a.b',
        '\u0000',
      ),
      fc.constantFrom(...Object.values(signed)),
      fc.string({ unit: 'binary', maxLength: 20 }),
    );
    const text = fc.array(piece, { maxLength: 8 }).map((pieces) => pieces.join(''));
    const value = fc.oneof(text, fc.array(text, { maxLength: 3 }), fc.anything());
    const name = fc.oneof(
      fc.constantFrom(...names),
      fc.constantFrom(...names).map((of) => of.toUpperCase()),
      fc.constantFrom('__proto__', 'constructor', 'toString', ''),
    );
    const headers = fc.oneof(
      fc.dictionary(name, value, { maxKeys: 6 }).map((extra) => ({ ...signed, ...extra })),
      fc.dictionary(name, value, { noNullPrototype: false }),
      fc.anything(),
    );
    const body = fc.oneof(
      fc.constant('x'),
      fc.string({ unit: 'binary' }),
      fc.uint8Array(),
      fc.anything(),
    );
    fc.assert(
      fc.property(headers, body, (received, bytes) => {
        codeOf(() => verifier.verify(bytes as string, received as Record<string, string>));
      }),
      { numRuns: 3000 },
    );
  });

  it('refuses empty and short secrets', () => {
    for (const short of ['', 'short', new Uint8Array(15)]) {
      expect(() => createVerifier({ secrets: short, scheme })).toThrow(TypeError);
      expect(() => createSigner({ secrets: short, scheme })).toThrow(TypeError);
    }
  });
});

describe('timestampedHmac', () => {
  it('writes the headers that its description names', () => {
    const body = '{"id":"evt_1"}';
    const signer = createSigner({ secrets: textSecret, scheme: timestampedHmac(), now });
    const hex = createHmac('sha256', textSecret).update(`1800000000.${body}`).digest('hex');
    expect(signer.sign({ id: 'msg_1', body })).toEqual({
      'x-webhook-id': 'msg_1',
      'x-webhook-timestamp': '1800000000',
      'x-webhook-signature': `sha256=${hex}`,
    });
  });

  it('takes the id from where idFrom says: the header is not signed', () => {
    const body = '{"event":{"id":"evt_1"}}';
    const headers = createSigner({ secrets: textSecret, scheme: timestampedHmac(), now }).sign({
      id: 'msg_1',
      body,
    });
    const idWith = (scheme: Scheme) =>
      createVerifier({ secrets: textSecret, scheme, now }).verify(body, {
        ...headers,
        'x-webhook-id': 'forged',
      }).id;
    expect(idWith(timestampedHmac())).toBeUndefined();
    expect(idWith(timestampedHmac({ idFrom: 'header' }))).toBe('forged');
    expect(idWith(timestampedHmac({ idFrom: jsonField('event.id') }))).toBe('evt_1');
    expect(idWith(timestampedHmac({ idFrom: bodyDigest }))).toMatch(/^sha256-.{43}$/);
    for (const path of ['id', 'event', 'toString', 'event.id.length']) {
      expect(codeOf(() => idWith(timestampedHmac({ idFrom: jsonField(path) })))).toBe(
        'ERR_WEBHOOKS_ID_MALFORMED',
      );
    }
  });
});

describe('an idFrom that finds no id', () => {
  // All webhooks would have the same one, and all but the first would count as duplicates.
  it.each([
    stripe({ idFrom: 'id' as never }),
    github({ idFrom: { path: 'id' } as never }),
    slack({ idFrom: 'header' }),
  ])('is refused when a verifier is built: $name', (scheme) => {
    for (const secrets of [textSecret, async () => [textSecret]]) {
      const build = () => createVerifier({ secrets: secrets as string, scheme });
      expect(build).toThrow(TypeError);
      expect(build).toThrow(/idFrom/);
    }
  });
});

describe.each([
  ['timestampedHmac', timestampedHmac(), 'x-webhook-signature'],
  ['stripe', stripe(), 'stripe-signature'],
  ['github', github(), 'x-hub-signature-256'],
  ['slack', slack(), 'x-slack-signature'],
  ['shopify', shopify(), 'x-shopify-hmac-sha256'],
  ['standardWebhooks', standardWebhooks(), 'webhook-signature'],
])('%s, with its signature header sent twice', (_, scheme, name) => {
  it('refuses the two that Node.js joined into one', () => {
    const secrets = scheme.name === 'standard-webhooks' ? generateSecret() : textSecret;
    const verifier = createVerifier({ secrets, scheme, now });
    const headers = createSigner({ secrets, scheme, now }).sign({ id: 'a', body: 'x' });
    const joined = { ...headers, [name]: `${headers[name]}, ${headers[name]}` };
    expect(verifier.verify('x', headers).keyIndex).toBe(0);
    expect(codeOf(() => verifier.verify('x', joined))).toBe('ERR_WEBHOOKS_SIGNATURE_MALFORMED');
  });
});

describe.each([
  ['timestampedHmac', timestampedHmac()],
  ['stripe', stripe()],
  ['github', github()],
  ['slack', slack()],
  ['shopify', shopify()],
  ['standardWebhooks', standardWebhooks()],
])('%s, with many signatures', (_, scheme) => {
  const secrets = scheme.name === 'standard-webhooks' ? generateSecret() : textSecret;
  const verifier = createVerifier({ secrets, scheme, now });
  const signed = createSigner({ secrets, scheme, now }).sign({ id: 'a', body: 'x' });
  const name = scheme.headers.signature;
  const { signatures, timestamp = '' } = scheme.parse(signed[name] ?? '') ?? { signatures: [] };
  const [right] = signatures as [Signature];
  const wrong = { ...right, value: right.value.replaceAll(/[^=]/g, '0') };
  const codeWith = (all: readonly Signature[]): string =>
    codeOf(() => verifier.verify('x', { ...signed, [name]: scheme.format(all, timestamp) }));

  it('looks at 16 and no more', () => {
    const others = Array.from({ length: 15 }, () => wrong);
    expect(codeWith([...others, right])).toBe('none');
    expect(codeWith([...others, wrong, right])).toBe('ERR_WEBHOOKS_SIGNATURE_MISMATCH');
  });

  it('refuses a header of more than 4,096 characters, right or not', () => {
    const filler = (length: number): Signature => ({ ...right, value: '0'.repeat(length) });
    const room = 4096 - scheme.format([right, filler(0)], timestamp).length;
    expect(codeWith([right, filler(room)])).toBe('none');
    expect(codeWith([right, filler(room + 1)])).toBe('ERR_WEBHOOKS_SIGNATURE_MALFORMED');
  });

  it('takes an id from the body of up to 256 characters', () => {
    const codeOfId = (id: string): string => {
      const withId = { ...scheme, idFrom: () => id };
      return codeOf(() => createVerifier({ secrets, scheme: withId, now }).verify('x', signed));
    };
    expect(codeOfId('x'.repeat(256))).toBe('none');
    expect(codeOfId('x'.repeat(257))).toBe('ERR_WEBHOOKS_ID_MALFORMED');
    expect(codeOfId('')).toBe('ERR_WEBHOOKS_ID_MALFORMED');
  });
});

describe('slack', () => {
  it('computes the known answer of the documentation', () => {
    const body =
      'token=xyzz0WbapA4vBCDEFasx0q6G&team_id=T1DC2JH3J&team_domain=testteamnow&channel_id=G8PSS9T3V&channel_name=foobar&user_id=U2CERLKJA&user_name=roadrunner&command=%2Fwebhook-collect&text=&response_url=https%3A%2F%2Fhooks.slack.com%2Fcommands%2FT1DC2JH3J%2F397700885554%2F96rGlfmibIGlgcZRskXaIFfN&trigger_id=398738663015.47445629121.803a0bc887a14d10d2c447fce8b6703c';
    const signer = createSigner({ secrets: '8f742231b10e8888abcd99yyyzzz85a5', scheme: slack() });
    expect(signer.sign({ body, timestampMs: 1_531_420_618_000 })).toEqual({
      'x-slack-request-timestamp': '1531420618',
      'x-slack-signature': 'v0=a2114d57b48eac39b9ad189dd8316235a7b4a8d21a10bd27519666489c69b503',
    });
  });
});

describe('github', () => {
  it('computes the known answer of the documentation', () => {
    const signer = createSigner({ secrets: "It's a Secret to Everybody", scheme: github() });
    expect(signer.sign({ id: 'x', body: 'Hello, World!' })['x-hub-signature-256']).toBe(
      'sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17',
    );
  });
});

describe('stripe', () => {
  it('refuses a header with two timestamps, or none', () => {
    const verifier = createVerifier({ secrets: textSecret, scheme: stripe(), now });
    for (const header of ['t=1800000000,t=1800000000,v1=00', 'v1=00', 'nonsense', '']) {
      expect(codeOf(() => verifier.verify('x', { 'stripe-signature': header }))).toBe(
        'ERR_WEBHOOKS_SIGNATURE_MALFORMED',
      );
    }
  });
});

describe('a scheme of your own', () => {
  it('is a small value', () => {
    const acme: Scheme = {
      ...github(),
      name: 'acme',
      headers: { signature: 'acme-signature', id: 'acme-id' },
      idFrom: 'header',
    };
    const headers = createSigner({ secrets: textSecret, scheme: acme }).sign({
      id: '1',
      body: 'x',
    });
    expect(Object.keys(headers)).toEqual(['acme-id', 'acme-signature']);
    expect(createVerifier({ secrets: textSecret, scheme: acme }).verify('x', headers).id).toBe('1');
  });

  it('may write its header names in any letter case', () => {
    const scheme: Scheme = {
      ...github(),
      headers: { signature: 'Acme-Signature', id: 'ACME-Id' },
      idFrom: 'header',
    };
    const headers = createSigner({ secrets: textSecret, scheme }).sign({ id: '1', body: 'x' });
    expect(Object.keys(headers)).toEqual(['acme-id', 'acme-signature']);
    expect(createVerifier({ secrets: textSecret, scheme }).verify('x', headers).id).toBe('1');
  });
});
