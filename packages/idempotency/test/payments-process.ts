// A payment service in a process of its own, to be killed or stopped in the middle of a payment.
// It says `listening <port>` when it serves and `began <fence>` when a handler runs, which goes on when stdin says so.
import { once } from 'node:events';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { createInterface } from 'node:readline';
import { chain } from '@countersign/guard';
import { node } from '@countersign/guard/node';
import { Redis } from 'ioredis';
import { idempotencyGuard } from '../src/guard.ts';
import { redisIdempotencyStore } from '../src/redis.ts';

const redis = new Redis(process.env['REDIS_URL'] as string);
const lines = createInterface({ input: process.stdin });
const guards = chain().use(
  'idempotency',
  idempotencyGuard({
    store: redisIdempotencyStore(redis),
    principal: () => 'alice',
    onUnknown: process.env['ON_UNKNOWN'] as 'refuse' | 'rerun',
  }),
);
const server = createServer(
  node(guards, async (_req, res, { idempotency }) => {
    console.log(`began ${idempotency.fence}`);
    await once(lines, 'line');
    res.writeHead(201).end(`executed by ${process.env['NAME']}`);
  }),
);
await once(server.listen(0, '127.0.0.1'), 'listening');
console.log(`listening ${(server.address() as AddressInfo).port}`);
