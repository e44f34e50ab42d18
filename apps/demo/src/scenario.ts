import { randomUUID } from 'node:crypto';
import type { EndpointDescription } from '@countersign/hardening/guard';
import { inspectToken } from '@countersign/jwt';
import { createSigner } from '@countersign/webhooks';
import { request } from 'undici';
import type { Notes } from './expectations.ts';
import { launch } from './process.ts';
import type { AttackerConfiguration, Attacks, CapturedWebhook } from './services/attacker.ts';
import type { MerchantView } from './services/merchant.ts';
import { otherAudience, paymentsAudience, type System } from './system.ts';

/** What checkout answers to an order. */
export interface OrderAnswer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly payment: { readonly id: string; readonly amount: number };
  readonly attempts: number;
  readonly replayed: boolean;
}

interface IssuedKey {
  readonly key: string;
  readonly id: string;
}

/** The main job: a payment and its webhook, a partner with a key, and somebody who means no good. */
export async function runScenario(system: System, notes: Notes): Promise<void> {
  const order = await payForAnOrder(system, notes);
  await lookAtTheAnswer(system, notes, order);
  await followTheWebhook(system, notes, order.payment.id);
  await letAPartnerIn(system, notes);
  await standUpToAnAttacker(system, notes, order.payment.id);
}

async function payForAnOrder(system: System, notes: Notes): Promise<OrderAnswer> {
  notes.step('1. checkout pays for an order, and the first answer is lost');
  const before = await paymentsOf(system);
  const answer = await request(`${system.checkout.url}/orders`, { method: 'POST' });
  const order = (await answer.body.json()) as OrderAnswer;
  notes.expect('the order went through', order.status, 201);
  if (answer.statusCode !== 200) throw new Error('checkout has no answer to go on with');
  notes.expect('attempts it took', order.attempts, 2);
  notes.expect('the second answer is the first one, replayed', order.replayed, true);
  notes.expect('payments made', (await paymentsOf(system)) - before, 1);
  notes.expect('tokens asked for', await system.authorization.ask('token requests'), 1);
  return order;
}

async function lookAtTheAnswer(system: System, notes: Notes, { headers }: OrderAnswer) {
  notes.step('2. payments validates strictly, limits, and answers with the headers it must have');
  notes.expect('X-Content-Type-Options', headers['x-content-type-options'], 'nosniff');
  notes.expect('X-Frame-Options', headers['x-frame-options'], 'DENY');
  notes.expect('Cache-Control', headers['cache-control'], 'no-store, max-age=0');
  notes.expect('X-RateLimit-Limit', headers['x-ratelimit-limit'], '60');
  const token = await system.authorization.ask<string>('token', {
    resource: paymentsAudience,
    scope: 'payments:read',
  });
  const findings = inspectToken(token).map(({ code }) => code);
  notes.expect('what a linter says about the access token', findings, []);
  notes.expect('a token without the scope', await pay(system, `Bearer ${token}`), 403);
  notes.expect('no token at all', await pay(system), 401);
  const impatient = { 'request-timeout-ms': '5' };
  notes.expect('a caller who is gone in 5 ms', await pay(system, undefined, impatient), 504);
  const routes = await system.instances[0].ask<readonly EndpointDescription[]>('what protects it');
  const open = routes.filter(({ authentication }) => authentication === null);
  notes.expect('routes that anybody may call', open, []);
}

async function followTheWebhook({ instances, merchant }: System, notes: Notes, paymentId: string) {
  notes.step('3. payments tells the merchant, who fails twice and then acts once');
  const deliveries = await Promise.all(
    instances.map((instance) => instance.ask<readonly unknown[]>('deliveries')),
  );
  notes.expect('the delivery', deliveries.flat(), [{ outcome: 'delivered', attempts: 3 }]);
  const again = await instances[0].ask('deliver again', paymentId);
  notes.expect('the same event, sent again', again, { outcome: 'delivered', attempts: 1 });
  const view = await merchant.ask<MerchantView>('view');
  notes.expect('deliveries that arrived', view.deliveries, 4);
  notes.expect('deliveries that the merchant failed', view.failed, 2);
  notes.expect('payments that the merchant acted on', view.handled, [paymentId]);
}

