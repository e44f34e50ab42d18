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
  });
}
