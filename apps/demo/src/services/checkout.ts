import { createPrivateKey } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createClient } from '@countersign/client';
import { chain } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { accessToken, clientCredentials, privateKeyJwt } from '@countersign/oauth';
import * as z from 'zod';
import { serve } from '../process.ts';
import type { RegisteredClient } from './authorization.ts';

/** What checkout is told. */
export interface CheckoutConfiguration {
  readonly issuer: string;
  readonly client: RegisteredClient;
  readonly paymentsOrigin: string;
  readonly paymentsAudience: string;
}

const Payment = z.object({ id: z.string(), amount: z.number(), currency: z.string() });

/** The caller: takes orders and has them paid. */
serve<CheckoutConfiguration>(async ({ issuer, client, paymentsOrigin, paymentsAudience }) => {
  const tokens = clientCredentials({
    issuer,
    clientId: client.clientId,
    clientAuth: privateKeyJwt(createPrivateKey(client.privateKeyPem), { keyId: client.keyId }),
    resource: paymentsAudience,
    scope: 'payments:read payments:write',
    allowInsecureLoopback: true,
  });
  const payments = createClient({
    origin: paymentsOrigin,
    interceptors: [accessToken(tokens)],
    egress: { allow: [paymentsOrigin] },
  });

  const listener = node(chain(), async (request, response) => {
    if (request.method !== 'POST' || request.url !== '/orders') {
      response.writeHead(404).end();
      return;
    }
    const { status, headers, body, attempts, replayed, idempotencyKey } = await payments.post(
      '/payments',
      { json: { amount: 4200, currency: 'EUR' }, schema: Payment },
    );
    response.setHeader('content-type', 'application/json');
    response.end(
      JSON.stringify({ status, headers, payment: body, attempts, replayed, idempotencyKey }),
    );
  });
  const server = createServer(listener).listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await payments.close();
    },
  };
});
