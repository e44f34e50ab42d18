import { createHmac, createSecretKey, timingSafeEqual } from 'node:crypto';
import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { createSigner, createVerifier, stripe } from '@countersign/webhooks';
import { Webhook } from 'standardwebhooks';
import Stripe from 'stripe';
import { benchDelivery } from './delivery.ts';

const body = JSON.stringify({ type: 'invoice.paid', data: 'x'.repeat(2010) });
const bytes = Buffer.from(body);
const raw = Buffer.alloc(32, 7);
const secret = `whsec_${raw.toString('base64')}`;
const key = createSecretKey(raw);
const id = 'msg_2KWPBgLlAfxdpx2AI54pPJ85f4W';

const signer = createSigner({ secrets: secret });
const verifier = createVerifier({ secrets: secret });
const reference = new Webhook(secret);
const headers: Record<string, string> = {
  'content-type': 'application/json',
  ...signer.sign({ id, body }),
};
const timestamp = headers['webhook-timestamp'] ?? '';
const expected = Buffer.from((headers['webhook-signature'] ?? '').slice(3), 'base64');
const sentAt = new Date(Number(timestamp) * 1000);

const stripeSecret = 'whsec_0123456789abcdef0123456789abcdef';
const stripeSigner = createSigner({ secrets: stripeSecret, scheme: stripe() });
const stripeVerifier = createVerifier({ secrets: stripeSecret, scheme: stripe() });
const stripeHeaders = { ...stripeSigner.sign({ body }) };
const stripeHeader = stripeHeaders['stripe-signature'] ?? '';
const peer = new Stripe('sk_test_x').webhooks;

const bareVerify = (): boolean =>
  timingSafeEqual(
    createHmac('sha256', key).update(`${id}.${timestamp}.`).update(bytes).digest(),
    expected,
  );

const verifying = await compare({
  'bare createHmac(KeyObject) + timingSafeEqual': bareVerify,
  'countersign, Buffer': () => verifier.verify(bytes, headers),
  'countersign, string': () => verifier.verify(body, headers),
  standardwebhooks: () => reference.verify(body, headers, { jsonParse: false }),
  'countersign stripe()': () => stripeVerifier.verify(bytes, stripeHeaders),
  'stripe verifyHeader': () => peer.signature?.verifyHeader(bytes, stripeHeader, stripeSecret, 300),
});
report(`verify a webhook of ${bytes.length} bytes`, verifying);
expectAtLeast(
  'verify vs bare HMAC',
  ratio(verifying, 'countersign, Buffer', 'bare createHmac(KeyObject) + timingSafeEqual'),
  0.85,
);
expectAtLeast(
  'verify vs standardwebhooks',
  ratio(verifying, 'countersign, Buffer', 'standardwebhooks'),
  4.5,
);
expectAtLeast(
  'verify vs stripe verifyHeader',
  ratio(verifying, 'countersign stripe()', 'stripe verifyHeader'),
  1.2,
);

const many = { ...headers, 'webhook-signature': 'v1,x '.repeat(100_000) };
const refusing = await compare({ 'a header of 100,000 signatures': () => refused(many) });
report('refuse', refusing);
expectAtLeast('1 ms vs refusing 100,000 signatures', 1e6 / (refusing[0]?.nsPerCall ?? Infinity), 1);

function refused(of: Record<string, string>): boolean {
  try {
    verifier.verify(bytes, of);
    return false;
  } catch {
    return true;
  }
}

const signing = await compare({
  'bare createHmac(KeyObject)': () =>
    createHmac('sha256', key).update(`${id}.${timestamp}.`).update(bytes).digest('base64'),
  'countersign, Buffer': () => signer.sign({ id, body: bytes }),
  standardwebhooks: () => reference.sign(id, sentAt, body),
  'countersign stripe()': () => stripeSigner.sign({ body: bytes }),
  'stripe generateTestHeaderString': () =>
    peer.generateTestHeaderString({ payload: body, secret: stripeSecret }),
});
report(`sign a webhook of ${bytes.length} bytes`, signing);
expectAtLeast(
  'sign vs bare HMAC',
  ratio(signing, 'countersign, Buffer', 'bare createHmac(KeyObject)'),
  0.85,
);
expectAtLeast(
  'sign vs standardwebhooks',
  ratio(signing, 'countersign, Buffer', 'standardwebhooks'),
  4.5,
);
expectAtLeast(
  'sign vs stripe',
  ratio(signing, 'countersign stripe()', 'stripe generateTestHeaderString'),
  1.2,
);

await benchDelivery();
