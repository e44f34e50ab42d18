import { describe, expect, it } from 'vitest';
import { checksum } from '../src/checksum.ts';
import { managed, PEPPER_1, PEPPER_2 } from './fixtures.ts';

/** The median of a verification's cost for each text, measured in turns. */
async function medians(
  verify: (text: string) => Promise<unknown>,
  texts: readonly string[],
): Promise<number[]> {
  const samples = texts.map((): number[] => []);
  for (let round = 0; round < 6000; round += 1) {
    for (const [at, text] of texts.entries()) {
      const began = process.hrtime.bigint();
      await verify(text);
      if (round >= 1000) samples[at]?.push(Number(process.hrtime.bigint() - began));
    }
  }
  return samples.map(
    (values) => values.toSorted((a, b) => a - b)[values.length >> 1] ?? Number.NaN,
  );
}

describe('timing', () => {
  it('of a wrong secret for a known id is that of an unknown id, whatever its digest is made with', async () => {
    const { keys, store } = managed({ cache: false, peppers: [PEPPER_2, PEPPER_1] });
    const issue = (peppers: Parameters<typeof managed>[0]) =>
      managed({ store, ...peppers }).keys.create({ owner: 'a', scopes: [] });
    const known = [
      await keys.create({ owner: 'a', scopes: [] }),
      await issue({ peppers: [PEPPER_1] }),
      await issue({ peppers: 'none' }),
    ];
    // Another digest under each id: as if the presented secrets were wrong.
    for (const { record } of known) {
      const { digest = '' } = (await store.find(record.id)) ?? {};
      const { pepperId } = record;
      await store.rehash(record.id, digest, {
        digest: 'A'.repeat(43),
        ...(pepperId !== undefined && { pepperId }),
      });
    }
    const unknown = await managed().keys.create({ owner: 'a', scopes: [] });
    const texts = [unknown, ...known].map(({ key }) => key);
    for (const text of texts) expect((await keys.verify(text)).status).toBe('unknown');
    const [reference = Number.NaN, ...others] = await medians(keys.verify, texts);
    for (const other of others) {
      // Without the decoy an unknown id costs a third of this; a plain digest alone, half.
      expect(other / reference).toBeGreaterThan(0.75);
      expect(other / reference).toBeLessThan(1.4);
    }
  });

  it('of a wrong secret for a cached id is that of an unknown id', async () => {
    const { keys } = managed();
    const known = (await keys.create({ owner: 'a', scopes: [] })).key;
    const unknown = (await managed().keys.create({ owner: 'a', scopes: [] })).key;
    const body = known.slice(8, 24) + unknown.slice(24, 56);
    const wrong = `sk-live-${body}${checksum(body)}`;
    expect((await keys.verify(known)).status).toBe('valid');
    for (const text of [unknown, wrong]) expect((await keys.verify(text)).status).toBe('unknown');
    const [reference = Number.NaN, other = Number.NaN] = await medians(keys.verify, [
      unknown,
      wrong,
    ]);
    // Hashing what was presented once more, to compare it with what is cached, would make this 1.4.
    expect(other / reference).toBeLessThan(1.25);
    expect(other / reference).toBeGreaterThan(0.75);
  });
});
