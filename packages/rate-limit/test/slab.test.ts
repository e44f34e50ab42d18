import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Slab } from '../src/slab.ts';

type Step =
  | { readonly do: 'put'; readonly name: string; readonly value: number }
  | { readonly do: 'recall' | 'delete'; readonly name: string }
  | { readonly do: 'widen' };

const name = fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f', 'g', 'h', 'i', 'j');
const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('put' as const), name, value: fc.nat() }),
  },
  {
    weight: 4,
    arbitrary: fc.record({ do: fc.constantFrom('recall' as const, 'delete' as const), name }),
  },
  { weight: 1, arbitrary: fc.constant({ do: 'widen' as const }) },
);

describe('a slab', () => {
  test('gives each entry its own numbers back, or nothing, and those of late always', () => {
    fc.assert(
      fc.property(fc.array(step, { maxLength: 200, size: 'max' }), (steps) => {
        const maxEntries = 8;
        const slab = new Slab(maxEntries, 2);
        const model = new Map<string, number>();
        let width = 2;
        const touches: string[] = [];
        const touchedSince = (what: string): number =>
          new Set(touches.slice(touches.lastIndexOf(what) + 1)).size;
        for (const each of steps) {
          if (each.do === 'widen') {
            width += 1;
            slab.widen(width);
            continue;
          }
          const offset = slab.recall(each.name);
          if (offset >= 0) {
            expect([...slab.values.subarray(offset, offset + 2)]).toEqual([
              model.get(each.name),
              -(model.get(each.name) as number),
            ]);
          } else {
            if (model.delete(each.name)) {
              expect(touchedSince(each.name)).toBeGreaterThanOrEqual(maxEntries / 2);
            }
          }
          if (each.do === 'put') {
            const place = offset < 0 ? slab.add(each.name) : offset;
            slab.values.set([each.value, -each.value], place);
            model.set(each.name, each.value);
          } else if (each.do === 'delete') {
            slab.delete(each.name);
            model.delete(each.name);
          }
          if (model.has(each.name)) touches.push(each.name);
          expect(slab.size).toBeLessThanOrEqual(maxEntries);
          if (model.has(each.name)) expect(slab.find(each.name)).toBeGreaterThanOrEqual(0);
        }
      }),
      { numRuns: 500 },
    );
  });

  test('takes no more room than its entries need, however often they come and go', () => {
    const slab = new Slab(1000, 3);
    for (let round = 0; round < 10_000; round += 1) {
      slab.add(`n${round}`);
      slab.delete(`n${round}`);
    }
    expect(slab.size).toBe(0);
    expect(slab.values.length).toBeLessThanOrEqual(16 * 3);
  });
});
