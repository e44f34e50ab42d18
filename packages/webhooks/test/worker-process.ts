/**
 * A worker of the queue, alone in its process, so that it can be killed: `node worker-process.ts <addresses of Redis> <endpoint
 * records> <name>`. What it sends says which worker it was, in `x-worker`.
 */
import { egressAgent } from '@countersign/egress';
import { Cluster, Redis } from 'ioredis';
import { createWebhookQueue } from '../src/bullmq.ts';
import { type Endpoint, memoryEndpointStore, type WebhookDispatcher } from '../src/index.ts';

const [nodes = '[]', records = '[]', name = ''] = process.argv.slice(2);
const addresses = JSON.parse(nodes) as { readonly host: string; readonly port: number }[];
const [first] = addresses;
if (!first) throw new TypeError('no address of Redis');
const connection =
  addresses.length === 1
    ? new Redis({ ...first, maxRetriesPerRequest: null })
    : new Cluster(addresses, { redisOptions: { maxRetriesPerRequest: null } });
connection.on('error', () => undefined);

const endpoints = memoryEndpointStore();
for (const endpoint of JSON.parse(records) as Endpoint[]) await endpoints.put(endpoint);

const agent = egressAgent({ allow: ['http://127.0.0.0/8'] });
const egress: WebhookDispatcher = {
  dispatch: (options, handler) => {
    const headers = { ...options.headers, 'x-worker': name };
    return agent.dispatch({ ...options, headers }, handler);
  },
};
const queue = createWebhookQueue({
  connection,
  endpoints,
  egress,
  attemptTimeoutMs: 1000,
  schedule: [0, ...Array.from({ length: 50 }, () => 200)],
  breaker: { cooldownMs: 200, maxCooldownMs: 1000 },
});
// Few at a time, so that there is something left for the others.
queue.worker({ concurrency: 3, sweepMs: 1000 });
process.stdout.write('ready\n');
