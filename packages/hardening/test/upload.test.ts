import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { assertBounded } from '../src/assert-bounded.ts';
import { HardeningError } from '../src/errors.ts';
import { input } from '../src/input.ts';
import { upload } from '../src/upload.ts';

const jpeg = Uint8Array.of(0xff, 0xd8, 0xff, 0xe0, 0, 16, 0x4a, 0x46, 0x49, 0x46);
const png = Uint8Array.of(0x89, 0x50, 0x4e, 0x47, 0x0d, 0x0a, 0x1a, 0x0a, 0, 0, 0, 13);
const pdf = Buffer.from('%PDF-1.7\n');

describe('upload', () => {
  test.each([
    ['image/jpeg', jpeg],
    ['image/png', png],
    ['application/pdf', pdf],
  ])('takes %s', (type, bytes) => {
    expect(upload().parse({ type, bytes })).toEqual({ type, bytes });
  });

  test.each<[string, string, Uint8Array]>([
    ['a type that is not taken', 'image/svg+xml', Buffer.from('<svg onload="alert(1)"/>')],
    ['a page as a picture', 'image/png', Buffer.from('<!doctype html><script>')],
    ['a program as a PDF', 'application/pdf', Uint8Array.of(0x4d, 0x5a, 0x90, 0)],
    ['one type as another', 'image/png', jpeg],
    ['a PDF that begins later', 'application/pdf', Buffer.from('<html>%PDF-1.7')],
    ['nothing', 'image/png', new Uint8Array()],
    ['half a signature', 'image/png', png.subarray(0, 7)],
    ['a type with parameters', 'image/png;x=y', png],
    ['a type that objects inherit', 'constructor', png],
  ])('refuses %s', (_, type, bytes) => {
    expect(upload().safeParse({ type, bytes }).success).toBe(false);
  });

  test('measures before it looks', () => {
    const bytes = new Uint8Array(10_485_761);
    bytes.set(png);
    expect(upload().safeParse({ type: 'image/png', bytes }).error?.issues).toMatchObject([
      { code: 'too_big', path: ['bytes'] },
    ]);
    expect(
      upload().safeParse({ type: 'image/png', bytes: bytes.subarray(1) }).error?.issues,
    ).toMatchObject([{ params: { code: 'type_mismatch' } }]);
    expect(upload({ maxBytes: 12 }).safeParse({ type: 'image/png', bytes: png }).success).toBe(
      true,
    );
  });

  test('takes only bytes', () => {
    fc.assert(
      fc.property(fc.anything(), (bytes) => {
        fc.pre(!(bytes instanceof Uint8Array));
        expect(upload().safeParse({ type: 'image/png', bytes }).success).toBe(false);
      }),
    );
  });

  test('asks the scanner about what is left, and keeps nothing that it did not clear', async () => {
    const asked: string[] = [];
    const scan = async ({ type }: { type: string }): Promise<boolean> => {
      asked.push(type);
      return type !== 'application/pdf';
    };
    const files = input(upload({ scan }));
    expect(await files.checkAsync({ type: 'image/png', bytes: png })).toEqual({
      type: 'image/png',
      bytes: png,
    });
    await expect(files.checkAsync({ type: 'application/pdf', bytes: pdf })).rejects.toMatchObject({
      code: 'ERR_HARDENING_INPUT_INVALID',
      errors: [{ pointer: '#/bytes', code: 'refused_by_scan' }],
    });
    await expect(files.checkAsync({ type: 'image/png', bytes: jpeg })).rejects.toThrow(
      HardeningError,
    );
    expect(asked).toEqual(['image/png', 'application/pdf']);
    expect(() => files.check({ type: 'image/png', bytes: png })).toThrow('use checkAsync');
  });

  test('fails with the scanner', async () => {
    const scan = async (): Promise<boolean> => {
      throw new Error('the scanner is down');
    };
    const files = input(upload({ scan }));
    await expect(files.checkAsync({ type: 'image/png', bytes: png })).rejects.toThrow(
      'the scanner is down',
    );
  });

  test('is bounded', () => {
    expect(() => assertBounded(upload())).not.toThrow();
  });

  test.each([
    { maxBytes: 0 },
    { types: [] },
    { types: ['image/gif'] },
    { types: ['toString'] },
    { scan: true },
    { size: 5 },
  ])('refuses to be built with %j', (options) => {
    expect(() => upload(options as never)).toThrow(TypeError);
  });
});