async function letAPartnerIn({ instances, payments }: System, notes: Notes): Promise<void> {
  notes.step('4. a partner calls with an API key, which is rotated and revoked');
  const service = instances[0];
  const owner = `partner-${randomUUID()}`;
  const payment = { id: randomUUID(), owner, amount: 100, currency: 'EUR' };
  await service.ask('record payment', payment);
  const look = ({ key }: IssuedKey) =>
    statusOf('GET', `${payments.url}/payments/${payment.id}`, { authorization: `ApiKey ${key}` });

  const old = await service.ask<IssuedKey>('issue key', owner);
  notes.expect('with the key', await look(old), 200);
  const fresh = await service.ask<IssuedKey>('rotate key', old.id);
  notes.expect('with its successor', await look(fresh), 200);
  notes.expect('with the old key, while the overlap lasts', await look(old), 200);
  await service.ask('revoke key', old.id);
  notes.expect('with the old key, revoked', await look(old), 401);
  notes.expect('with its successor, still', await look(fresh), 200);
}

async function standUpToAnAttacker(system: System, notes: Notes, paymentId: string) {
  notes.step('5. an attacker is refused, whatever it tries');
  const { key } = await system.instances[0].ask<IssuedKey>('issue key', `mallory-${randomUUID()}`);
  const sign = createSigner({ secrets: [system.webhookSecret] });
  const capture = (timestampMs: number): CapturedWebhook => {
    const data = { paymentId: 'pay_1', amount: 4200, currency: 'EUR' };
    const body = JSON.stringify({ type: 'payment.succeeded', data });
    const id = `evt_${randomUUID()}`;
    return { headers: { ...sign.sign({ id, body, timestampMs }) }, body };
  };
  const configuration: AttackerConfiguration = {
    payments: system.payments.url,
    webhooks: `${system.merchant.url}/webhooks/payments`,
    issuer: system.authorization.url,
    audience: paymentsAudience,
    ownKey: key,
    tokenForOther: await system.authorization.ask('token', {
      resource: otherAudience,
      scope: 'payments:read payments:write',
    }),
    captured: capture(Date.now()),
    recorded: capture(Date.now() - 6 * 60_000),
    victimsPayment: paymentId,
  };
  const paymentsBefore = await paymentsOf(system);
  const { handled } = await system.merchant.ask<MerchantView>('view');
  const attacker = await launch('attacker', configuration);
  try {
    const statuses = await attacker.ask<Attacks>('attack');
    for (const [attack, expected] of Object.entries(refusals)) {
      notes.expect(attack, statuses[attack], expected);
    }
  } finally {
    await attacker.stop();
  }
  notes.expect('payments made by all this', (await paymentsOf(system)) - paymentsBefore, 0);
  const after = await system.merchant.ask<MerchantView>('view');
  notes.expect('webhooks believed', after.handled.length - handled.length, 0);
}

const refusals: Attacks = {
  'alg none': 401,
  'HS256 signed with the public key': 401,
  'a token for another service': 401,
  'a key in the URL': 401,
  'an unsigned webhook': 403,
  'an altered webhook': 403,
  'a webhook from six minutes ago': 403,
  "another tenant's payment": 404,
  'a webhook endpoint on a private address': 422,
  'a burst': 429,
};

/** How many payments were made: instances that share a ledger each know all of them. */
function paymentsOf({ instances }: System): Promise<number> {
  return instances[0].ask('payments');
}

function pay(
  { payments }: System,
  authorization?: string,
  headers: Readonly<Record<string, string>> = {},
): Promise<number> {
  return statusOf('POST', `${payments.url}/payments`, {
    'idempotency-key': `"${randomUUID()}"`,
    ...(authorization !== undefined && { authorization }),
    ...headers,
  });
}

async function statusOf(
  method: 'GET' | 'POST',
  url: string,
  headers: Record<string, string>,
): Promise<number> {
  const answer = await request(url, { method, headers });
  await answer.body.dump();
  return answer.statusCode;
}
