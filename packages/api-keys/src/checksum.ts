import { crc32 } from 'node:zlib';
import { DIGIT_VALUES, encodeBase62 } from './base62.ts';

/** Characters of a checksum: the fewest base62 digits that hold 32 bits. */
export const CHECKSUM_LENGTH = 6;

const CRC_TABLE = Int32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit += 1) {
    value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  }
  return value;
});

/** CRC-32 (the one of zlib and of GitHub's tokens) of ASCII text, in six base62 characters. */
export function checksum(text: string): string {
  return encodeBase62(crc32(text), CHECKSUM_LENGTH);
}

/**
 * Whether the characters of `text` from `start` on are base62 and end with the checksum of those before it.
 * Alphabet and CRC in one pass: this is all that junk costs, and calling zlib for it would cost more.
 */
export function endsWithChecksum(text: string, start: number): boolean {
  const end = text.length - CHECKSUM_LENGTH;
  let crc = -1;
  for (let index = start; index < end; index += 1) {
    const code = text.charCodeAt(index);
    if (digitValue(code) === 255) return false;
    crc = (CRC_TABLE[(crc ^ code) & 255] as number) ^ (crc >>> 8);
  }
  let expected = 0;
  for (let index = end; index < text.length; index += 1) {
    const value = digitValue(text.charCodeAt(index));
    if (value === 255) return false;
    expected = expected * 62 + value;
  }
  return expected === ~crc >>> 0;
}

function digitValue(code: number): number {
  return code < 128 ? (DIGIT_VALUES[code] as number) : 255;
}
