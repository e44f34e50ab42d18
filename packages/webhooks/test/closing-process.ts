/** A queue and an inbox that are closed on request, and then nothing that keeps the process: `node closing-process.ts <port>`. */
import { Redis } from 'ioredis';
import { createInbox, createWebhookQueue } from '../src/bullmq.ts';
import { memoryEndpointStore } from '../src/index.ts';

const connection = new Redis(Number(process.argv[2]), '127.0.0.1', { maxRetriesPerRequest: null });
connection.on('error', () => undefined);
const settings = { connection, timeoutMs: 200 };
const queue = createWebhookQueue({
  ...settings,
  endpoints: memoryEndpointStore(),
  shards: 1,
  attemptTimeoutMs: 100,
});
const inbox = createInbox({ ...settings, handle: () => undefined });
queue.worker();
inbox.worker();
await queue.stats().catch(() => undefined);
process.on('message', () => {
  process.disconnect();
  void Promise.all([queue.close(), inbox.close()]).then(() => connection.disconnect());
});
process.send?.('ready');
