import { type AddressInfo, createServer } from 'node:net';

// A process of its own, so that what is measured is the client; on bare sockets, so that it is never what is waited for.
// It reads requests with a Content-Length, one at a time on each connection, and answers each with the same small JSON.
const body = JSON.stringify({ id: 'pay_1', status: 'succeeded' });
const response = Buffer.from(
  `HTTP/1.1 201 Created\r\ncontent-type: application/json\r\ncontent-length: ${body.length}\r\n\r\n${body}`,
);

const server = createServer((socket) => {
  let pending = '';
  socket.setNoDelay(true);
  socket.on('error', () => {});
  socket.on('data', (chunk) => {
    pending += chunk.toString('latin1');
    const headEnd = pending.indexOf('\r\n\r\n');
    if (headEnd < 0) return;
    const length = Number(/\r\ncontent-length: *(\d+)/i.exec(pending)?.[1] ?? 0);
    if (pending.length < headEnd + 4 + length) return;
    pending = pending.slice(headEnd + 4 + length);
    socket.write(response);
  });
});
server.listen(0, '127.0.0.1', () => {
  process.send?.((server.address() as AddressInfo).port);
});
process.on('disconnect', () => process.exit());
