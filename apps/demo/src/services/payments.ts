import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createApiKeys } from '@countersign/api-keys';
import { apiKeyGuard } from '@countersign/api-keys/guard';
import { assertAllowed, EgressError, egressAgent } from '@countersign/egress';
import { chain, type Guard } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { securityHeaders } from '@countersign/hardening/guard';
import { idempotencyGuard } from '@countersign/idempotency/guard';
import { createJwtVerifier } from '@countersign/jwt';
import { jwtGuard } from '@countersign/jwt/guard';
import { createRateLimiter, defaultTiers } from '@countersign/rate-limit';
import { rateLimitGuard } from '@countersign/rate-limit/guard';
import { createSender, createSigner } from '@countersign/webhooks';
import * as z from 'zod';
import { keyLimits } from '../key-limits.ts';
import type { Payment } from '../ledger.ts';
import { serve } from '../process.ts';
import { openStores } from '../stores.ts';

/** What the payment service is told. */
export interface PaymentsConfiguration {
  readonly issuer: string;
  readonly audience: string;
  /** Keys are stored as HMACs with this secret. */
  readonly pepper: string;
  readonly webhookSecret: string;
  readonly webhookEndpoint: string;
  readonly webhookScheduleMs: readonly number[];
  /** Shared by all instances; without it the service is alone and remembers in its own memory. */
  readonly redisUrl?: string;
}

/** Who calls: a service with an access token, or a partner with an API key. */
interface Principal {
  readonly id: string;
  /** Whom requests are charged to. */
  readonly payer: string;
}

const Order = z.strictObject({
  amount: z.int().min(1).max(1_000_000),
  currency: z.enum(['EUR', 'USD']),
});
const Endpoint = z.strictObject({ url: z.url().max(500) });

