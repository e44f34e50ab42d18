import { randomBytes } from 'node:crypto';
import { describe, expect, test } from 'vitest';
import { sealWith, unsealed } from '../src/seal.ts';

const unreadable = expect.objectContaining({ code: 'ERR_IDEMPOTENCY_RECORD_UNREADABLE' });
const payload = Buffer.from('201\n\n{"card":"4242"}');

describe('sealWith', () => {
  test('hides the payload and gives it back', async () => {
    const seal = sealWith([randomBytes(32)]);
    const sealed = Buffer.from(await seal.seal(payload, 'id'));
    expect(sealed.includes('4242')).toBe(false);
    expect(Buffer.from(await seal.open(sealed, 'id'))).toEqual(payload);
  });

  test.each([
    ['was moved from another record', async () => sealWith([key]).seal(payload, 'other')],
    ['was encrypted with a strange key', async () => sealWith([strange]).seal(payload, 'id')],
    ['was never encrypted', async () => payload],
  ])('does not read what %s', async (_, write) => {
    await expect(sealWith([key]).open(await write(), 'id')).rejects.toEqual(unreadable);
  });

  const [key, strange] = [randomBytes(32), randomBytes(32)];

  test('calls nothing unreadable while a key cannot be got', async () => {
    const away = () => Promise.reject(new Error('no vault'));
    const sealed = await sealWith([key]).seal(payload, 'id');
    await expect(sealWith([strange, away]).open(sealed, 'id')).rejects.toMatchObject({
      code: 'ERR_SEAL_KEY_UNAVAILABLE',
    });
    await expect(sealWith([away]).ready()).rejects.toMatchObject({
      code: 'ERR_SEAL_KEY_UNAVAILABLE',
    });
  });

  test('refuses a key that is not 32 bytes long', () => {
    expect(() => sealWith([randomBytes(31)])).toThrow(/^encryptionKeys: expected/);
  });
});

test('without keys, what is encrypted is not mistaken for a payload', async () => {
  const sealed = await sealWith([randomBytes(32)]).seal(payload, 'id');
  expect(() => unsealed.open(sealed, 'id')).toThrow(unreadable);
  expect(await unsealed.open(payload, 'id')).toBe(payload);
});
