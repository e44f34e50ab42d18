// A payment service in a process of its own, to be killed or stopped in the middle of a payment.
// It says `listening <origin>` when it serves and `began <fence>` when a handler runs, which goes on when stdin says so.
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { Cluster, Redis } from 'ioredis';
import { redisIdempotencyStore } from '../src/redis.ts';
import { adapters } from './servers.ts';

const { ADAPTER, NAME, ON_UNKNOWN, PREFIX = '', REDIS_URLS = '' } = process.env;
const [, start] = adapters.find(([name]) => name === ADAPTER) ?? [];
if (!start) throw new TypeError(`no adapter named ${ADAPTER}`);

const [url = '', ...others] = REDIS_URLS.split(' ');
const redis = others.length > 0 ? new Cluster([url, ...others]) : new Redis(url);
const lines = createInterface({ input: process.stdin });
const { origin } = await start(
  async ({ fence }) => {
    console.log(`began ${fence}`);
    await once(lines, 'line');
    return { status: 201, body: Buffer.from(`executed by ${NAME}`) };
  },
  {
    store: redisIdempotencyStore(redis, { prefix: PREFIX }),
    onUnknown: ON_UNKNOWN as 'refuse' | 'rerun',
  },
);
console.log(`listening ${origin}`);
