// Run as a process of its own: verifies keys without pause and tells when it first saw each of them refused.
import { once } from 'node:events';
import { createApiKeys, type Pepper } from '@countersign/api-keys';
import { redisApiKeyStore } from '@countersign/api-keys/redis';
import { Redis } from 'ioredis';

export interface Watch {
  readonly url: string;
  readonly peppers: readonly Pepper[];
  readonly keys: string[];
}
export type Report =
  | { readonly kind: 'watching' }
  | { readonly kind: 'refused'; readonly index: number; readonly atNs: string }
  | { readonly kind: 'resurrected'; readonly index: number };

const report = (message: Report): void => {
  process.send?.(message);
};

process.once('disconnect', () => process.exit());
const [watch] = (await once(process, 'message')) as [Watch];
const redis = new Redis(watch.url);
// Nothing but a message ends what is cached.
const cache = { ttlMs: 3_600_000 };
const keys = createApiKeys({ store: redisApiKeyStore(redis), peppers: watch.peppers, cache });
const refused = new Set<number>();
for (let round = 0; ; round += 1) {
  for (const [index, key] of watch.keys.entries()) {
    const { status } = await keys.verify(key);
    if (status === 'valid' && refused.has(index)) report({ kind: 'resurrected', index });
    if (status === 'valid' || refused.has(index)) continue;
    refused.add(index);
    report({ kind: 'refused', index, atNs: String(process.hrtime.bigint()) });
  }
  if (round === 10) report({ kind: 'watching' });
  await new Promise((resolve) => setTimeout(resolve, 1));
}
