import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { tokenCache } from '../src/cache.ts';

describe('tokenCache', () => {
  it('finds what it was given, by the exact text', () => {
    const cache = tokenCache<number>(10);
    cache.set('one', 1);
    expect(cache.get('one')).toBe(1);
    expect(cache.get('onE')).toBeUndefined();
  });

  it('does not take one text for another that ends alike', () => {
    const cache = tokenCache<number>(10);
    const tail = 'x'.repeat(100);
    cache.set(`a.${tail}`, 1);
    expect(cache.get(`b.${tail}`)).toBeUndefined();
    cache.set(`b.${tail}`, 2);
    expect(cache.get(`b.${tail}`)).toBe(2);
    expect(cache.get(`a.${tail}`)).not.toBe(2);
  });

  it('forgets what is deleted', () => {
    const cache = tokenCache<number>(10);
    cache.set('one', 1);
    cache.delete('one');
    expect(cache.get('one')).toBeUndefined();
    expect(cache.size).toBe(0);
  });

  it('drops the oldest for the newest', () => {
    const cache = tokenCache<number>(3);
    for (const [value, text] of ['a', 'b', 'c', 'd'].entries()) cache.set(text, value);
    expect(['a', 'b', 'c', 'd'].map((text) => cache.get(text))).toEqual([undefined, 1, 2, 3]);
  });

  it('bounds what it holds in characters, too', () => {
    const cache = tokenCache<number>(1000);
    const large = 'x'.repeat(8 * 1024 * 1024);
    for (let each = 0; each < 5; each += 1) cache.set(`${large}${each}`, each);
    expect(cache.size).toBe(1);
    expect(cache.get(`${large}4`)).toBe(4);
  });

  it('never holds more than it may, and never gives a text the value of another', () => {
    const action = fc.record({
      kind: fc.constantFrom('set', 'get', 'delete'),
      text: fc.string({ maxLength: 3 }),
    });
    fc.assert(
      fc.property(
        fc.array(action, { maxLength: 200 }),
        fc.integer({ min: 1, max: 8 }),
        (actions, max) => {
          const cache = tokenCache<string>(max);
          for (const { kind, text } of actions) {
            if (kind === 'set') cache.set(text, `value of ${text}`);
            if (kind === 'delete') cache.delete(text);
            expect([undefined, `value of ${text}`]).toContain(cache.get(text));
            expect(cache.size).toBeLessThanOrEqual(max);
          }
        },
      ),
    );
  });
});
