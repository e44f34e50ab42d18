import { createSecretKey, generateKeyPairSync, randomBytes, webcrypto } from 'node:crypto';
import { inspect } from 'node:util';
import fc from 'fast-check';
import { describe, expect, expectTypeOf, test, vi } from 'vitest';
import { createSeal, isSealed, type PromptSeal, type Seal, SealError } from '../src/index.ts';

const bytes = fc.uint8Array({ maxLength: 200 });
const name = fc.string({ unit: 'grapheme' });
const plain = Buffer.from('{"card":"4242"}');

function refusal(code: string): unknown {
  return expect.objectContaining({ name: 'SealError', code });
}

describe('createSeal', () => {
  test('gives back what it sealed, under the same name', () => {
    const seal = createSeal([randomBytes(32)]);
    fc.assert(
      fc.property(bytes, name, (given, under) => {
        const sealed = seal.seal(given, under);
        expect(sealed.byteLength).toBe(given.byteLength + 33);
        expect(isSealed(sealed)).toBe(true);
        expect(seal.open(sealed, under).equals(given)).toBe(true);
      }),
    );
  });

  test('hides what it sealed, and never seals it alike', () => {
    const seal = createSeal([randomBytes(32)]);
    const sealed = seal.seal(plain, 'id');
    expect(sealed.includes('4242')).toBe(false);
    expect(sealed.equals(seal.seal(plain, 'id'))).toBe(false);
  });

  test('is AES-256-GCM as everybody has it', async () => {
    const secret = randomBytes(32);
    const sealed = createSeal([secret]).seal(plain, 'id');
    const key = await webcrypto.subtle.importKey('raw', secret, 'AES-GCM', false, ['decrypt']);
    const opened = await webcrypto.subtle.decrypt(
      { name: 'AES-GCM', iv: sealed.subarray(5, 17), additionalData: Buffer.from('id') },
      key,
      Buffer.concat([sealed.subarray(33), sealed.subarray(17, 33)]),
    );
    expect(Buffer.from(opened).equals(plain)).toBe(true);
  });

  test('notices a changed bit, wherever it is, and every missing byte', () => {
    const seal = createSeal([randomBytes(32)]);
    const sealed = seal.seal(plain, 'id');
    for (let bit = 0; bit < sealed.length * 8; bit += 1) {
      const changed = Buffer.from(sealed);
      changed.writeUInt8(changed.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3);
      expect(() => seal.open(changed, 'id')).toThrow(SealError);
    }
    for (let length = 0; length < sealed.length; length += 1) {
      expect(() => seal.open(sealed.subarray(0, length), 'id')).toThrow(SealError);
    }
  });

  test('says what is wrong', () => {
    const seal = createSeal([randomBytes(32)]);
    const sealed = seal.seal(plain, 'id');
    expect(() => seal.open(sealed, 'other')).toThrow(refusal('ERR_SEAL_ALTERED'));
    expect(() => seal.open(plain, 'id')).toThrow(refusal('ERR_SEAL_NOT_SEALED'));
    expect(() => seal.open(sealed.subarray(0, 32), 'id')).toThrow(refusal('ERR_SEAL_NOT_SEALED'));
    const other = createSeal([randomBytes(32)]);
    expect(() => other.open(sealed, 'id')).toThrow(refusal('ERR_SEAL_UNKNOWN_KEY'));
  });

  test('opens what older keys sealed, and seals with the first', () => {
    const [older, newer] = [randomBytes(32), randomBytes(32)];
    const before = createSeal([older]).seal(plain, 'id');
    const rotated = createSeal([newer, older]);
    expect(rotated.open(before, 'id').equals(plain)).toBe(true);
    const after = rotated.seal(plain, 'id');
    expect(() => createSeal([older]).open(after, 'id')).toThrow(refusal('ERR_SEAL_UNKNOWN_KEY'));
  });

  test('opens bytes that are a part of others', () => {
    const seal = createSeal([randomBytes(32)]);
    const sealed = seal.seal(plain, 'id');
    const within = new Uint8Array(sealed.length + 20);
    within.set(sealed, 7);
    const part = within.subarray(7, 7 + sealed.length);
    expect(seal.open(part, 'id').equals(plain)).toBe(true);
  });

  test.each(['\ud800', 1, undefined])('takes no name that is no well-formed text: %j', (odd) => {
    const seal = createSeal([randomBytes(32)]);
    expect(() => seal.seal(plain, odd as string)).toThrow(/^name: expected/);
    expect(() => seal.open(plain, odd as string)).toThrow(/^name: expected/);
  });

  test('shows no key', () => {
    const secret = randomBytes(32);
    const seal = createSeal([secret, async () => secret]);
    const shown = `${inspect(seal, { depth: 9, showHidden: true })}${JSON.stringify(seal)}`;
    for (const encoding of ['hex', 'base64', 'base64url'] as const) {
      expect(shown).not.toContain(secret.toString(encoding));
    }
  });
});

