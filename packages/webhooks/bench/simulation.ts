/** Measures what a delivery costs, and simulates a day of 10⁹ events with it: `node bench/simulation.ts [pending]`. */
import { type ChildProcess, fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { expectAtLeast } from '@countersign/testkit/bench';
import { startRedis } from '@countersign/testkit/redis';
import type { WebhookQueue } from '@countersign/webhooks/bullmq';
import type { Redis } from 'ioredis';
import { type Costs, simulateDay } from './day.ts';
import { HEALTHY, queueFor } from './population.ts';

const PENDING = Number(process.argv[2] ?? 700_000);
const DELIVERIES = 20_000;
const DAY_MS = 86_400_000;
const payload = { text: 'x'.repeat(189) };

const redis = await startRedis();
const connection = redis.client({ maxRetriesPerRequest: null });
const receiver = start('receiver-process.ts');
const [{ port }] = (await once(receiver, 'message')) as [{ readonly port: number }];
const origin = `http://127.0.0.1:${port}`;
const { queue, close } = await queueFor(connection, origin);

const worker = start('worker-process.ts', String(redis.port), origin);
await once(worker, 'message');
const cpuBefore = await redisMicros(connection);
const publisherBefore = process.cpuUsage();
await publish(queue, DELIVERIES, (index) => index % HEALTHY);
const published = process.cpuUsage(publisherBefore);
worker.send('start');
const startedAt = performance.now();
await queue.drained();
const seconds = (performance.now() - startedAt) / 1000;
worker.send('read');
const [{ micros }] = (await once(worker, 'message')) as [{ readonly micros: number }];
const redisEach = ((await redisMicros(connection)) - cpuBefore) / DELIVERIES;
console.log(
  `deliver ${DELIVERIES} events of 200 bytes, a worker, the receiver and Redis in processes of their own`,
);
print('deliveries per second, one worker process', DELIVERIES / seconds);
print('worker, µs of CPU each', micros / DELIVERIES);
print('Redis, µs of CPU each, published and delivered', redisEach);
print('publisher, µs of CPU each', (published.user + published.system) / DELIVERIES);

const alone = await steadily(queue);
const bytesBefore = await usedBytes(connection);
const publishingAt = performance.now();
await publish(queue, PENDING, () => HEALTHY);
const publishSeconds = (performance.now() - publishingAt) / 1000;
const each = ((await usedBytes(connection)) - bytesBefore) / PENDING;
const [due = ''] = await connection.keys(`*:due:ep_${HEALTHY}`);
const inLedger = ((await connection.memory('USAGE', due, 'SAMPLES', '0')) ?? 0) / PENDING;
console.log(
  `\n${PENDING} pending deliveries to an endpoint that is dead, ${HEALTHY} healthy ones beside it`,
);
print('published per second', PENDING / publishSeconds);
print('bytes of Redis each', each);
print('… of which the ledger has', inLedger);
const beside = await steadily(queue);
print('p95 of the healthy ones without the backlog, ms', alone);
print('p95 of the healthy ones beside it, ms', beside);
print('still pending', (await queue.stats()).pending);
expectAtLeast('p95 of the healthy ones alone vs beside it (1/1.5)', alone / beside, 1 / 1.5);

await age(connection, due, 31 * DAY_MS);
const bytesPending = await usedBytes(connection);
const runningOutAt = performance.now();
await queue.resume(`ep_${HEALTHY}`);
const [whileRunningOut] = await Promise.all([steadily(queue), untilOver()]);
const runOutSeconds = (performance.now() - runningOutAt) / 1000;
console.log('\nall of them have waited too long, and become dead letters');
print('dead letters', (await queue.state(`ep_${HEALTHY}`)).dead);
print('seconds, at most', runOutSeconds);
print('bytes of Redis more, each', ((await usedBytes(connection)) - bytesPending) / PENDING);
print('p95 of the healthy ones meanwhile, ms', whileRunningOut);
expectAtLeast(
  'p95 of the healthy ones alone vs meanwhile (1/1.5)',
  alone / whileRunningOut,
  1 / 1.5,
);

const costs: Costs = {
  workerMicros: micros / DELIVERIES,
  redisMicros: redisEach,
  pendingBytes: each,
};
console.log(
  '\na day of 10⁹ events, three times the mean at its height, one endpoint in a hundred dead',
);
console.log(
  '  masters shards workers   peak/s  worst wait  catch up  pending  Redis GB  busiest master  workers',
);
for (const masters of [2, 3, 6]) {
  for (const workers of [4, 6, 8, 12]) {
    const day = simulateDay({ shards: 24, masters, workers }, costs);
    console.log(
      [
        String(masters).padStart(9),
        '24'.padStart(6),
        String(workers).padStart(7),
        day.peakPerSecond.toFixed(0).padStart(8),
        `${day.worstWaitSeconds.toFixed(1)} s`.padStart(11),
        `${day.catchUpSeconds} s`.padStart(9),
        day.mostPending.toExponential(1).padStart(8),
        day.mostGigabytes.toFixed(1).padStart(9),
        `${(day.busiestMaster * 100).toFixed(0)} %`.padStart(15),
        `${(day.busiestWorkers * 100).toFixed(0)} %`.padStart(8),
      ].join(' '),
    );
  }
}
const { busiestEndpointPerSecond } = simulateDay({ shards: 24, masters: 3, workers: 8 }, costs);
print('the largest endpoint at the peak, deliveries per second', busiestEndpointPerSecond);

worker.disconnect();
receiver.disconnect();
void close().catch(() => undefined);
await redis.stop();
process.exit();

function start(script: string, ...args: readonly string[]): ChildProcess {
  return fork(fileURLToPath(new URL(script, import.meta.url)), args);
}

function print(what: string, value: number): void {
  console.log(
    `  ${what}: ${value.toLocaleString('en', { maximumFractionDigits: value < 100 ? 1 : 0 })}`,
  );
}

async function publish(
  to: WebhookQueue,
  count: number,
  endpointOf: (index: number) => number,
): Promise<void> {
  for (let first = 0; first < count; first += 1000) {
    const some = Array.from({ length: Math.min(1000, count - first) }, (_, index) => first + index);
    await Promise.all(
      some.map((index) =>
        to.publish({ type: `to.${endpointOf(index)}`, payload: { sentAtMs: 0, ...payload } }),
      ),
    );
  }
}

/** Five events per second to each healthy endpoint for ten seconds; the p95 from publish to receipt, in milliseconds. */
async function steadily(to: WebhookQueue): Promise<number> {
  await ask('reset');
  const publishing: Promise<unknown>[] = [];
  for (let tick = 0; tick < 50; tick += 1) {
    for (let index = 0; index < HEALTHY; index += 1) {
      const sentAtMs = performance.timeOrigin + performance.now();
      publishing.push(to.publish({ type: `to.${index}`, payload: { sentAtMs, ...payload } }));
      await new Promise((resolve) => setTimeout(resolve, 200 / HEALTHY));
    }
  }
  await Promise.all(publishing);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const { latencies } = await ask('reset');
  const sorted = [...latencies].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length * 0.95)] ?? Number.NaN;
}

