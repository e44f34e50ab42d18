/** A worker of the queue, alone in its process, so that it can be killed: `node worker-process.ts <redis urls> <endpoint records>`. */
import { egressAgent } from '@countersign/egress';
import { Cluster, Redis } from 'ioredis';
import { createWebhookQueue } from '../src/bullmq.ts';
import { type Endpoint, memoryEndpointStore } from '../src/index.ts';

const [nodes = '[]', records = '[]'] = process.argv.slice(2);
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

const queue = createWebhookQueue({
  connection,
  endpoints,
  egress: egressAgent({ allow: ['http://127.0.0.0/8'] }),
  attemptTimeoutMs: 2000,
  schedule: [0, ...Array.from({ length: 50 }, () => 200)],
});
queue.worker({ sweepMs: 2000 });
process.on('SIGTERM', () => {
  void queue.close().then(() => {
    connection.disconnect();
    process.exit(0);
  });
});
process.stdout.write('ready\n');
