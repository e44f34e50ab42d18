import { inspect } from 'node:util';
import { testCertificate } from '@countersign/testkit/certificate';
import { fakeClock } from '@countersign/testkit/clock';
import { describe, expect, it } from 'vitest';
import { activeSecrets } from '../src/endpoints.ts';
import {
  createEndpoints,
  generateKeyPair,
  generateSecret,
  memoryEndpointStore,
  publicKeyOf,
} from '../src/index.ts';
import { endpointStoreContract } from './endpoint-store.contract.ts';

endpointStoreContract('memory', memoryEndpointStore);

const clock = fakeClock();
const hour = 3_600_000;
const url = 'https://example.com/hook';
const fresh = () => createEndpoints({ store: memoryEndpointStore(), now: clock.now });
const [pair, stranger] = [0, 1].map(() => {
  const { cert, key } = testCertificate();
  return { cert, key };
}) as [{ cert: string; key: string }, { cert: string; key: string }];
const invalid = { code: 'ERR_WEBHOOKS_ENDPOINT_INVALID' };

describe('createEndpoints', () => {
  it('changes neither whose endpoint it is nor its secrets, whatever the settings hold', async () => {
    const endpoints = fresh();
    const [mine, theirs] = [await endpoints.create({ url }), await endpoints.create({ url })];
    const settings = { id: theirs.id, secrets: mine.secrets, createdAtMs: 0, fifo: true };
    await endpoints.update(mine.id, settings);
    expect(await endpoints.get(theirs.id)).toEqual(theirs);
    expect(await endpoints.get(mine.id)).toEqual({ ...mine, fifo: true });
  });

  it('keeps nothing of the settings that is not a setting', async () => {
    const endpoints = fresh();
    const settings = { url, v: 2, sealed: 'x', fifo: true };
    const created = await endpoints.create(settings);
    await endpoints.update(created.id, settings);
    for (const endpoint of [created, await endpoints.get(created.id)]) {
      expect(Object.keys(endpoint ?? {}).sort()).toEqual([
        'createdAtMs',
        'fifo',
        'id',
        'secrets',
        'types',
        'url',
      ]);
    }
  });

  it('creates an endpoint with a secret of its own', async () => {
    const endpoints = fresh();
    const [first, second] = [await endpoints.create({ url }), await endpoints.create({ url })];
    expect(first).toMatchObject({ url, types: ['*'], createdAtMs: clock.now() });
    expect(first.secrets[0]?.secret).toMatch(/^whsec_/);
    expect(first.secrets).not.toEqual(second.secrets);
    expect(await endpoints.get(first.id)).toEqual(first);
    await expect(endpoints.create({ url, id: first.id })).rejects.toMatchObject(invalid);
  });

  it.each([
    'http://example.com/',
    'https://127.0.0.1/',
    'https://169.254.169.254/latest/meta-data',
    'https://[::1]/',
    'https://user:password@example.com/',
    'javascript:alert(1)',
    `https://example.com/${'x'.repeat(4096)}`,
    'nonsense',
  ])('refuses the url %s', async (bad) => {
    await expect(fresh().create({ url: bad })).rejects.toMatchObject(invalid);
    const endpoints = fresh();
    const { id } = await endpoints.create({ url });
    await expect(endpoints.update(id, { url: bad })).rejects.toMatchObject(invalid);
    expect((await endpoints.get(id))?.url).toBe(url);
  });

  it.each([
    { id: 'a b' },
    { id: 42 as unknown as string },
    { id: 'a:b' },
    { types: [] },
    { types: ['a*'] },
    { types: ['a b'] },
    { types: [5] as unknown as string[] },
    { types: 'a.b' as unknown as string[] },
    { types: { length: 1 } as unknown as string[] },
    { fifo: 'yes' as unknown as boolean },
    { headers: { 'Webhook-Signature': 'x' } },
    { headers: { 'x-a': 'b\r\nc' } },
    { headers: 'x-a: b' as unknown as Record<string, string> },
    { headers: Object.fromEntries(Array.from({ length: 101 }, (_, index) => [`x-${index}`, 'y'])) },
    { concurrency: 0 },
    { maxPerSecond: -1 },
    { maxPerSecond: '5' as unknown as number },
    { secret: 'short' },
    // Those of a signer may be bytes; stored as text they would be others.
    { secret: Buffer.alloc(32, 1) as unknown as string },
    { tls: { cert: 'no certificate', key: 'no key' } },
    { tls: { ...pair, key: stranger.key } },
    { tls: { ...pair, ca: 'no certificate' } },
    { tls: { cert: pair.cert } as typeof pair },
    { tls: 'nonsense' as unknown as typeof pair },
    { tls: { ...pair, rejectUnauthorized: false } },
    { tls: { ...pair, cert: Buffer.from(pair.cert) as unknown as string } },
  ])('refuses %j', async (settings) => {
    await expect(fresh().create({ url, ...settings })).rejects.toMatchObject(invalid);
  });

  it('keeps a client certificate that goes with its key', async () => {
    const tls = { ...pair, ca: `${pair.cert}${stranger.cert}` };
    expect((await fresh().create({ url, tls })).tls).toEqual(tls);
  });

  it('shows no key in the refusal of a client certificate', async () => {
    const tls = { ...pair, key: stranger.key };
    const error: unknown = await fresh()
      .create({ url, tls })
      .catch((refused: unknown) => refused);
    expect(inspect(error)).not.toContain(stranger.key.split('\n')[1]);
  });

  it('lets the old secret sign along for 24 hours, and then forgets it', async () => {
    const endpoints = fresh();
    const { id, secrets } = await endpoints.create({ url });
    const first = secrets[0]?.secret;
    const second = (await endpoints.rotateSecret(id)).secrets[0]?.secret;
    const active = async () => {
      const endpoint = await endpoints.get(id);
      return endpoint && activeSecrets(endpoint, clock.now());
    };
    expect(await active()).toEqual([second, first]);
    clock.advance(24 * hour - 1);
    expect(await active()).toEqual([second, first]);
    clock.advance(1);
    expect(await active()).toEqual([second]);
    const third = generateSecret();
    const rotated = await endpoints.rotateSecret(id, { secret: third, overlapMs: hour });
    expect(rotated.secrets.map(({ secret }) => secret)).toEqual([third, second]);
    await expect(endpoints.rotateSecret('unknown')).rejects.toMatchObject({
      code: 'ERR_WEBHOOKS_ENDPOINT_UNKNOWN',
    });
  });

  it('never prolongs the life of a secret that is already going', async () => {
    const endpoints = fresh();
    const { id, secrets } = await endpoints.create({ url });
    await endpoints.rotateSecret(id, { overlapMs: hour });
    clock.advance(hour / 2);
    const { secrets: after } = await endpoints.rotateSecret(id);
    expect(after.at(-1)).toEqual({
      secret: secrets[0]?.secret,
      expiresAtMs: clock.now() + hour / 2,
    });
  });

  it('changes an endpoint and rotates its secret at the same time, and loses neither', async () => {
    const endpoints = fresh();
    const { id, secrets } = await endpoints.create({ url });
    const [changed, one, two] = await Promise.all([
      endpoints.update(id, { fifo: true }),
      endpoints.rotateSecret(id),
      endpoints.rotateSecret(id),
      endpoints.update(id, { types: ['a.b'] }),
    ]);
    const after = await endpoints.get(id);
    expect(changed).toMatchObject({ fifo: true });
    expect(after).toMatchObject({ fifo: true, types: ['a.b'] });
    const known = [secrets, one.secrets, two.secrets].map(([current]) => current?.secret);
    expect(new Set(after?.secrets.map(({ secret }) => secret))).toEqual(new Set(known));
  });

  it('is created once, however many try at the same time', async () => {
    const endpoints = fresh();
    const tries = [1, 2, 3].map((part) => endpoints.create({ id: 'a', url: `${url}/${part}` }));
    const outcomes = await Promise.allSettled(tries);
    const refused = outcomes.filter(({ status }) => status === 'rejected');
    expect(refused).toMatchObject([{ reason: invalid }, { reason: invalid }]);
  });

  it('rotates a key pair to a key pair, so that who verifies with a public key can go on', async () => {
    const endpoints = fresh();
    const { privateKey } = generateKeyPair();
    const { id } = await endpoints.create({ url, secret: privateKey });
    const { secrets } = await endpoints.rotateSecret(id);
    expect(secrets.map(({ secret }) => secret.slice(0, 5))).toEqual(['whsk_', 'whsk_']);
    expect(publicKeyOf(secrets[0]?.secret ?? '')).toMatch(/^whpk_/);
  });

  it.each([-1, Number.NaN, Number.POSITIVE_INFINITY, 1e15])(
    'refuses an overlap of %d ms',
    async (overlapMs) => {
      const endpoints = fresh();
      const { id } = await endpoints.create({ url });
      await expect(endpoints.rotateSecret(id, { overlapMs })).rejects.toThrow(TypeError);
    },
  );

  it.each([{ url: undefined }, { types: undefined }])('cannot be without %j', async (changes) => {
    const endpoints = fresh();
    const { id } = await endpoints.create({ url });
    await expect(endpoints.update(id, changes)).rejects.toMatchObject(invalid);
  });

  it('has no more secrets that sign than receivers look at', async () => {
    const endpoints = fresh();
    const { id } = await endpoints.create({ url });
    for (let times = 0; times < 15; times += 1) await endpoints.rotateSecret(id);
    await expect(endpoints.rotateSecret(id)).rejects.toMatchObject(invalid);
    clock.advance(24 * hour);
    expect((await endpoints.rotateSecret(id)).secrets).toHaveLength(2);
  });
});
