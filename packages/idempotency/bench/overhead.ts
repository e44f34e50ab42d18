import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { chain } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { expectAtLeast } from '@countersign/testkit/bench';
import type { Redis } from 'ioredis';
import { idempotencyGuard } from '../src/guard.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import { redisIdempotencyStore } from '../src/redis.ts';
import type { IdempotencyStore } from '../src/store.ts';

const load = fileURLToPath(new URL('./load.ts', import.meta.url));
const requestsPerTurn = 3000;
const turns = 7;
const answer = '{"id":"pay_1","amount":100,"status":"succeeded"}';

interface Sample {
  /** What this process worked per request, garbage collection included. */
  readonly cpuUs: number;
  /** What the caller, in a process of its own, waited for an answer (median). */
  readonly latencyUs: number;
}

/**
 * What the guard adds to a request on the node adapter, over real sockets, the caller in another process: the same
 * server, the same handler and the same reading of the body, with and without it.
 */
export async function overheads(redis: Redis): Promise<void> {
  const servers = {
    'without idempotency': await serve(),
    'in memory': await serve(memoryIdempotencyStore({ maxEntries: 1e8, maxBytes: 1e12 })),
    'on Redis': await serve(redisIdempotencyStore(redis)),
  };
  const samples = new Map<string, Sample[]>();
  const pings: number[] = [];
  for (let turn = -1; turn < turns; turn += 1) {
    for (const [name, server] of Object.entries(servers)) {
      const sample = await measure(server, `${name}-${turn}`.replaceAll(' ', '-'));
      if (turn >= 0) samples.set(name, [...(samples.get(name) ?? []), sample]);
    }
    pings.push(await pingUs(redis));
  }
  console.log('\nnode adapter, real sockets, first requests one at a time');
  const results = new Map(
    [...samples].map(([name, all]) => [
      name,
      {
        cpuUs: median(all.map(({ cpuUs }) => cpuUs)),
        latencyUs: median(all.map(({ latencyUs }) => latencyUs)),
      },
    ]),
  );
  for (const [name, { cpuUs, latencyUs }] of results) {
    console.log(
      `  ${name.padEnd(24)} ${cpuUs.toFixed(1)} µs of CPU, ${latencyUs.toFixed(1)} µs of latency`,
    );
  }
  const added = (name: string, what: keyof Sample): number =>
    (results.get(name)?.[what] ?? Number.NaN) -
    (results.get('without idempotency')?.[what] ?? Number.NaN);
  const inMemoryUs = added('in memory', 'latencyUs');
  const roundTrips = added('on Redis', 'latencyUs') / median(pings);
  console.log(
    `  in memory the guard adds ${inMemoryUs.toFixed(1)} µs of latency, ${added('in memory', 'cpuUs').toFixed(1)} µs of CPU`,
  );
  console.log(
    `  on Redis the guard adds ${added('on Redis', 'latencyUs').toFixed(1)} µs: ${roundTrips.toFixed(2)} times a PING of ${median(pings).toFixed(1)} µs`,
  );
  expectAtLeast('25 µs against what the guard adds in memory', 25 / inMemoryUs, 1);
  expectAtLeast('2.2 PINGs against what the guard adds on Redis', 2.2 / roundTrips, 1);
  for (const server of Object.values(servers)) server.close();
}

async function measure(server: Server, prefix: string): Promise<Sample> {
  const { port } = server.address() as AddressInfo;
  const before = process.cpuUsage();
  const { stdout } = await promisify(execFile)(process.execPath, [
    load,
    `http://127.0.0.1:${port}`,
    String(requestsPerTurn),
    prefix,
  ]);
  const { user, system } = process.cpuUsage(before);
  return { cpuUs: (user + system) / requestsPerTurn, latencyUs: Number(stdout) / 1e3 };
}

async function pingUs(redis: Redis): Promise<number> {
  const samples: number[] = [];
  for (let index = 0; index < 1000; index += 1) {
    const startedAt = process.hrtime.bigint();
    await redis.ping();
    samples.push(Number(process.hrtime.bigint() - startedAt) / 1e3);
  }
  return median(samples);
}

function median(values: readonly number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN;
}

async function serve(store?: IdempotencyStore): Promise<Server> {
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
  return server;
}
