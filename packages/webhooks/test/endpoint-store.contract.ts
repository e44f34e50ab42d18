import type { Endpoint, EndpointStore } from '@countersign/webhooks';
import { beforeEach, describe, expect, test } from 'vitest';

const endpoint = (id: string, settings: Partial<Endpoint> = {}): Endpoint => ({
  id,
  url: `https://example.com/${id}`,
  secrets: [{ secret: 'whsec_secret' }],
  types: ['*'],
  createdAtMs: 1,
  ...settings,
});

/**
 * What every `EndpointStore` must do. Call it in a test file of your own store.
 * @param create - makes an empty store; called before every test.
 */
export function endpointStoreContract(
  name: string,
  create: () => EndpointStore | Promise<EndpointStore>,
): void {
  describe(`${name}: endpoint store contract`, () => {
    let store: EndpointStore;
    beforeEach(async () => {
      store = await create();
    });

    test('returns what was put, whole', async () => {
      const full = endpoint('a', {
        headers: { 'x-a': 'b' },
        fifo: true,
        concurrency: 3,
        maxPerSecond: 1.5,
        tls: { cert: 'c', key: 'k' },
        secrets: [{ secret: 'new' }, { secret: 'old', expiresAtMs: 5 }],
      });
      await store.put(full);
      expect(await store.get('a')).toEqual(full);
      expect(await store.list()).toEqual([full]);
      expect(await store.get('b')).toBeUndefined();
    });

    test('finds endpoints by the type of an event, its groups, and *', async () => {
      await store.put(endpoint('all'));
      await store.put(endpoint('exact', { types: ['invoice.paid'] }));
      await store.put(endpoint('group', { types: ['invoice.*', 'order.created'] }));
      await store.put(endpoint('deep', { types: ['invoice.line.*'] }));
      const matching = async (type?: string): Promise<string[]> =>
        [...(await store.matching(type))].sort();
      expect(await matching('invoice.paid')).toEqual(['all', 'exact', 'group']);
      expect(await matching('invoice.line.added')).toEqual(['all', 'deep', 'group']);
      expect(await matching('order.created')).toEqual(['all', 'group']);
      expect(await matching('invoice')).toEqual(['all']);
      expect(await matching('invoices.paid')).toEqual(['all']);
      expect(await matching(undefined)).toEqual(['all']);
    });

    test('forgets old filters when an endpoint changes or goes', async () => {
      await store.put(endpoint('a', { types: ['x', 'y'] }));
      await store.put(endpoint('a', { types: ['y', 'z'] }));
      expect(await store.matching('x')).toEqual([]);
      expect(await store.matching('y')).toEqual(['a']);
      expect(await store.matching('z')).toEqual(['a']);
      expect(await store.delete('a')).toBe(true);
      expect(await store.delete('a')).toBe(false);
      expect(await store.matching('z')).toEqual([]);
      expect(await store.list()).toEqual([]);
    });

    test('creates an endpoint once, however many try at the same time', async () => {
      const urls = Array.from({ length: 8 }, (_, index) => `https://example.com/${index}`);
      const created = await Promise.all(urls.map((url) => store.create(endpoint('a', { url }))));
      expect(created.filter(Boolean)).toHaveLength(1);
      expect((await store.get('a'))?.url).toBe(urls[created.indexOf(true)]);
      expect(await store.matching('anything')).toEqual(['a']);
    });

    test('changes what is given, removes what is given as undefined, and keeps the rest', async () => {
      await store.put(endpoint('a', { fifo: true, concurrency: 3, headers: { 'x-a': '1' } }));
      const changes = { concurrency: undefined, maxPerSecond: 0.1 + 0.2, types: ['x'] };
      const after = endpoint('a', {
        fifo: true,
        headers: { 'x-a': '1' },
        maxPerSecond: 0.1 + 0.2,
        types: ['x'],
      });
      expect(await store.update('a', changes)).toEqual(after);
      expect(await store.get('a')).toEqual(after);
      expect(Object.keys((await store.get('a')) ?? {})).not.toContain('concurrency');
      expect(await store.matching('x')).toEqual(['a']);
      expect(await store.matching('y')).toEqual([]);
      expect(await store.update('b', changes)).toBeUndefined();
      expect(await store.get('b')).toBeUndefined();
    });

    test('loses no change of those that are made at the same time', async () => {
      await store.put(endpoint('a'));
      const changes = [
        { url: 'https://example.com/new' },
        { types: ['x.*', 'y'] },
        { headers: { 'x-a': 'b' } },
        { fifo: true },
        { concurrency: 7 },
        { maxPerSecond: 2.5 },
        { tls: { cert: 'c', key: 'k' } },
      ];
      const rotations = ['one', 'two', 'three', 'four'].map((secret) => ({
        secret,
        atMs: 1000,
        overlapEndsAtMs: 5000,
      }));
      const [outcomes] = await Promise.all([
        Promise.all(rotations.map((rotation) => store.rotateSecret('a', rotation))),
        Promise.all(changes.map((change) => store.update('a', change))),
      ]);
      const { secrets, ...rest } = (await store.get('a')) as Endpoint;
      const { secrets: before, ...unchanged } = endpoint('a');
      expect(rest).toEqual(Object.assign(unchanged, ...changes));
      // Each was the current secret once, and all that were before sign along.
      const names = secrets.map(({ secret }) => secret);
      expect(new Set(names)).toEqual(new Set(['one', 'two', 'three', 'four', before[0]?.secret]));
      expect(names).toHaveLength(5);
      expect(secrets[0]).toEqual({ secret: names[0] });
      expect(new Set(secrets.slice(1).map(({ expiresAtMs }) => expiresAtMs))).toEqual(
        new Set([5000]),
      );
      for (const [index, outcome] of outcomes.entries()) {
        const told = outcome.status === 'rotated' ? outcome.endpoint.secrets[0]?.secret : undefined;
        expect(told).toBe(rotations[index]?.secret);
      }
      expect(await store.matching('x.z')).toEqual(['a']);
      expect(await store.matching('z')).toEqual([]);
    });

    test('rotates: the old secrets sign along until then, and no longer than they would have', async () => {
      await store.put(endpoint('a', { secrets: [{ secret: 'first' }] }));
      await store.rotateSecret('a', { secret: 'second', atMs: 0, overlapEndsAtMs: 1000 });
      await store.rotateSecret('a', { secret: 'third', atMs: 500, overlapEndsAtMs: 2000 });
      expect((await store.get('a'))?.secrets).toEqual([
        { secret: 'third' },
        { secret: 'second', expiresAtMs: 2000 },
        { secret: 'first', expiresAtMs: 1000 },
      ]);
      const outcome = await store.rotateSecret('a', {
        secret: 'fourth',
        atMs: 1000,
        overlapEndsAtMs: 1000,
      });
      expect(outcome).toEqual({
        status: 'rotated',
        endpoint: endpoint('a', { secrets: [{ secret: 'fourth' }] }),
      });
      expect(await store.get('a')).toEqual(outcome.status === 'rotated' && outcome.endpoint);
    });

    test('rotates no further than 16 secrets that sign, and nothing that is not there', async () => {
      const rotation = { secret: 'next', atMs: 0, overlapEndsAtMs: 1000 };
      expect(await store.rotateSecret('a', rotation)).toEqual({ status: 'not_found' });
      expect(await store.get('a')).toBeUndefined();
      const secrets = Array.from({ length: 15 }, (_, index) => ({ secret: `s${index}` }));
      await store.put(endpoint('a', { secrets }));
      expect(await store.rotateSecret('a', rotation)).toMatchObject({ status: 'rotated' });
      const full = await store.get('a');
      expect(await store.rotateSecret('a', rotation)).toEqual({ status: 'too_many' });
      expect(await store.get('a')).toEqual(full);
    });

    test('takes an endpoint without secrets for what it is, changed or not', async () => {
      await store.put(endpoint('a', { secrets: [] }));
      await store.update('a', { fifo: true });
      expect(await store.get('a')).toEqual(endpoint('a', { secrets: [], fifo: true }));
      await store.rotateSecret('a', { secret: 'first', atMs: 0, overlapEndsAtMs: 1 });
      expect((await store.get('a'))?.secrets).toEqual([{ secret: 'first' }]);
    });
  });
}
