import { fork } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import { egressAgent } from '@countersign/egress';
import { expectAtLeast } from '@countersign/testkit/bench';
import { startRedis } from '@countersign/testkit/redis';
import { generateSecret, memoryEndpointStore } from '@countersign/webhooks';
import { createWebhookQueue, type WebhookQueue } from '@countersign/webhooks/bullmq';
import { type ConnectionOptions, Queue, Worker } from 'bullmq';
import type { Redis } from 'ioredis';

const EVENTS = 10_000;
const ENDPOINTS = 20;

interface Answer {
  readonly port: number;
  readonly received: number;
  readonly latencies: readonly number[];
}

/** Deliveries per second beside BullMQ's empty jobs, and what bad endpoints do to good ones. */
export async function benchDelivery(): Promise<void> {
  const redis = await startRedis();
  const connection = redis.client({ maxRetriesPerRequest: null });
  const receiver = fork(fileURLToPath(new URL('receiver-process.ts', import.meta.url)));
  const [{ port }] = (await once(receiver, 'message')) as [Answer];
  const ask = async (question: 'read' | 'reset'): Promise<Answer> => {
    receiver.send(question);
    const [answer] = (await once(receiver, 'message')) as [Answer];
    return answer;
  };
  const origin = `http://127.0.0.1:${port}`;

  console.log(`\ndeliver ${EVENTS} events to ${ENDPOINTS} endpoints, receiver in another process`);
  const rates = { jobs: 0, deliveries: 0 };
  // A worker runs for days: the compiler needs the first rounds for the code of both.
  for (let round = 0; round < 5; round += 1) {
    rates.jobs = Math.max(rates.jobs, await emptyJobs(connection));
    rates.deliveries = Math.max(rates.deliveries, await deliveries(connection, origin));
  }
  console.log(`  BullMQ, empty jobs: ${Math.round(rates.jobs)}/s`);
  console.log(`  deliveries:         ${Math.round(rates.deliveries)}/s`);
  expectAtLeast('deliveries vs empty jobs', rates.deliveries / rates.jobs, 0.5);

  await ask('reset');
  let [alone, beside] = [Infinity, Infinity];
  for (let round = 0; round < 2; round += 1) {
    alone = Math.min(alone, await latency(connection, origin, [], ask));
    beside = Math.min(beside, await latency(connection, origin, ['hang', 'fail', 'slow'], ask));
  }
  console.log(`\np95 from publish to receipt, ${ENDPOINTS} healthy endpoints, 200 events/s`);
  console.log(
    `  alone: ${alone.toFixed(1)} ms, beside a hanging, a failing and a slow one: ${beside.toFixed(1)} ms`,
  );
  expectAtLeast('p95 alone vs beside bad endpoints (1/1.5)', alone / beside, 1 / 1.5);

  receiver.disconnect();
  await redis.stop();
}

async function emptyJobs(connection: Redis): Promise<number> {
  await connection.flushall();
  const options = { connection: connection as unknown as ConnectionOptions };
  const queue = new Queue('empty', options);
  for (let start = 0; start < EVENTS; start += 1000) {
    await queue.addBulk(
      Array.from({ length: 1000 }, () => ({
        name: 'x',
        data: {},
        opts: { removeOnComplete: true },
      })),
    );
  }
  const startedAt = performance.now();
  let done = 0;
  const worker = new Worker('empty', async () => {}, { ...options, concurrency: 100 });
  await new Promise<void>((resolve) => {
    worker.on('completed', () => {
      done += 1;
      if (done === EVENTS) resolve();
    });
  });
  const perSecond = (EVENTS / (performance.now() - startedAt)) * 1000;
  await worker.close();
  await queue.close();
  return perSecond;
}

async function queueOf(connection: Redis, origin: string, bad: readonly string[]) {
  await connection.flushall();
  const endpoints = memoryEndpointStore();
  const paths = [...Array.from({ length: ENDPOINTS }, () => 'ok'), ...bad];
  for (const [index, path] of paths.entries()) {
    await endpoints.put({
      id: `ep_${index}`,
      url: `${origin}/${path}`,
      secrets: [{ secret: generateSecret() }],
      types: [`to.${index}`],
      createdAtMs: 0,
    });
  }
  const agent = egressAgent({ allow: ['http://127.0.0.0/8'] });
  const queue = createWebhookQueue({ connection, endpoints, egress: agent });
  const close = async (): Promise<void> => {
    await queue.close();
    await agent.close();
  };
  return { queue, close, count: paths.length };
}

async function deliveries(connection: Redis, origin: string): Promise<number> {
  const { queue, close } = await queueOf(connection, origin, []);
  for (let start = 0; start < EVENTS; start += 500) {
    await Promise.all(
      Array.from({ length: 500 }, (_, index) =>
        queue.publish({
          type: `to.${index % ENDPOINTS}`,
          payload: { sentAtMs: 0, text: 'x'.repeat(500) },
        }),
      ),
    );
  }
  const startedAt = performance.now();
  queue.worker();
  while ((await queue.stats()).pending > 0) await new Promise((resolve) => setTimeout(resolve, 20));
  const perSecond = (EVENTS / (performance.now() - startedAt)) * 1000;
  await close();
  return perSecond;
}

/** The 95th percentile at the healthy endpoints, in milliseconds, over eight seconds. */
async function latency(
  connection: Redis,
  origin: string,
  bad: readonly string[],
  ask: (question: 'read' | 'reset') => Promise<Answer>,
): Promise<number> {
  const { queue, close, count } = await queueOf(connection, origin, bad);
  const p95 = await publishSteadily(queue, count, ask);
  // The hanging endpoint is being called still; its attempts need not be waited for.
  void close().catch(() => undefined);
  return p95;
}

/** Publishes ten events per second to each of the first endpoints for eight seconds; returns the p95 in milliseconds. */
async function publishSteadily(
  queue: WebhookQueue,
  count: number,
  ask: (question: 'read' | 'reset') => Promise<Answer>,
): Promise<number> {
  queue.worker();
  await ask('reset');
  const publishing: Promise<unknown>[] = [];
  for (let tick = 0; tick < 80; tick += 1) {
    for (let index = 0; index < count; index += 1) {
      const sentAtMs = performance.timeOrigin + performance.now();
      publishing.push(queue.publish({ type: `to.${index}`, payload: { sentAtMs } }));
      await new Promise((resolve) => setTimeout(resolve, 100 / count));
    }
  }
  await Promise.all(publishing);
  await new Promise((resolve) => setTimeout(resolve, 500));
  const { latencies } = await ask('reset');
  const sorted = [...latencies].sort((a, b) => a - b);
  return sorted[Math.floor(sorted.length * 0.95)] ?? Number.NaN;
}
