import { once } from 'node:events';
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http';
import type { AddressInfo } from 'node:net';
import { Pool } from 'undici';
import { serve } from '../process.ts';

/** What the gateway is told. */
export interface GatewayConfiguration {
  /** The instances of the payment service, taken in turns. */
  readonly instances: readonly string[];
  /** How many answers to payments it loses: the work is done, the caller sees a 503. */
  readonly losses: number;
}

/** What stands in front of the payment service: spreads requests over its instances and, like any gateway, fails now and then. */
serve<GatewayConfiguration>(async ({ instances, losses }) => {
  const pools = instances.map((origin) => new Pool(origin));
  let turn = 0;
  let left = losses;

  const forward = async (request: IncomingMessage, response: ServerResponse): Promise<void> => {
    const pool = pools[turn % pools.length] as Pool;
    turn += 1;
    const answer = await pool.request({
      method: request.method as 'GET',
      path: request.url ?? '/',
      headers: [
        ...forwardable(request.rawHeaders),
        'x-forwarded-for',
        request.socket.remoteAddress ?? '',
      ],
      body: request.method === 'GET' ? null : request,
      responseHeaders: 'raw',
    });
    const body = Buffer.from(await answer.body.arrayBuffer());
    if (request.method === 'POST' && request.url === '/payments' && left > 0) {
      left -= 1;
      response.writeHead(503, { 'Retry-After': '0' }).end();
      return;
    }
    response.writeHead(answer.statusCode, answer.headers as unknown as string[]).end(body);
  };

  const server = createServer((request, response) => {
    forward(request, response).catch((error: unknown) => {
      console.error('gateway:', error);
      response.writeHead(502).end();
    });
  });
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}`,
    close: async () => {
      server.close();
      server.closeAllConnections();
      await Promise.all(pools.map((pool) => pool.close()));
    },
  };
});

/** Fields that are for one connection (RFC 9110 §7.6.1), and `Expect`, which Node.js has answered already. */
const ofTheConnection =
  /^(?:connection|expect|keep-alive|proxy-connection|te|transfer-encoding|upgrade)$/i;

function forwardable(rawHeaders: readonly string[]): string[] {
  return rawHeaders.filter(
    (_, index) => !ofTheConnection.test(rawHeaders[index - (index % 2)] as string),
  );
}
