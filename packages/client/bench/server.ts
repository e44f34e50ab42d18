import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';

// A process of its own, so that what is measured is the client. It answers every request with the same small JSON.
const body = Buffer.from(JSON.stringify({ id: 'pay_1', status: 'succeeded' }));
const server = createServer((request, response) => {
  request.resume();
  request.on('end', () => {
    response.writeHead(201, {
      'content-type': 'application/json',
      'content-length': body.length,
    });
    response.end(body);
  });
});
server.keepAliveTimeout = 60_000;
server.listen(0, '127.0.0.1', () => {
  process.send?.((server.address() as AddressInfo).port);
});
process.on('disconnect', () => process.exit());
