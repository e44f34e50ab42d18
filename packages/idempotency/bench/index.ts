import { randomUUID } from 'node:crypto';
import { parseArgs } from 'node:util';
import type { GuardRequest, RequestHeaders } from '@countersign/guard';
import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { startFaultProxy } from '@countersign/testkit/fault-proxy';
import { startRedis } from '@countersign/testkit/redis';
import { idempotencyGuard } from '../src/guard.ts';
import { memoryIdempotencyStore } from '../src/memory.ts';
import { redisIdempotencyStore } from '../src/redis.ts';
import type { IdempotencyStore } from '../src/store.ts';
import { bytesPerRecord } from './bytes-per-record.ts';
import { overheadInMemory, overheadOnRedis } from './overhead.ts';
import {
  type Contender,
  expressIdempotencyMiddleware,
  ioredisClient,
  mapClient,
  nodeIdempotency,
  powertools,
} from './peers.ts';

const { values: options } = parseArgs({ options: { keys: { type: 'string' } } });

const body = Buffer.from('{"amount":100,"currency":"EUR","reference":"order-1234"}');
const outcome = {
  status: 201,
  headers: [['content-type', 'application/json'] as const],
  body: Buffer.from('{"id":"pay_1","amount":100,"status":"succeeded"}'),
  aborted: false,
};

/** What an adapter hands to a guard, without what an adapter costs. */
class Payment implements GuardRequest {
  readonly method = 'POST';
  readonly path = '/payments';
  readonly search = '';
  readonly remoteAddress = '127.0.0.1';
  readonly secure = true;
  readonly headers: RequestHeaders;

  constructor(key: string) {
    const fields: Record<string, string> = {
      'idempotency-key': key,
      'content-type': 'application/json',
    };
    this.headers = {
      get: (name) => fields[name],
      all: (name) => (fields[name] === undefined ? [] : [fields[name]]),
    };
  }

  get query(): URLSearchParams {
    return new URLSearchParams(this.search);
  }
  get signal(): AbortSignal {
    return new AbortController().signal;
  }
  async rawBody(): Promise<Uint8Array> {
    return body;
  }
}

/** The whole guard: key, principal, fingerprint, store, stored response. */
function countersign(store: IdempotencyStore): Contender {
  const guard = idempotencyGuard({ store, principal: () => 'customer-1' });
  return async (key) => {
    const verdict = await guard(new Payment(key), {});
    if (verdict.pass) await verdict.settle?.(outcome);
    return verdict;
  };
}

/** Every call brings a key that was never seen. */
function firstRequests(contenders: Record<string, Contender>): Record<string, () => unknown> {
  return mapValues(contenders, (contender) => () => contender(randomUUID()));
}

/** Every call brings a key whose outcome is stored. */
async function replays(
  contenders: Record<string, Contender>,
): Promise<Record<string, () => unknown>> {
  for (const contender of Object.values(contenders)) await contender('stored');
  return mapValues(contenders, (contender) => () => contender('stored'));
}

function mapValues<A, B>(record: Record<string, A>, map: (value: A) => B): Record<string, B> {
  return Object.fromEntries(Object.entries(record).map(([name, value]) => [name, map(value)]));
}

function compareWithPing(what: string, measured: Awaited<ReturnType<typeof compare>>): void {
  report(`on Redis, ${what}`, measured);
  console.log(
    `  countersign: ${(1 / ratio(measured, 'countersign', 'PING')).toFixed(2)} times a PING`,
  );
  if (measured.length < 3) return;
  const faster = ratio(measured, 'countersign', 'powertools (cache layer)');
  console.log(`  countersign against powertools: ${faster.toFixed(2)}×`);
}

const roomy = { maxEntries: 1e8, maxBytes: 1e12 };
const memory = (): Record<string, Contender> => ({
  countersign: countersign(memoryIdempotencyStore(roomy)),
  '@node-idempotency/core': nodeIdempotency(),
  'express-idempotency': expressIdempotencyMiddleware(),
  'powertools (cache layer on a Map)': powertools(mapClient()),
});

const server = await startRedis();
const redis = server.client();
const together = 64;

await overheadOnRedis(redis, 'on this machine', 5000);

/** So many calls at once, as a server has them that is busy. */
function busy(subject: () => unknown): () => Promise<unknown> {
  return () => Promise.all(Array.from({ length: together }, subject));
}

const onRedis = {
  countersign: countersign(redisIdempotencyStore(redis)),
  'powertools (cache layer)': powertools(ioredisClient(redis)),
};
for (const [what, contenders] of [
  ['first request', firstRequests(onRedis)],
  ['replay', await replays(onRedis)],
] as const) {
  const subjects = { PING: () => redis.ping(), ...contenders };
  compareWithPing(`${what}, one at a time`, await compare(subjects));
  compareWithPing(`${what}, ${together} at a time`, await compare(mapValues(subjects, busy)));
}

// On this machine a round trip costs less than the work at its ends; on a network it is the other way round.
const proxy = await startFaultProxy({ host: server.host, port: server.port });
proxy.set('both', { latencyMs: 1 });
const remote = server.client({ port: proxy.port });
const away = countersign(redisIdempotencyStore(remote));
expectAtLeast(
  '2.2 round trips against what the guard adds to a request on the node adapter',
  2.2 / (await overheadOnRedis(remote, 'a network away', 400)),
  1,
);
const results = await compare({
  PING: () => remote.ping(),
  countersign: () => away(randomUUID()),
});
compareWithPing('first request, one at a time, Redis a network away', results);
const again = await compare({ PING: () => remote.ping(), countersign: () => away('stored') });
compareWithPing('replay, one at a time, Redis a network away', again);
expectAtLeast('1.1 round trips against a replay', 1.1 * ratio(again, 'countersign', 'PING'), 1);
await proxy.stop();

if (options.keys) await bytesPerRecord(redis, Number(options.keys));
await server.stop();

// Last, as they leave millions of records behind, and whatever runs then is slowed by collecting them.
await overheadInMemory();
const inMemoryFirst = await compare(firstRequests(memory()));
report('in memory, first request', inMemoryFirst);
const inMemoryReplay = await compare(await replays(memory()));
report('in memory, replay', inMemoryReplay);
for (const peer of [
  '@node-idempotency/core',
  'express-idempotency',
  'powertools (cache layer on a Map)',
]) {
  console.log(
    `  countersign against ${peer}: first ${ratio(inMemoryFirst, 'countersign', peer).toFixed(2)}×, replay ${ratio(inMemoryReplay, 'countersign', peer).toFixed(2)}×`,
  );
}
