import { type ApiKeyStore, memoryApiKeyStore } from '@countersign/api-keys';
import { redisApiKeyStore } from '@countersign/api-keys/redis';
import { type IdempotencyStore, memoryIdempotencyStore } from '@countersign/idempotency';
import { redisIdempotencyStore } from '@countersign/idempotency/redis';
import { memoryRateLimitStore, type RateLimitStore } from '@countersign/rate-limit';
import { redisRateLimitStore } from '@countersign/rate-limit/redis';
import { Redis } from 'ioredis';
import { type Ledger, memoryLedger, redisLedger } from './ledger.ts';

/** What an instance of the payment service remembers. */
export interface Stores {
  readonly apiKeys: ApiKeyStore;
  readonly idempotency: IdempotencyStore;
  readonly rateLimits: RateLimitStore;
  readonly ledger: Ledger;
  close(): Promise<void>;
}

/** In memory for an instance that is alone; in Redis for instances that share. */
export async function openStores(redisUrl: string | undefined): Promise<Stores> {
  if (redisUrl === undefined) {
    return {
      apiKeys: memoryApiKeyStore(),
      idempotency: memoryIdempotencyStore(),
      rateLimits: memoryRateLimitStore(),
      ledger: memoryLedger(),
      close: async () => undefined,
    };
  }
  const redis = new Redis(redisUrl, { lazyConnect: true });
  // Whoever asks Redis learns that it is away; there is nothing to do about it here.
  redis.on('error', () => undefined);
  await redis.connect().catch(() => {
    redis.disconnect();
    // Not the URL: it may hold a password.
    throw new Error(`no Redis answers at ${redis.options.host}:${redis.options.port}`);
  });
  return {
    apiKeys: redisApiKeyStore(redis),
    idempotency: redisIdempotencyStore(redis),
    rateLimits: redisRateLimitStore(redis),
    ledger: redisLedger(redis),
    close: async () => {
      await redis.quit();
    },
  };
}
