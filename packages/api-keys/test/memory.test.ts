import { memoryApiKeyStore } from '@countersign/api-keys';
import { apiKeyStoreContract } from '@countersign/api-keys/store-contract';
import { describe, expect, it } from 'vitest';
import { DAY_MS, managed } from './fixtures.ts';

apiKeyStoreContract('memory', () => memoryApiKeyStore());

describe('memory store', () => {
  it('is bounded: it forgets what has long expired, and refuses when all is alive', async () => {
    const { keys, clock } = managed({
      store: memoryApiKeyStore({ maxKeys: 2, retentionMs: DAY_MS }),
    });
    const create = () => keys.create({ owner: 'a', scopes: [], expiresInDays: 1 });
    const { record } = await create();
    await create();
    await expect(create()).rejects.toMatchObject({ code: 'ERR_API_KEYS_STORE_FULL' });
    clock.ms += 2 * DAY_MS - 1;
    await expect(create()).rejects.toMatchObject({ code: 'ERR_API_KEYS_STORE_FULL' });
    clock.ms += 1;
    await create();
    expect(await keys.get(record.id)).toBeUndefined();
    expect((await keys.list({ owner: 'a' })).records).toHaveLength(1);
  });
});
