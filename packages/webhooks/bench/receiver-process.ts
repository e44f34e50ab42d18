/**
 * Receives in a process of its own, says how much and how late: `/ok`, `/slow` (500 ms), `/fail` (500), `/hang`. Reads and
 * answers bytes, without node:http: with two cores for all of it, what the receiver costs would be measured as well.
 */
import { type AddressInfo, createServer, type Socket } from 'node:net';

const noContent = 'HTTP/1.1 204 No Content\r\n\r\n';

let received = 0;
let latencies: number[] = [];

const server = createServer((socket) => {
  let pending: Buffer = Buffer.alloc(0);
  socket.on('error', () => undefined);
  socket.on('data', (chunk: Buffer) => {
    pending = pending.length === 0 ? chunk : Buffer.concat([pending, chunk]);
    for (;;) {
      const headEnd = pending.indexOf('\r\n\r\n');
      if (headEnd < 0) return;
      const head = pending.toString('latin1', 0, headEnd);
      const end = headEnd + 4 + Number(/\r\ncontent-length: (\d+)/i.exec(head)?.[1] ?? 0);
      if (pending.length < end) return;
      answer(socket, head.slice('POST '.length), pending.toString('utf8', headEnd + 4, end));
      pending = pending.subarray(end);
    }
  });
}).listen(0, '127.0.0.1', () => {
  process.send?.({ port: (server.address() as AddressInfo).port });
});

function answer(socket: Socket, target: string, body: string): void {
  received += 1;
  if (target.startsWith('/hang')) return;
  if (target.startsWith('/fail')) {
    socket.write('HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n');
    return;
  }
  if (target.startsWith('/slow')) {
    setTimeout(() => socket.write(noContent), 500);
    return;
  }
  const { sentAtMs } = JSON.parse(body) as { sentAtMs: number };
  latencies.push(performance.timeOrigin + performance.now() - sentAtMs);
  socket.write(noContent);
}

process.on('message', (question) => {
  process.send?.({ received, latencies });
  if (question === 'reset') {
    received = 0;
    latencies = [];
  }
});
process.on('disconnect', () => process.exit());
