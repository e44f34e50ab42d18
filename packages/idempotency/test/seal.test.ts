import { createSecretKey, randomBytes } from 'node:crypto';
import fc from 'fast-check';
import { describe, expect, test, vi } from 'vitest';
import { sealWith, unsealed } from '../src/seal.ts';

const unreadable = expect.objectContaining({ code: 'ERR_IDEMPOTENCY_RECORD_UNREADABLE' });
const payload = Buffer.from('201\n\n{"card":"4242"}');

describe('sealWith', () => {
  test('hides the payload and gives it back', async () => {
    const seal = sealWith([randomBytes(32)]);
    const sealed = Buffer.from(await seal.seal(payload, 'id'));
    expect(sealed.includes('4242')).toBe(false);
    expect(Buffer.from(await seal.open(sealed, 'id'))).toEqual(payload);
    expect(sealed.equals(Buffer.from(await seal.seal(payload, 'id')))).toBe(false);
  });

  test('costs 33 bytes', async () => {
    const sealed = await sealWith([randomBytes(32)]).seal(payload, 'id');
    expect(sealed.byteLength).toBe(payload.byteLength + 33);
  });

  test('notices a changed bit, wherever it is', async () => {
    const seal = sealWith([randomBytes(32)]);
    const sealed = Buffer.from(await seal.seal(payload, 'id'));
    await fc.assert(
      fc.asyncProperty(fc.nat(sealed.length * 8 - 1), async (bit) => {
        const changed = Buffer.from(sealed);
        changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
        await expect(seal.open(changed, 'id')).rejects.toEqual(unreadable);
      }),
    );
  });

  test('notices a payload that was moved from another record', async () => {
    const seal = sealWith([randomBytes(32)]);
    await expect(seal.open(await seal.seal(payload, 'id'), 'other')).rejects.toEqual(unreadable);
  });

  test('reads what older keys encrypted, and writes with the first', async () => {
    const [older, newer] = [randomBytes(32), randomBytes(32)];
    const before = await sealWith([older]).seal(payload, 'id');
    const rotated = sealWith([newer, older]);
    expect(Buffer.from(await rotated.open(before, 'id'))).toEqual(payload);
    const after = await rotated.seal(payload, 'id');
    await expect(sealWith([older]).open(after, 'id')).rejects.toEqual(unreadable);
  });

  test('refuses what was never encrypted', async () => {
    await expect(sealWith([randomBytes(32)]).open(payload, 'id')).rejects.toEqual(unreadable);
  });

  test('takes a key in every form', async () => {
    const bytes = randomBytes(32);
    const sealed = await sealWith([bytes]).seal(payload, 'id');
    for (const key of [
      bytes.toString('base64'),
      bytes.toString('base64url'),
      createSecretKey(bytes),
      async () => bytes,
    ]) {
      expect(Buffer.from(await sealWith([key]).open(sealed, 'id'))).toEqual(payload);
    }
  });

  test('asks for a key once, and again only after a failure', async () => {
    const bytes = randomBytes(32);
    const source = vi.fn(async () => bytes).mockRejectedValueOnce(new Error('vault is sealed'));
    const seal = sealWith([source]);
    await expect(seal.seal(payload, 'id')).rejects.toThrow('vault is sealed');
    await seal.open(await seal.seal(payload, 'id'), 'id');
    expect(source).toHaveBeenCalledTimes(2);
  });

  test.each([[randomBytes(31)], ['short'], [createSecretKey(randomBytes(16))]])(
    'refuses a key that is not 32 bytes long',
    (key) => {
      expect(() => sealWith([key])).toThrow(/^encryptionKeys: expected secrets of 32 bytes/);
    },
  );
});

test('without keys, what is encrypted is not mistaken for a payload', async () => {
  const sealed = await sealWith([randomBytes(32)]).seal(payload, 'id');
  expect(() => unsealed.open(sealed, 'id')).toThrow(unreadable);
  expect(await unsealed.open(payload, 'id')).toBe(payload);
});
