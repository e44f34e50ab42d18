import { memoryApiKeyStore, parseKey } from '@countersign/api-keys';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { randomBase62 } from '../src/base62.ts';
import { checksum, endsWithChecksum } from '../src/checksum.ts';
import { BODY_LENGTH, keyFormat, newId, newSecret } from '../src/key-format.ts';
import { counted, managed } from './fixtures.ts';

const BASE62 = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const DIGITS = BASE62.split('');

function newKey(format = keyFormat({})): string {
  return format.write(newId(), newSecret());
}

it.each([undefined, null, 7, { length: 80 }, ['a'.repeat(80)]])(
  'takes %j, which is no text, for no key',
  async (none) => {
    expect(parseKey(none as never)).toBeUndefined();
    expect(await managed().keys.identify(none as never)).toBeUndefined();
    expect(await managed().keys.verify(none as never)).toEqual({ status: 'malformed' });
  },
);

describe('checksum', () => {
  it("is the one of GitHub's published example", () => {
    expect(checksum('zQWBuTSOoRi4A9spHcVY5ncnsDkxkJ')).toBe('0mLq17');
    expect(endsWithChecksum('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', 4)).toBe(true);
  });

  it('is accepted in its one spelling only', () => {
    fc.assert(
      fc.property(
        fc.string({ unit: fc.constantFrom(...DIGITS), minLength: 1, maxLength: 60 }),
        fc.string({ unit: fc.constantFrom(...DIGITS), minLength: 6, maxLength: 6 }),
        (text, other) => {
          expect(endsWithChecksum(text + checksum(text), 0)).toBe(true);
          expect(endsWithChecksum(text + other, 0)).toBe(other === checksum(text));
        },
      ),
    );
  });
});

describe('randomness', () => {
  it('is uniform over base62 (chi-square over the secrets of 100,000 keys)', () => {
    const counts = new Map<string, number>(DIGITS.map((character) => [character, 0]));
    const keys = 100_000;
    for (let made = 0; made < keys; made += 1) {
      for (const character of newSecret().split(''))
        counts.set(character, (counts.get(character) ?? 0) + 1);
    }
    const expected = (keys * 32) / 62;
    const chiSquare = [...counts.values()].reduce(
      (sum, count) => sum + (count - expected) ** 2 / expected,
      0,
    );
    expect(counts.size).toBe(62);
    // 61 degrees of freedom: a sound generator exceeds 131.4 once in a million runs. `byte % 62` scores above 9000.
    expect(chiSquare).toBeLessThan(131.4);
  });

  it('has no preference for a position', () => {
    const width = 32;
    const counts = Array.from({ length: width }, () => new Map<string, number>());
    const keys = 20_000;
    for (let made = 0; made < keys; made += 1) {
      for (const [position, character] of randomBase62(width).split('').entries()) {
        counts[position]?.set(character, (counts[position]?.get(character) ?? 0) + 1);
      }
    }
    const expected = keys / 62;
    const chiSquare = counts
      .flatMap((of) => DIGITS.map((character) => of.get(character) ?? 0))
      .reduce((sum, count) => sum + (count - expected) ** 2 / expected, 0);
    // 32 × 61 degrees of freedom: mean 1952, standard deviation 62.5; six of them above.
    expect(chiSquare).toBeLessThan(2327);
  });
});

