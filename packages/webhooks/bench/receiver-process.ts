/** Receives in a process of its own, says how much and how late: `/ok`, `/slow` (500 ms), `/fail` (500), `/hang`. */
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

let received = 0;
let latencies: number[] = [];

const server = createServer((request, response) => {
  const chunks: Buffer[] = [];
  request.on('data', (chunk: Buffer) => chunks.push(chunk));
  request.on('end', () => {
    received += 1;
    const path = request.url ?? '';
    if (path.startsWith('/hang')) return;
    if (path.startsWith('/fail')) return void response.writeHead(500).end();
    if (path.startsWith('/slow')) return void setTimeout(() => response.writeHead(204).end(), 500);
    const { sentAtMs } = JSON.parse(Buffer.concat(chunks).toString()) as { sentAtMs: number };
    latencies.push(performance.timeOrigin + performance.now() - sentAtMs);
    response.writeHead(204).end();
  });
}).listen(0, '127.0.0.1', () => {
  process.send?.({ port: (server.address() as AddressInfo).port });
});

process.on('message', (question) => {
  process.send?.({ received, latencies });
  if (question === 'reset') {
    received = 0;
    latencies = [];
  }
});
process.on('disconnect', () => process.exit());
