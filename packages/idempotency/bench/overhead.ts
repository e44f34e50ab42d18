import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { compare, expectAtLeast, type Measurement, report } from '@countersign/testkit/bench';
import type { Redis } from 'ioredis';
import { Client } from 'undici';
import { idempotencyGuard } from '../src/guard.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import { redisIdempotencyStore } from '../src/redis.ts';
import type { IdempotencyStore } from '../src/store.ts';

const body = '{"amount":100,"currency":"EUR","reference":"order-1234"}';
const answer = '{"id":"pay_1","amount":100,"status":"succeeded"}';

/**
 * What the guard adds to a request on the node adapter, over a real socket: the same server, the same handler and the
 * same reading of the body, with and without it.
 */
export async function overheads(redis: Redis): Promise<void> {
  const servers = {
    'without idempotency': await serve(),
    'in memory': await serve(memoryIdempotencyStore({ maxEntries: 1e8, maxBytes: 1e12 })),
    'on Redis': await serve(redisIdempotencyStore(redis)),
  };
  let keys = 0;
  const pay =
    ({ client }: { client: Client }) =>
    async (): Promise<void> => {
      keys += 1;
      const response = await client.request({
        method: 'POST',
        path: '/payments',
        headers: { 'content-type': 'application/json', 'idempotency-key': `"overhead-${keys}"` },
        body,
      });
      await response.body.dump();
    };
  const results = await compare(
    {
      PING: () => redis.ping(),
      ...Object.fromEntries(Object.entries(servers).map(([name, server]) => [name, pay(server)])),
    },
    9,
  );
  report('node adapter, real sockets, first request (one at a time)', results);
  const without = timeOf(results, 'without idempotency');
  const inMemoryUs = (timeOf(results, 'in memory') - without) / 1e3;
  const roundTrips = (timeOf(results, 'on Redis') - without) / timeOf(results, 'PING');
  console.log(`  in memory the guard adds ${inMemoryUs.toFixed(1)} µs`);
  console.log(`  on Redis the guard adds ${roundTrips.toFixed(2)} times a PING`);
  expectAtLeast('25 µs against what the guard adds in memory', 25 / inMemoryUs, 1);
  expectAtLeast('2.2 PINGs against what the guard adds on Redis', 2.2 / roundTrips, 1);
  for (const { client, server } of Object.values(servers)) {
    await client.close();
    server.close();
  }
}

async function serve(store?: IdempotencyStore): Promise<{ server: Server; client: Client }> {
  const read = chain().use('body', async (request) => {
    await request.rawBody();
    return { pass: true, context: undefined };
  });
  const guards = store
    ? read.use('idempotency', idempotencyGuard({ store, principal: () => 'customer-1' }))
    : read;
  const server = createServer(
    node(guards, (_request, response) => {
      response.writeHead(201, { 'content-type': 'application/json' }).end(answer);
    }),
  );
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const { port } = server.address() as AddressInfo;
  return { server, client: new Client(`http://127.0.0.1:${port}`) };
}

function timeOf(results: readonly Measurement[], name: string): number {
  const result = results.find((candidate) => candidate.name === name);
  if (!result) throw new TypeError(`no measurement named "${name}"`);
  return result.nsPerCall;
}
