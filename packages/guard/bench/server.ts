/** One process, two servers: with guards and without. Tells its parent how much processor time it has used. */
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain, type Guard } from '@countersign/guard';
import { node } from '@countersign/guard/node';

const headers: Guard<undefined> = () => ({
  pass: true,
  context: undefined,
  headers: [
    ['strict-transport-security', 'max-age=63072000'],
    ['x-content-type-options', 'nosniff'],
  ],
});
const identity: Guard<{ subject: string }> = (request) => ({
  pass: true,
  context: { subject: request.headers.get('authorization') ?? 'nobody' },
});
const limit: Guard<number> = ({ method, path }) => ({
  pass: true,
  context: method.length + path.length,
  headers: [['ratelimit', 'limit=100']],
});
const guards = chain().use('headers', headers).use('identity', identity).use('limit', limit);

const answer: RequestListener = (_req, res) => {
  res.writeHead(200, { 'content-type': 'text/plain' });
  res.end('hello');
};
const listeners: Readonly<Record<string, RequestListener>> = {
  bare: answer,
  guarded: node(guards, answer),
};

const ports: Record<string, number> = {};
for (const [name, listener] of Object.entries(listeners)) {
  const server = createServer(listener).listen(0, '127.0.0.1', () => {
    ports[name] = (server.address() as AddressInfo).port;
    if (Object.keys(ports).length === 2) process.send?.(ports);
  });
}
process.on('message', () => {
  const { user, system } = process.cpuUsage();
  process.send?.(user + system);
});
process.on('disconnect', () => process.exit());
