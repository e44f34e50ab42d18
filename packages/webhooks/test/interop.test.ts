import { sign as githubSign, verify as githubVerify } from '@octokit/webhooks-methods';
import fc from 'fast-check';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import Stripe from 'stripe';
import { Webhook as SvixWebhook } from 'svix';
import { describe, expect, it } from 'vitest';
import {
  createSigner,
  createVerifier,
  generateSecret,
  github,
  standardWebhooks,
  stripe,
  type WebhookError,
} from '../src/index.ts';

// The published libraries read the real clock.
const text = fc.string({ unit: 'grapheme', minLength: 1, maxLength: 200 });
const id = fc.stringMatching(/^[A-Za-z0-9_-]{1,40}$/);

describe.each([
  ['standardwebhooks', StandardWebhook],
  ['svix', SvixWebhook],
] as const)('%s', (_, Webhook) => {
  const secret = generateSecret();
  const peer = new Webhook(secret);

  it('verifies what we sign', () => {
    const signer = createSigner({ secrets: [generateSecret(), secret] });
    fc.assert(
      fc.property(id, text, (msgId, word) => {
        const body = JSON.stringify({ word });
        expect(() => peer.verify(body, signer.sign({ id: msgId, body }))).not.toThrow();
        expect(() => peer.verify(`${body} `, signer.sign({ id: msgId, body }))).toThrow();
      }),
    );
  });

  it('signs what we verify', () => {
    const verifier = createVerifier({ secrets: [generateSecret(), secret] });
    fc.assert(
      fc.property(id, text, (msgId, body) => {
        const sentAt = new Date();
        const headers = {
          'webhook-id': msgId,
          'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
          'webhook-signature': peer.sign(msgId, sentAt, body),
        };
        expect(verifier.verify(body, headers)).toMatchObject({ id: msgId, keyIndex: 1 });
      }),
    );
  });
});

it('verifies what svix signs under its own header names, by a scheme with those', () => {
  const secret = generateSecret();
  const names = { id: 'svix-id', timestamp: 'svix-timestamp', signature: 'svix-signature' };
  const scheme = { ...standardWebhooks(), name: 'svix', headers: names };
  const sentAt = new Date();
  const theirs = {
    'svix-id': 'msg_1',
    'svix-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
    'svix-signature': new SvixWebhook(secret).sign('msg_1', sentAt, '{}'),
  };
  expect(createVerifier({ secrets: secret, scheme }).verify('{}', theirs).id).toBe('msg_1');
  const ours = createSigner({ secrets: secret, scheme }).sign({ id: 'msg_1', body: '{}' });
  expect(() => new SvixWebhook(secret).verify('{}', ours)).not.toThrow();
  expect(() => new SvixWebhook(secret).verify('[]', ours)).toThrow();
});

describe('where standardwebhooks is lenient and we are not', () => {
  const secret = generateSecret();
  const peer = new StandardWebhook(secret);
  const verifier = createVerifier({ secrets: secret });
  const signer = createSigner({ secrets: secret });
  const codeOf = (work: () => unknown): string => {
    try {
      work();
    } catch (error) {
      return (error as WebhookError).code;
    }
    return 'none';
  };

  it('takes byte ff for fe', () => {
    const sentAt = new Date();
    const headers = {
      'webhook-id': 'msg_1',
      'webhook-timestamp': String(Math.floor(sentAt.getTime() / 1000)),
      'webhook-signature': peer.sign('msg_1', sentAt, Buffer.of(0xff)),
    };
    expect(() => peer.verify(Buffer.of(0xfe), headers, { jsonParse: false })).not.toThrow();
    expect(codeOf(() => verifier.verify(Buffer.of(0xfe), headers))).toBe(
      'ERR_WEBHOOKS_SIGNATURE_MISMATCH',
    );
  });

  it('reads a timestamp up to the first character that is no digit', () => {
    const headers = { ...signer.sign({ id: 'msg_1', body: '{}' }) };
    const lenient = { ...headers, 'webhook-timestamp': `${headers['webhook-timestamp']}abc` };
    expect(() => peer.verify('{}', lenient)).not.toThrow();
    expect(codeOf(() => verifier.verify('{}', lenient))).toBe('ERR_WEBHOOKS_TIMESTAMP_MALFORMED');
  });
});

describe('stripe', () => {
  const secret = 'whsec_0123456789abcdef0123456789abcdef';
  const peer = new Stripe('sk_test_none').webhooks;

  it('verifies what we sign', () => {
    const signer = createSigner({
      secrets: ['another secret, long enough', secret],
      scheme: stripe(),
    });
    fc.assert(
      fc.property(text, (word) => {
        const body = JSON.stringify({ word });
        const header = signer.sign({ body })['stripe-signature'] ?? '';
        expect(peer.constructEvent(Buffer.from(body), header, secret)).toEqual({ word });
      }),
    );
  });

  it('signs what we verify', () => {
    const verifier = createVerifier({ secrets: secret, scheme: stripe() });
    fc.assert(
      fc.property(text, (payload) => {
        const header = peer.generateTestHeaderString({ payload, secret });
        expect(verifier.verify(payload, { 'Stripe-Signature': header }).keyIndex).toBe(0);
      }),
    );
  });
});

describe('@octokit/webhooks-methods', () => {
  const secret = 'a secret of enough length';

  it('verifies what we sign, and signs what we verify', async () => {
    const signer = createSigner({ secrets: secret, scheme: github() });
    const verifier = createVerifier({ secrets: secret, scheme: github() });
    await fc.assert(
      fc.asyncProperty(text, async (body) => {
        const header = signer.sign({ id: 'x', body })['x-hub-signature-256'] ?? '';
        expect(await githubVerify(secret, body, header)).toBe(true);
        const theirs = { 'X-Hub-Signature-256': await githubSign(secret, body) };
        expect(verifier.verify(body, theirs).keyIndex).toBe(0);
      }),
    );
  });
});
