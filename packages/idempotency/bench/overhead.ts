import { createServer } from 'node:http';
import { Duplex } from 'node:stream';
import { chain } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { compare, expectAtLeast, type Measurement, report } from '@countersign/testkit/bench';
import { idempotencyGuard } from '../src/guard.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import type { IdempotencyStore } from '../src/store.ts';

const sent = '{"amount":100,"currency":"EUR","reference":"order-1234"}';
const answer = '{"id":"pay_1","amount":100,"status":"succeeded"}';
let keys = 0;

/**
 * What the guard adds to a request on the node adapter: node:http's own server and parser, the same handler and the same
 * reading of the body, with and without it, over a connection that no kernel is between.
 */
export async function overheadInMemory(): Promise<void> {
  const results = await compare(
    {
      'without idempotency': serve(),
      'with idempotency in memory': serve(
        memoryIdempotencyStore({ maxEntries: 1e8, maxBytes: 1e12 }),
      ),
    },
    9,
  );
  report('node adapter, first request', results);
  const addedUs =
    (timeOf(results, 'with idempotency in memory') - timeOf(results, 'without idempotency')) / 1e3;
  console.log(`  the guard adds ${addedUs.toFixed(1)} µs`);
  expectAtLeast('25 µs against what the guard adds in memory', 25 / addedUs, 1);
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

export function timeOf(results: readonly Measurement[], name: string): number {
  const result = results.find((candidate) => candidate.name === name);
  if (!result) throw new TypeError(`no measurement named "${name}"`);
  return result.nsPerCall;
}
