import { once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { chain, type GuardRequest, problem, type Verdict } from '@countersign/guard';
import { express as mount } from '@countersign/guard/express';
import { securityHeaders } from '@countersign/hardening/guard';
import { createReceiver, createVerifier, memoryReplayStore } from '@countersign/webhooks';
import { receiverGuard } from '@countersign/webhooks/guard';
import express from 'express';
import * as z from 'zod';
import { serve } from '../process.ts';

/** What the merchant is told. */
export interface MerchantConfiguration {
  readonly webhookSecret: string;
  /** How many deliveries it fails before it is well again. */
  readonly failures: number;
}

/** What the merchant has seen. */
export interface MerchantView {
  readonly deliveries: number;
  readonly failed: number;
  /** The payments it acted on, one entry for each time it did. */
  readonly handled: readonly string[];
}

const PaymentSucceeded = z.object({
  type: z.literal('payment.succeeded'),
  data: z.object({ paymentId: z.string(), amount: z.int(), currency: z.string() }),
});

/** The webhook receiver: has a bad start, then believes only what is signed, and acts once. */
serve<MerchantConfiguration>(async ({ webhookSecret, failures }) => {
  let deliveries = 0;
  let failed = 0;
  const handled: string[] = [];

  const receiver = createReceiver({
    verifier: createVerifier({ secrets: [webhookSecret] }),
    store: memoryReplayStore(),
    schema: PaymentSucceeded,
    handle: ({ payload }) => {
      handled.push(payload.data.paymentId);
    },
  });
  const badStart = (_request: GuardRequest): Verdict<undefined> => {
    deliveries += 1;
    if (failed >= failures) return { pass: true, context: undefined };
    failed += 1;
    return problem({ status: 503 });
  };
  const webhooks = chain()
    .use('headers', securityHeaders({ profile: 'api' }))
    .use('badStart', badStart)
    .use('webhook', receiverGuard(receiver));

  const app = express();
  app.post('/webhooks/payments', mount(webhooks));
  const server = app.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    questions: { view: (): MerchantView => ({ deliveries, failed, handled }) },
    close: async () => {
      await receiver.close();
      server.close();
      server.closeAllConnections();
    },
  };
});
