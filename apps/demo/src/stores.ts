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

/** The Redis that instances share. */
export interface SharedRedis {
  readonly url: string;
  /** Begins every key, so that demos can run side by side on one Redis. */
  readonly keyPrefix: string;
}

/** In memory for an instance that is alone; in Redis for instances that share. */
export async function openStores(shared: SharedRedis | undefined): Promise<Stores> {
  if (shared === undefined) {
    return {
      apiKeys: memoryApiKeyStore(),
      idempotency: memoryIdempotencyStore(),
      rateLimits: memoryRateLimitStore(),
      ledger: memoryLedger(),
      close: async () => undefined,
    };
  }
  const { url, keyPrefix } = shared;
  const redis = new Redis(url, { keyPrefix, lazyConnect: true });
  let trouble: Error | undefined;
  // Whoever asks Redis later learns that it is away; there is nothing to do about it here.
  redis.on('error', (error) => {
    trouble = error;
  });
  await redis.connect().catch((error: Error) => {
    redis.disconnect();
    // Not the URL: it may hold a password.
    const { host, port } = redis.options;
    throw new Error(`Redis at ${host}:${port} cannot be used: ${(trouble ?? error).message}`);
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