/** The callee. */
serve<PaymentsConfiguration>(async (configuration) => {
  const stores = await openStores(configuration.redisUrl);
  const { ledger } = stores;
  const verifier = createJwtVerifier({
    issuer: configuration.issuer,
    audience: configuration.audience,
    keys: { allowInsecureLoopback: true },
  });
  const keys = createApiKeys({
    store: stores.apiKeys,
    peppers: [{ id: 'p1', secret: configuration.pepper }],
    prefix: 'sk',
    environment: 'live',
  });
  const limits = keyLimits();
  const limiter = createRateLimiter({
    store: stores.rateLimits,
    policies: defaultTiers,
    onStoreError: 'closed',
    overrides: limits.limitsOf,
  });
  const webhookTargets = {
    allow: ['public', configuration.webhookEndpoint.replace(/\/webhooks.*/, '')],
  };
  const sender = createSender({
    signer: createSigner({ secrets: [configuration.webhookSecret] }),
    egress: egressAgent(webhookTargets),
    schedule: configuration.webhookScheduleMs,
  });

  const byToken = jwtGuard(verifier, { scopes: ['payments:write'] });
  const byKey = apiKeyGuard(keys, { scopes: ['payments:read'] });
  /** Either way of proving who calls; the scheme of the Authorization field chooses. */
  const identity: Guard<Principal> = async (request) => {
    const scheme = request.headers.get('authorization')?.split(' ', 1)[0]?.toLowerCase();
    if (scheme === 'bearer') {
      const verdict = await byToken(request, {});
      if (!verdict.pass) return verdict;
      const { clientId } = verdict.context;
      return { ...verdict, context: { id: clientId, payer: clientId } };
    }
    const verdict = await byKey(request, {});
    if (!verdict.pass) return verdict;
    const { record } = verdict.context;
    return { ...verdict, context: { id: record.owner, payer: limits.subjectOf(record) } };
  };

  const guards = chain()
    .use('headers', securityHeaders({ profile: 'api' }))
    .use('principal', identity)
    .use(
      'limit',
      rateLimitGuard(limiter, {
        key: (_request, { principal }: { principal: Principal }) => principal.payer,
        policy: 'free',
      }),
    )
    .use(
      'operation',
      idempotencyGuard({
        store: stores.idempotency,
        principal: (_request, { principal }: { principal: Principal }) => principal.id,
        required: ['POST /payments'],
      }),
    );

  const announce = (payment: Payment) =>
    sender.deliver({
      endpoint: configuration.webhookEndpoint,
      event: {
        id: `evt_${payment.id}`,
        payload: {
          type: 'payment.succeeded',
          data: { paymentId: payment.id, amount: payment.amount, currency: payment.currency },
        },
      },
    });
  const deliveries: Promise<{ outcome: string; attempts: number }>[] = [];
  const deliver = (payment: Payment): void => {
    deliveries.push(
      announce(payment).then(({ outcome, attempts }) => ({ outcome, attempts: attempts.length })),
    );
  };

  const pay = async (request: IncomingMessage, response: ServerResponse, owner: string) => {
    const order = Order.safeParse(await readJson(request));
    if (!order.success) return answer(response, 422, { title: 'Not an order' });
    const payment: Payment = { id: randomUUID(), owner, ...order.data };
    await ledger.pay(payment);
    deliver(payment);
    const { owner: _hidden, ...visible } = payment;
    answer(response, 201, visible);
  };
  const show = async (response: ServerResponse, owner: string, id: string) => {
    const payment = await ledger.find(id);
    // Somebody else's payment is answered like none at all: its existence is nobody's business.
    if (payment?.owner !== owner) return answer(response, 404, { title: 'Not Found' });
    const { owner: _hidden, ...visible } = payment;
    answer(response, 200, visible);
  };
  const registerEndpoint = async (request: IncomingMessage, response: ServerResponse) => {
    const endpoint = Endpoint.safeParse(await readJson(request));
    if (!endpoint.success) return answer(response, 422, { title: 'Not an endpoint' });
    try {
      assertAllowed(endpoint.data.url, webhookTargets);
    } catch (error) {
      if (!(error instanceof EgressError)) throw error;
      return answer(response, 422, { title: 'Webhooks are not sent to this address' });
    }
    answer(response, 201, endpoint.data);
  };

  const listener = node(guards, async (request, response, { principal }) => {
    const { method } = request;
    const { pathname } = new URL(request.url ?? '/', 'http://payments');
    const [, id] = /^\/payments\/([\w-]{1,64})$/.exec(pathname) ?? [];
    if (method === 'POST' && pathname === '/payments') await pay(request, response, principal.id);
    else if (method === 'GET' && id) await show(response, principal.id, id);
    else if (method === 'POST' && pathname === '/webhook-endpoints') {
      await registerEndpoint(request, response);
    } else answer(response, 404, { title: 'Not Found' });
  });
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    questions: {
      payments: () => ledger.count(),
      deliveries: () => Promise.all(deliveries),
      'deliver again': async (id: string) => {
        const payment = await ledger.find(id);
        if (!payment) throw new Error(`there is no payment ${id}`);
        const { outcome, attempts } = await announce(payment);
        return { outcome, attempts: attempts.length };
      },
      'issue key': async (owner: string) => {
        const { key, record } = await keys.create({ owner, scopes: ['payments:read'] });
        return { key, id: record.id };
      },
      'rotate key': async (id: string) => {
        const { key, record } = await keys.rotate(id, { overlapSeconds: 60 });
        return { key, id: record.id };
      },
      'revoke key': async (id: string) => {
        await keys.revoke(id, { reason: 'rotated' });
      },
      'record payment': (payment: Payment) => ledger.pay(payment),
    },
    close: async () => {
      server.close();
      server.closeAllConnections();
      await sender.close();
      await stores.close();
    },
  };
});

async function readJson(request: IncomingMessage): Promise<unknown> {
  const chunks: Buffer[] = [];
  for await (const chunk of request) chunks.push(chunk as Buffer);
  try {
    return JSON.parse(Buffer.concat(chunks).toString('utf8'));
  } catch {
    return undefined;
  }
}

function answer(response: ServerResponse, status: number, body: object): void {
  const isProblem = status >= 400;
  response.writeHead(status, {
    'content-type': isProblem ? 'application/problem+json' : 'application/json',
  });
  response.end(JSON.stringify(isProblem ? { type: 'about:blank', status, ...body } : body));
}
