import type { Redis } from 'ioredis';
import { fingerprintOf, identityOf } from '../src/identity.ts';
import { redisIdempotencyStore } from '../src/redis.ts';
import { encodeResponse } from '../src/stored-response.ts';

const response = {
  status: 201,
  headers: [['content-type', 'application/json'] as const],
  body: Buffer.from('{"id":"pay_1","amount":100,"status":"succeeded"}'),
};
const payload = encodeResponse(response);

/** Fills Redis with completed records and prints what each of them costs. */
export async function bytesPerRecord(redis: Redis, count: number): Promise<void> {
  await redis.flushall();
  const before = await usedMemory(redis);
  const store = redisIdempotencyStore(redis, { timeoutMs: 60_000 });
  const complete = async (index: number): Promise<void> => {
    const id = identityOf('customer-1', 'POST', '/payments', String(index));
    const request = { method: 'POST', target: '/payments?', contentType: '', body: Buffer.of() };
    const claim = {
      id,
      owner: `owner${index.toString(36)}`,
      fingerprint: fingerprintOf('customer-1', String(index), request),
      leaseMs: 30_000,
      ttlMs: 86_400_000,
    };
    const begun = await store.begin(claim, { takeover: false });
    if (begun.state !== 'acquired') throw new Error(`expected to acquire, got ${begun.state}`);
    await store.complete({ ...claim, fence: begun.fence }, payload);
  };
  for (let done = 0; done < count; done += 1000) {
    const batch = Array.from({ length: Math.min(1000, count - done) }, (_, index) => done + index);
    await Promise.all(batch.map(complete));
  }
  const perRecord = ((await usedMemory(redis)) - before) / (await redis.dbsize());
  console.log(
    `\n${count.toLocaleString('en')} completed records on Redis, ${payload.byteLength} bytes of response each: ${perRecord.toFixed(0)} bytes per record`,
  );
}

async function usedMemory(redis: Redis): Promise<number> {
  const [, bytes] = /^used_memory:(\d+)/m.exec(await redis.info('memory')) ?? [];
  return Number(bytes);
}
