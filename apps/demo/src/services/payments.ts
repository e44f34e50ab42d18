import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createApiKeys } from '@countersign/api-keys';
import { apiKeyGuard } from '@countersign/api-keys/guard';
import { deadlineGuard } from '@countersign/client/guard';
import { assertAllowed, EgressError, egressAgent } from '@countersign/egress';
import { chain, type Guard, problem } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { num, output, text } from '@countersign/hardening';
import {
  answer,
  endpoint,
  endpoints,
  errorMapper,
  input,
  owner,
  refuse,
  securityHeaders,
} from '@countersign/hardening/guard';
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
import { openStores, type SharedRedis } from '../stores.ts';

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
  readonly redis?: SharedRedis;
}

/** Who calls: a service with an access token, or a partner with an API key. */
interface Principal {
  readonly id: string;
  /** Whom requests are charged to. */
  readonly payer: string;
}

const Order = z.object({
  amount: num({ min: 1, max: 1_000_000, integer: true }),
  currency: z.enum(['EUR', 'USD']),
});
/** What may leave: whose payment it is stays here. */
const VisiblePayment = z.object({ id: z.string(), amount: z.int(), currency: z.string() });
const Endpoint = z.object({ url: text({ max: 500 }).pipe(z.url()) });

/** The callee. */
serve<PaymentsConfiguration>(async (configuration) => {
  const stores = await openStores(configuration.redis);
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
    // The whole system shares one machine here, which may be busy with something else.
    timeoutMs: 2000,
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
    // A payment is not begun for a caller who would not wait for it. First, because all that follows takes time.
    .use('caller', deadlineGuard({ minMs: 20 }))
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

  const pay = endpoint({
    method: 'POST',
    path: '/payments',
    guards,
    input: input(Order),
    public: { owner: 'makes a payment of the caller' },
    output: output(VisiblePayment),
    handler: async (order, { principal }) => {
      const payment: Payment = { id: randomUUID(), owner: principal.id, ...order };
      await ledger.pay(payment);
      deliver(payment);
      return answer(payment, { status: 201 });
    },
  });
  const show = endpoint({
    method: 'GET',
    path: '/payments/:id',
    guards,
    owner: owner(async (_request, context: { params: { id: string }; principal: Principal }) => {
      const payment = await ledger.find(context.params.id);
      return payment && { owner: payment.owner, resource: payment };
    }),
    output: output(VisiblePayment),
    handler: (_input, { resource }) => resource,
  });
  const registerEndpoint = endpoint({
    method: 'POST',
    path: '/webhook-endpoints',
    guards,
    input: input(Endpoint),
    public: { owner: 'registers an endpoint of the caller' },
    output: output(Endpoint),
    handler: (registration) => {
      try {
        assertAllowed(registration.url, webhookTargets);
      } catch (error) {
        if (!(error instanceof EgressError)) throw error;
        return refuse(problem({ status: 422, title: 'Webhooks are not sent to this address' }));
      }
      return answer(registration, { status: 201 });
    },
  });
  const api = endpoints([pay, show, registerEndpoint]);
  const whole = chain()
    .use('headers', securityHeaders({ profile: 'api' }))
    .use('errors', errorMapper())
    .use('api', api);

  const listener = node(whole, (_request, response) => {
    const { status, headers, body } = problem({ status: 404 });
    response.writeHead(status, headers.flat()).end(body);
  });
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    questions: {
      payments: () => ledger.count(),
      'what protects it': () => api.describe(),
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