describe('keys', () => {
  const secret = randomBytes(32);

  test.each([
    ['bytes', secret],
    ['a plain Uint8Array', new Uint8Array(secret)],
    ['base64', secret.toString('base64')],
    ['base64url', secret.toString('base64url')],
    ['a KeyObject', createSecretKey(secret)],
  ])('come as %s', (_, key) => {
    const sealed = createSeal([secret]).seal(plain, 'id');
    expect(createSeal([key]).open(sealed, 'id').equals(plain)).toBe(true);
  });

  test.each([
    ['31 bytes', randomBytes(31)],
    ['33 bytes', randomBytes(33)],
    ['a sentence', 'correct horse battery staple, and some more words'],
    ['an empty text', ''],
    ['a short KeyObject', createSecretKey(randomBytes(16))],
    ['a public key', generateKeyPairSync('ed25519').publicKey],
    ['a number', 1 as unknown as string],
    ['nothing', undefined as unknown as string],
  ])('are not %s', (_, key) => {
    expect(() => createSeal([key])).toThrow('encryptionKeys: expected secrets of 32 bytes');
  });

  test('must be there', () => {
    expect(() => createSeal([])).toThrow('encryptionKeys: expected at least one key');
    expect(() => createSeal(undefined as never)).toThrow('encryptionKeys: expected a list');
  });

  test('that change after they were given stay what they were', () => {
    const given = Buffer.from(secret);
    const seal = createSeal([given]);
    const sealed = seal.seal(plain, 'id');
    given.fill(0);
    expect(seal.open(sealed, 'id').equals(plain)).toBe(true);
  });

  test.each([
    ['a rejection', () => Promise.reject(new Error('no vault'))],
    [
      'an exception',
      () => {
        throw new Error('no vault');
      },
    ],
  ])('are got once, and again only after %s', async (_, failing) => {
    const source = vi.fn(async () => secret).mockImplementationOnce(failing);
    const seal = createSeal([source]);
    expect(source).not.toHaveBeenCalled();
    await expect(seal.seal(plain, 'id')).rejects.toMatchObject({
      code: 'ERR_SEAL_KEY_UNAVAILABLE',
      cause: new Error('no vault'),
    });
    await Promise.all([seal.ready(), seal.seal(plain, 'id'), seal.seal(plain, 'id')]);
    expect(seal.ready()).toBeUndefined();
    await seal.open(await seal.seal(plain, 'id'), 'id');
    expect(source).toHaveBeenCalledTimes(2);
  });

  test.each([
    ['throws', () => Promise.reject(new Error('no vault'))],
    [
      'throws at once',
      () => {
        throw new Error('no vault');
      },
    ],
    ['gives none', () => 'nonsense'],
  ])('cannot be had from a source that %s', async (_, source) => {
    const seal = createSeal([source]);
    await expect(seal.ready()).rejects.toEqual(refusal('ERR_SEAL_KEY_UNAVAILABLE'));
    await expect(seal.seal(plain, 'id')).rejects.toEqual(refusal('ERR_SEAL_KEY_UNAVAILABLE'));
  });

  test('of which an older one cannot be got: nobody says that no key fits', async () => {
    const sealed = createSeal([randomBytes(32)]).seal(plain, 'id');
    const away = (): never => {
      throw new Error('no vault');
    };
    const seal = createSeal([secret, away]);
    await expect(seal.open(sealed, 'id')).rejects.toEqual(refusal('ERR_SEAL_KEY_UNAVAILABLE'));
    const own = await seal.seal(plain, 'id');
    expect((await seal.open(own, 'id')).equals(plain)).toBe(true);
  });

  test('of which one cannot be got: what another sealed opens, and one that is there asks nobody', async () => {
    const [there, got] = [randomBytes(32), randomBytes(32)];
    const away = vi.fn((): never => {
      throw new Error('no vault');
    });
    const seal = createSeal([away, async () => got, there]);
    const byThere = createSeal([there]).seal(plain, 'id');
    expect((await seal.open(byThere, 'id')).equals(plain)).toBe(true);
    expect(away).not.toHaveBeenCalled();
    const byGot = createSeal([got]).seal(plain, 'id');
    expect((await seal.open(byGot, 'id')).equals(plain)).toBe(true);
    await expect(seal.open(byGot, 'other')).rejects.toEqual(refusal('ERR_SEAL_ALTERED'));
  });

  test('that must be got open what each of them sealed', async () => {
    const keys = [randomBytes(32), randomBytes(32), randomBytes(32)];
    const seal = createSeal(keys.map((key, index) => (index === 1 ? key : async () => key)));
    for (const key of keys) {
      const sealed = createSeal([key]).seal(plain, 'id');
      expect((await seal.open(sealed, 'id')).equals(plain)).toBe(true);
    }
    const foreign = createSeal([randomBytes(32)]).seal(plain, 'id');
    await expect(seal.open(foreign, 'id')).rejects.toEqual(refusal('ERR_SEAL_UNKNOWN_KEY'));
  });
});

test('keys that are there make a seal that need not be waited for', () => {
  expectTypeOf(createSeal([randomBytes(32)])).toEqualTypeOf<PromptSeal>();
  expectTypeOf(createSeal([async () => randomBytes(32)])).toEqualTypeOf<Seal>();
  expectTypeOf<PromptSeal['seal']>().returns.toEqualTypeOf<Buffer>();
});
