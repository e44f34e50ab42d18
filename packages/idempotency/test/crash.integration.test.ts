import { type ChildProcess, spawn } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import { once } from 'node:events';
import { createInterface, type Interface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import {
  type RedisClusterServers,
  type RedisServer,
  startRedis,
  startRedisCluster,
} from '@countersign/testkit/redis';
import type { Cluster, Redis } from 'ioredis';
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from 'vitest';
import { rewind } from './rewind.ts';
import { adapters } from './servers.ts';

const script = fileURLToPath(new URL('./payments-process.ts', import.meta.url));
const leaseMs = 30_000;

let single: RedisServer;
let cluster: RedisClusterServers;
const connected: Record<string, Redis | Cluster> = {};
let prefix: string;
const services: Service[] = [];

beforeAll(async () => {
  [single, cluster] = await Promise.all([startRedis(), startRedisCluster()]);
  connected['Redis'] = single.client();
  connected['Redis Cluster'] = cluster.client();
  await Promise.all(Object.values(connected).map((client) => client.get('connected')));
});

afterAll(async () => {
  await Promise.all([single.stop(), cluster.stop()]);
});

beforeEach(() => {
  prefix = `${randomUUID()}:`;
});

afterEach(() => {
  for (const { child } of services.splice(0)) child.kill('SIGKILL');
});

const matrix = adapters.flatMap(([adapter]) =>
  ['Redis', 'Redis Cluster'].map((redis) => ({ adapter, redis })),
);

describe.each(matrix)('$adapter, $redis', ({ adapter, redis }) => {
  /** What no adapter has a part in is proven on one of them: every process costs half a second. */
  const onOneAdapter = adapter === 'node' ? test : (): void => {};

  test('kill -9 in the handler: in progress while the lease lasts, then unknown, never run again', async () => {
    const [first, second] = await Promise.all([start('first'), start('second')]);
    const dying = pay(first).catch((error: Error) => error);
    await first.says('began');
    first.child.kill('SIGKILL');
    expect(await dying).toBeInstanceOf(Error);

    expect(await pay(second)).toMatchObject({ status: 409, code: 'ERR_IDEMPOTENCY_IN_PROGRESS' });
    await rewind(connected[redis] as Redis | Cluster, prefix, leaseMs);
    for (const _ of [1, 2]) {
      expect(await pay(second)).toMatchObject({
        status: 409,
        code: 'ERR_IDEMPOTENCY_OUTCOME_UNKNOWN',
      });
    }
  });

  onOneAdapter(
    'kill -9 in the handler, with onUnknown rerun: run again once, with a greater fence',
    async () => {
      const [first, second] = await Promise.all([
        start('first', 'rerun'),
        start('second', 'rerun'),
      ]);
      const dying = pay(first).catch((error: Error) => error);
      const fence = Number(await first.says('began'));
      first.child.kill('SIGKILL');
      await dying;

      await rewind(connected[redis] as Redis | Cluster, prefix, leaseMs);
      const paying = pay(second);
      expect(Number(await second.says('began'))).toBeGreaterThan(fence);
      second.goOn();
      expect(await paying).toEqual({ status: 201, text: 'executed by second' });
      expect(await pay(second)).toEqual({
        status: 201,
        text: 'executed by second',
        replayed: 'true',
      });
    },
  );

  test('a process that stood still for longer than its lease cannot overwrite the newer outcome', async () => {
    const [stale, newer] = await Promise.all([start('stale', 'rerun'), start('newer', 'rerun')]);
    const staleAnswer = pay(stale);
    await stale.says('began');
    stale.child.kill('SIGSTOP'); // a garbage collection, a live migration, a laptop's lid
    await rewind(connected[redis] as Redis | Cluster, prefix, leaseMs);

    const newerAnswer = pay(newer);
    await newer.says('began');
    newer.goOn();
    expect(await newerAnswer).toEqual({ status: 201, text: 'executed by newer' });

    stale.goOn();
    stale.child.kill('SIGCONT');
    await staleAnswer;
    for (const service of [stale, newer]) {
      expect(await pay(service)).toEqual({
        status: 201,
        text: 'executed by newer',
        replayed: 'true',
      });
    }
  });

  onOneAdapter(
    'a process that stood still while the newer owner still runs cannot forestall its outcome',
    async () => {
      const [stale, newer] = await Promise.all([start('stale', 'rerun'), start('newer', 'rerun')]);
      const staleAnswer = pay(stale);
      await stale.says('began');
      stale.child.kill('SIGSTOP');
      await rewind(connected[redis] as Redis | Cluster, prefix, leaseMs);
      const newerAnswer = pay(newer);
      await newer.says('began');

      stale.goOn();
      stale.child.kill('SIGCONT');
      await staleAnswer;
      expect(await pay(stale)).toMatchObject({ status: 409, code: 'ERR_IDEMPOTENCY_IN_PROGRESS' });
      newer.goOn();
      await newerAnswer;
      expect(await pay(stale)).toMatchObject({ text: 'executed by newer' });
    },
  );

  async function start(name: string, onUnknown = 'refuse'): Promise<Service> {
    const child = spawn(process.execPath, [script], {
      env: {
        ...process.env,
        ADAPTER: adapter,
        NAME: name,
        ON_UNKNOWN: onUnknown,
        PREFIX: prefix,
        REDIS_URLS: urlsOf(redis).join(' '),
      },
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const lines = createInterface({ input: child.stdout as NonNullable<typeof child.stdout> });
    const origin = await lineAfter(lines, 'listening');
    const service: Service = {
      child,
      origin,
      says: (word) => lineAfter(lines, word),
      goOn: () => void child.stdin?.write('\n'),
    };
    services.push(service);
    return service;
  }
});

function urlsOf(redis: string): readonly string[] {
  const clustered = cluster.nodes.map(({ host, port }) => `redis://${host}:${port}`);
  return redis === 'Redis' ? [single.url] : clustered;
}

interface Service {
  readonly child: ChildProcess;
  readonly origin: string;
  /** What stands behind the next line that begins with this word. */
  says(word: string): Promise<string>;
  /** Lets the handler that runs, or the next one, answer. */
  goOn(): void;
}

async function lineAfter(lines: Interface, word: string): Promise<string> {
  for (;;) {
    const [line] = (await once(lines, 'line')) as [string];
    if (line.startsWith(`${word} `)) return line.slice(word.length + 1);
  }
}

async function pay({ origin }: Service): Promise<Record<string, unknown>> {
  const response = await fetch(`${origin}/payments`, {
    method: 'POST',
    headers: { 'idempotency-key': '"k"' },
    body: '{"amount":100}',
  });
  const text = await response.text();
  const replayed = response.headers.get('idempotency-replayed');
  return response.headers.get('content-type') === 'application/problem+json'
    ? { status: response.status, ...(JSON.parse(text) as object) }
    : { status: response.status, text, ...(replayed && { replayed }) };
}
