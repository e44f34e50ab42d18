/** A worker alone in its process, which says how much CPU it used: `node worker-process.ts <redis port> <origin>`. */
import { Redis } from 'ioredis';
import { queueFor } from './population.ts';

const [port, origin = ''] = process.argv.slice(2);
const connection = new Redis(Number(port), '127.0.0.1', { maxRetriesPerRequest: null });
const { queue } = await queueFor(connection, origin);
await queue.stats();
let before = process.cpuUsage();

process.on('message', (question) => {
  if (question === 'start') {
    before = process.cpuUsage();
    queue.worker();
    return;
  }
  const { user, system } = process.cpuUsage(before);
  process.send?.({ micros: user + system });
});
process.on('disconnect', () => process.exit());
process.send?.('ready');
