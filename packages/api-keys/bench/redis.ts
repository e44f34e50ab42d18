import { randomBytes } from 'node:crypto';
import { createApiKeys, type Pepper, type StoredKey } from '@countersign/api-keys';
import { redisApiKeyStore } from '@countersign/api-keys/redis';
import { compare, report } from '@countersign/testkit/bench';
import { startRedis } from '@countersign/testkit/redis';

const KEYS = Number(process.env['BENCH_KEYS'] ?? 1_000_000);
const PER_OWNER = 20;
const ATONCE = 2000;

/** Fills a Redis with keys and measures what one takes, and what finding and listing them costs among so many. */
export async function measureRedis(peppers: readonly Pepper[]): Promise<void> {
  const server = await startRedis();
  try {
    const redis = server.client();
    const store = redisApiKeyStore(redis, { timeoutMs: 30_000 });
    const memory = async (): Promise<number> =>
      Number(/used_memory:(\d+)/.exec(await redis.info('memory'))?.[1]);
    const before = await memory();
    const ids: string[] = [];
    for (let from = 0; from < KEYS; from += ATONCE) {
      const part = Array.from({ length: Math.min(ATONCE, KEYS - from) }, (_, at) =>
        typical(from + at),
      );
      await Promise.all(part.map((stored) => store.create(stored)));
      ids.push(...part.slice(0, 10).map(({ record }) => record.id));
    }
    const bytes = ((await memory()) - before) / KEYS;
    console.log(
      `\n${KEYS.toLocaleString('en')} keys in Redis, ${PER_OWNER} of each owner: ${bytes.toFixed(0)} bytes per key, indexes included`,
    );

    const keys = createApiKeys({ store, peppers, cache: false });
    const { key } = await keys.create({ owner: 'owner-1', scopes: ['orders:read'] });
    let turn = 0;
    report(
      `Among ${KEYS.toLocaleString('en')} keys in Redis`,
      await compare(
        {
          PING: () => redis.ping(),
          'verify, uncached': () => keys.verify(key),
          get: () => keys.get(ids[turn++ % ids.length] as string),
          'a page of 20': () => keys.list({ owner: `owner-${turn++ % 1000}`, limit: 20 }),
          'a page of 100 due for rotation': () =>
            keys.dueForRotation({ withinDays: 90, limit: 100 }),
        },
        3,
      ),
    );
    await keys.close();
  } finally {
    await server.stop();
  }
}

function typical(at: number): StoredKey {
  const id = randomBytes(12).toString('hex').slice(0, 16);
  const nowMs = Date.now();
  return {
    record: {
      id,
      display: `sk-live-${id.slice(0, 8)}`,
      environment: 'live',
      owner: `owner-${Math.floor(at / PER_OWNER)}`,
      scopes: ['orders:read', 'orders:write'],
      createdAtMs: nowMs,
      expiresAtMs: nowMs + (1 + (at % 90)) * 86_400_000,
      pepperId: 'p1',
    },
    digest: randomBytes(32).toString('base64url'),
  };
}