describe('keys', () => {
  const name = fc.stringMatching(/^[A-Za-z0-9]{1,6}([-_][A-Za-z0-9]{1,6}){0,2}$/);

  it('are read back whatever the prefix, brand, environment and separator are', () => {
    fc.assert(
      fc.property(
        fc.record(
          {
            prefix: name,
            brand: name,
            environment: fc.stringMatching(/^[A-Za-z0-9]{1,8}$/),
            separator: fc.constantFrom('-' as const, '_' as const),
          },
          { requiredKeys: ['prefix', 'environment', 'separator'] },
        ),
        (options) => {
          const format = keyFormat(options);
          const id = newId();
          const secret = newSecret();
          const key = format.write(id, secret);
          expect(format.misread(key)).toBeUndefined();
          expect(format.idIn(key)).toBe(id);
          expect(format.find(`see https://x.test/?k=${key}&y`)).toBe(key);
          expect(parseKey(key)).toMatchObject({ id, environment: options.environment });
          expect(JSON.stringify(parseKey(key))).not.toContain(secret);
        },
      ),
    );
  });

  it('have at least 128 bits in their secret and look as documented', () => {
    expect(Math.log2(62) * newSecret().length).toBeGreaterThan(128);
    expect(newKey()).toMatch(/^sk-live-[0-9A-Za-z]{54}$/);
    expect(
      newKey(keyFormat({ prefix: 'pk', environment: 'test', brand: 'acme', separator: '_' })),
    ).toMatch(/^acme_pk_test_[0-9A-Za-z]{54}$/);
  });

  it('of another environment are told from junk', () => {
    const testKey = newKey(keyFormat({ environment: 'test' }));
    expect(keyFormat({}).misread(testKey)).toBe('wrong_environment');
    expect(keyFormat({}).misread(newKey(keyFormat({ prefix: 'pk' })))).toBe('malformed');
    expect(keyFormat({}).misread(`${testKey.slice(0, -1)}!`)).toBe('malformed');
  });

  it('with any single character changed are refused without a store call (1,000 keys)', async () => {
    const { store, finds } = counted(memoryApiKeyStore());
    const { keys } = managed({ store, cache: false });
    const alphabet = `${BASE62}-_ .\u00e9\u0000`;
    for (let made = 0; made < 1000; made += 1) {
      const { key } = await keys.create({ owner: 'a', scopes: [] });
      for (let position = 0; position < key.length; position += 1) {
        // Every character of the alphabet takes its turn at every position over the thousand keys.
        const character = alphabet.charAt((made * 7 + position * 13) % alphabet.length);
        if (character === key[position]) continue;
        const mutated = key.slice(0, position) + character + key.slice(position + 1);
        const { status } = await keys.verify(mutated);
        expect(['malformed', 'wrong_environment']).toContain(status);
      }
    }
    expect(finds()).toBe(0);
  });

  it('are misread with every other character at every position (1,000 keys)', {
    timeout: 120_000,
  }, () => {
    const format = keyFormat({});
    const alphabet = [...DIGITS, '-', '_', '\u00e9', '\ud800'];
    let read = 0;
    for (let made = 0; made < 1000; made += 1) {
      const key = newKey(format);
      for (let position = 0; position < key.length; position += 1) {
        const before = key.slice(0, position);
        const after = key.slice(position + 1);
        for (const character of alphabet) {
          if (character !== key[position] && !format.misread(before + character + after)) read += 1;
        }
      }
    }
    expect(read).toBe(0);
  });

  it('cut short, extended or with two neighbours swapped are refused', () => {
    const format = keyFormat({});
    fc.assert(
      fc.property(fc.nat(BODY_LENGTH - 2), fc.constantFrom(...DIGITS), (offset, extra) => {
        const key = newKey(format);
        const at = format.head.length + offset;
        const swapped = key.slice(0, at) + key[at + 1] + key[at] + key.slice(at + 2);
        expect(format.misread(key.slice(0, at) + key.slice(at + 1))).toBeDefined();
        expect(format.misread(key.slice(0, at) + extra + key.slice(at))).toBeDefined();
        if (swapped !== key) expect(format.misread(swapped)).toBe('malformed');
      }),
    );
  });

  it('never make the parser fail, whatever the text', () => {
    const format = keyFormat({ brand: 'a_b', prefix: 'x-y' });
    fc.assert(
      fc.property(
        fc.oneof(fc.string({ unit: 'binary', maxLength: 200 }), fc.string({ maxLength: 200 })),
        (text) => {
          expect(format.misread(text)).toBeDefined();
          expect(parseKey(text)).toBeUndefined();
          format.find(text);
        },
      ),
    );
  });

  it('refuse names that could not be read back', () => {
    for (const options of [
      { prefix: '' },
      { prefix: 'a b' },
      { prefix: '-a' },
      { environment: 'a-b' },
      { environment: '' },
      { brand: 'a--b' },
      { separator: '.' as '-' },
      { prefix: 'x'.repeat(33) },
    ]) {
      expect(() => keyFormat(options)).toThrow(TypeError);
    }
  });
});

describe('a text that is longer in UTF-8 than in characters', () => {
  it('is no key, also where the bytes that do not fit are cut off', () => {
    const body = 'a'.repeat(47);
    const text = `sk-${'e'.repeat(102)}-${body}${checksum(body)}`;
    expect(text).toHaveLength(159);
    expect(parseKey(`${text}é`)).toBeUndefined();
    expect(keyFormat({}).misread(`${text}é`)).toBe('malformed');
  });
});

describe('find', () => {
  it('finds a key that begins inside of what only looks like one', () => {
    const format = keyFormat({});
    const key = format.write(newId(), newSecret());
    expect(format.find(`sk-x-${'0'.repeat(52)}${key}`)).toBe(key);
  });
});
