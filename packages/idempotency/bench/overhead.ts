import { createServer } from 'node:http';
import { Duplex } from 'node:stream';
import { chain } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { expectAtLeast } from '@countersign/testkit/bench';
import type { Redis } from 'ioredis';
import { idempotencyGuard } from '../src/guard.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import { redisIdempotencyStore } from '../src/redis.ts';
import type { IdempotencyStore } from '../src/store.ts';

const sent = '{"amount":100,"currency":"EUR","reference":"order-1234"}';
const answer = '{"id":"pay_1","amount":100,"status":"succeeded"}';
const rounds = 40;
const requests = 1000;
let keys = 0;

/**
 * What the guard adds to a request on the node adapter: node:http's own server and parser, the same handler and the same
 * reading of the body, with and without it, in turns, over a connection that no kernel is between. In processor time:
 * time on the clock would measure the machine's other work as well. (Its collector of garbage counts, on all cores.)
 */
export async function overheadInMemory(): Promise<void> {
  const bare = serve();
  const guarded = serve(memoryIdempotencyStore({ maxEntries: 1e8, maxBytes: 1e12 }));
  for (const send of [bare, guarded, bare, guarded]) await usPerRequest(send);
  const without: number[] = [];
  const including: number[] = [];
  for (let round = 0; round < rounds; round += 1) {
    without.push(await usPerRequest(bare));
    including.push(await usPerRequest(guarded));
  }
  const addedUs = lowerQuartile(including) - lowerQuartile(without);
  console.log('\nnode adapter, first request (processor time, lower quartile of rounds)');
  console.log(`  without idempotency         ${lowerQuartile(without).toFixed(1)} µs`);
  console.log(`  with idempotency in memory  ${lowerQuartile(including).toFixed(1)} µs`);
  console.log(`  the guard adds ${addedUs.toFixed(1)} µs`);
  expectAtLeast('25 µs against what the guard adds in memory', 25 / addedUs, 1);
}

/**
 * What the guard adds to a first request on the node adapter with Redis, and how many times a PING that is: one call at a
 * time, call by call in turns, from the same process and over a connection of the same kind.
 */
export async function overheadOnRedis(redis: Redis, where: string, calls: number): Promise<number> {
  const subjects = {
    PING: () => redis.ping(),
    'without idempotency': serve(),
    'with idempotency on Redis': serve(redisIdempotencyStore(redis)),
  };
  const samples = Object.entries(subjects).map(([name, call]) => ({
    name,
    call,
    us: [] as number[],
  }));
  for (let turn = 0; turn < calls * 1.2; turn += 1) {
    for (const { call, us } of samples) {
      const startedAt = performance.now();
      await call();
      if (turn >= calls * 0.2) us.push((performance.now() - startedAt) * 1e3);
    }
  }
  console.log(`\nnode adapter, first request, Redis ${where} (lower quartile of calls in turns)`);
  const [ping = 0, without = 0, including = 0] = samples.map(({ us }) => lowerQuartile(us));
  for (const { name, us } of samples) console.log(`  ${name}  ${lowerQuartile(us).toFixed(1)} µs`);
  const pings = (including - without) / ping;
  console.log(`  the guard adds ${pings.toFixed(2)} times a PING`);
  return pings;
}

async function usPerRequest(send: () => Promise<void>): Promise<number> {
  const before = process.cpuUsage();
  for (let done = 0; done < requests; done += 1) await send();
  const { user, system } = process.cpuUsage(before);
  return (user + system) / requests;
}

/** What disturbs a round can only make it dearer, so the cheaper rounds tell more. */
function lowerQuartile(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 4)] ?? Number.NaN;
}

/** A server, as a function that takes one request with a new key to its answer. */
function serve(store?: IdempotencyStore): () => Promise<void> {
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
  const wire = new Wire();
  server.emit('connection', wire);
  return () => wire.send();
}

/** A connection without a network: requests are pushed in, and the end of a chunked answer is looked for. */
class Wire extends Duplex {
  #answered: () => void = () => {};

  send(): Promise<void> {
    keys += 1;
    return new Promise((resolve) => {
      this.#answered = resolve;
      this.push(
        `POST /payments HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\nidempotency-key: "overhead-${keys}"\r\ncontent-length: ${sent.length}\r\n\r\n${sent}`,
      );
    });
  }

  override _read(): void {}

  override _write(chunk: Buffer, _encoding: string, done: () => void): void {
    done();
    if (chunk.includes('0\r\n\r\n')) this.#answered();
  }
}
