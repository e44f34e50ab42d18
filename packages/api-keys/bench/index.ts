import { createHmac, createSecretKey } from 'node:crypto';
import { type ApiKeys, createApiKeys, memoryApiKeyStore } from '@countersign/api-keys';
import { compare, expectAtLeast, ratio, report } from '@countersign/testkit/bench';
import { generateAPIKey } from 'prefixed-api-key';
import { measureRedis } from './redis.ts';
import { measureRevocation } from './revocation.ts';

const secret = 'a pepper of at least thirty-two bytes';
const peppers = [{ id: 'p1', secret }];

function manager(cached: boolean): ApiKeys {
  const store = memoryApiKeyStore({ maxKeys: Number.MAX_SAFE_INTEGER });
  return createApiKeys({ store, peppers, ...(!cached && { cache: false as const }) });
}

const grant = { owner: 'acme', scopes: ['orders:read'] };

// First, while the heap is small: thousands of stored keys around would be measured along with each digest.
const uncached = manager(false);
const cached = manager(true);
// As a header gives it: one flat string. A string just put together would be flattened again at each look.
const flat = (text: string): string => Buffer.from(text, 'latin1').toString('latin1');
const key = flat((await uncached.create(grant)).key);
const hot = flat((await cached.create(grant)).key);
const mistyped = flat(`${key.slice(0, -1)}${key.endsWith('0') ? '1' : '0'}`);
const unknown = flat((await manager(false).create(grant)).key);
const hmacKey = createSecretKey(Buffer.from(secret));

const verification = await compare(
  {
    'one bare HMAC-SHA256 (KeyObject, Buffer)': () =>
      createHmac('sha256', hmacKey).update(key).digest(),
    'one bare HMAC-SHA256 (KeyObject, base64url)': () =>
      createHmac('sha256', hmacKey).update(key).digest('base64url'),
    'verify, uncached, embedded store': () => uncached.verify(key),
    'verify, cached': () => cached.verify(hot),
    'verify, mistyped': () => uncached.verify(mistyped),
    'verify, not a key at all': () => uncached.verify('Bearer of something else'),
    'verify, unknown id': () => uncached.verify(unknown),
  },
  9,
);
report('Verifying a key', verification);
expectAtLeast(
  'verify uncached / bare HMAC',
  ratio(
    verification,
    'verify, uncached, embedded store',
    'one bare HMAC-SHA256 (KeyObject, Buffer)',
  ),
  0.8,
);
// Node makes the same digest as text for less; no floor is promised against that, but it is told.
const asText = ratio(
  verification,
  'verify, uncached, embedded store',
  'one bare HMAC-SHA256 (KeyObject, base64url)',
);
console.log(`       verify uncached / bare HMAC as text: ${asText.toFixed(2)}×`);
expectAtLeast(
  'mistyped / valid',
  ratio(verification, 'verify, mistyped', 'verify, uncached, embedded store'),
  4,
);
const hits = verification.find(({ name }) => name === 'verify, cached')?.callsPerSecond ?? 0;
expectAtLeast('cached verifications, millions per second', hits / 1e6, 1);

// A new store now and then, so that what is measured is not a heap that grows with the runs.
let issuing = manager(false);
let issued = 0;
const creation = await compare({
  'create (record, digest, store)': async () => {
    if (issued++ % 10_000 === 0) issuing = manager(false);
    await issuing.create(grant);
  },
  'prefixed-api-key generateAPIKey': () => generateAPIKey({ keyPrefix: 'acme' }),
});
report('Issuing a key', creation);
expectAtLeast(
  'create / prefixed-api-key',
  ratio(creation, 'create (record, digest, store)', 'prefixed-api-key generateAPIKey'),
  5,
);

await measureRedis(peppers);
await measureRevocation();
