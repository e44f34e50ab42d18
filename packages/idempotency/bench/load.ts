// Sends payments one after the other, each with a key of its own, and prints the median latency in nanoseconds.
// Usage: node load.ts <origin> <count> <prefix of the keys>
import { Client } from 'undici';

const [origin = '', count = '0', prefix = ''] = process.argv.slice(2);
const client = new Client(origin);
const latencies: number[] = [];
for (let index = 0; index < Number(count); index += 1) {
  const startedAt = process.hrtime.bigint();
  const response = await client.request({
    method: 'POST',
    path: '/payments',
    headers: { 'content-type': 'application/json', 'idempotency-key': `"${prefix}-${index}"` },
    body: '{"amount":100,"currency":"EUR","reference":"order-1234"}',
  });
  await response.body.dump();
  latencies.push(Number(process.hrtime.bigint() - startedAt));
}
await client.close();
console.log(latencies.sort((a, b) => a - b)[latencies.length >> 1]);
