/** One process, several servers: with what is measured and without. Tells its parent how much processor time it has used. */
import { createServer, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { chain } from '@countersign/guard';
import { express } from '@countersign/guard/express';
import { node } from '@countersign/guard/node';
import peerCors from 'cors';
import expressApp, { type Express } from 'express';
import helmet from 'helmet';
import { cors, securityHeaders } from '../src/guard.ts';
import { cors as corsOf, securityHeaders as securityHeadersOf } from '../src/index.ts';

const origins = ['https://app.example.com', 'https://www.example.com'];
const decide = corsOf({ origins, credentials: true });
const guards = chain()
  .use('headers', securityHeaders({ profile: 'api' }))
  .use('cors', cors({ origins, credentials: true }));

const answer: RequestListener = (_req, res) => {
  res.writeHead(200, { 'content-type': 'text/plain' });
  res.end('hello');
};

function onExpress(...mount: readonly ((app: Express) => void)[]): Express {
  const app = expressApp().disable('x-powered-by').disable('etag');
  for (const each of mount) each(app);
  return app.get('/payments/42', answer);
}

const byHand = Object.fromEntries([
  ...securityHeadersOf({ profile: 'api' }).insecure,
  ...decide({ method: 'GET', origin: origins[0], requestMethod: undefined }).headers,
]);
const answerByHand: RequestListener = (_req, res) => {
  res.writeHead(200, { 'content-type': 'text/plain', ...byHand });
  res.end('hello');
};

const listeners: Readonly<Record<string, RequestListener>> = {
  node: answer,
  'node, the same by hand': answerByHand,
  'node, hardening': node(guards, answer),
  express: onExpress(),
  'express, hardening': onExpress((app) => app.use(express(guards))),
  'express, helmet and cors': onExpress((app) =>
    app.use(helmet(), peerCors({ origin: origins, credentials: true })),
  ),
};

const ports: Record<string, number> = {};
for (const [name, listener] of Object.entries(listeners)) {
  const server = createServer(listener).listen(0, '127.0.0.1', () => {
    ports[name] = (server.address() as AddressInfo).port;
    if (Object.keys(ports).length === Object.keys(listeners).length) process.send?.(ports);
  });
}
process.on('message', () => {
  const { user, system } = process.cpuUsage();
  process.send?.(user + system);
});
process.on('disconnect', () => process.exit());