/** Has everything that waits for the endpoint waited for so much longer. */
async function age(of: Redis, key: string, ms: number): Promise<void> {
  const waiting = await of.zrange(key, '0', '-1', 'WITHSCORES');
  for (let first = 0; first < waiting.length; first += 20_000) {
    const pipeline = of.pipeline();
    const some = waiting.slice(first, first + 20_000);
    for (let index = 0; index < some.length; index += 2) {
      pipeline.zadd(key, String(Number(some[index + 1]) - ms), some[index] ?? '');
    }
    await pipeline.exec();
  }
}

async function untilOver(): Promise<void> {
  while ((await queue.state(`ep_${HEALTHY}`)).pending > 0) {
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}

async function ask(question: 'reset'): Promise<{ readonly latencies: readonly number[] }> {
  receiver.send(question);
  const [answer] = (await once(receiver, 'message')) as [{ readonly latencies: readonly number[] }];
  return answer;
}

async function redisMicros(of: Redis): Promise<number> {
  const text = await of.info('cpu');
  const read = (name: string): number => Number(new RegExp(`${name}:([0-9.]+)`).exec(text)?.[1]);
  return (read('used_cpu_user') + read('used_cpu_sys')) * 1e6;
}

async function usedBytes(of: Redis): Promise<number> {
  return Number(/used_memory:(\d+)/.exec(await of.info('memory'))?.[1]);
}
