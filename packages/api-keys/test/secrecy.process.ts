// Run as a process of its own: issues, verifies and rotates keys, and then looks for their secrets in its own heap.
import { getHeapSnapshot, setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { createApiKeys, memoryApiKeyStore } from '@countersign/api-keys';
import { apiKeyGuard } from '@countersign/api-keys/guard';
import { guardRequest } from './fixtures.ts';

const keys = createApiKeys({
  store: memoryApiKeyStore(),
  peppers: [{ id: 'p1', secret: 'x'.repeat(32) }],
  audit: true,
});
const guard = apiKeyGuard(keys);

/** The secrets as bytes: what a Buffer holds is not in a snapshot of the heap. */
async function live(): Promise<Buffer[]> {
  const { key, record } = await keys.create({ owner: 'a', scopes: [] });
  const next = await keys.rotate(record.id, { overlapSeconds: 3600 });
  for (const text of [key, next.key]) {
    await keys.verify(text);
    await keys.verify(text, { scopes: ['missing'] });
    await guard(guardRequest([['authorization', `ApiKey ${text}`]]), {});
    await guard(guardRequest([], `/orders?k=${text}`), {});
    await keys.verify(`${text.slice(0, -1)}!`);
    await keys.verify(text.replace('live', 'test'));
  }
  await keys.revoke(record.id, { reason: 'lost' });
  await keys.verify(key);
  return [key, next.key].map((text) => Buffer.from(text.slice(24, 56), 'latin1'));
}

async function appears(secrets: readonly Buffer[]): Promise<boolean> {
  let tail = Buffer.alloc(0);
  for await (const chunk of getHeapSnapshot()) {
    const text = Buffer.concat([tail, chunk as Buffer]);
    if (secrets.some((secret) => text.includes(secret))) return true;
    tail = text.subarray(-64);
  }
  return false;
}

setFlagsFromString('--expose-gc');
const collectGarbage = runInNewContext('gc') as () => void;
const kept = process.argv[2] === 'control' ? [`${(await live())[0]?.toString('latin1')}`] : [];
const secrets = await live();
await new Promise((resolve) => setTimeout(resolve, 50)); // promises and timers let go of what they held
/x/.exec('x'); // V8 keeps the last text that an expression was tried on
collectGarbage();
const control = kept.map((text) => Buffer.from(text, 'latin1'));
console.log(JSON.stringify({ secrets: await appears(secrets), control: await appears(control) }));
if (kept.length > 1) console.log(kept); // keeps the control alive until here
await keys.close();
