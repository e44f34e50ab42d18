import { crc32 } from 'node:zlib';
import { DIGIT_VALUES, encodeBase62 } from './base62.ts';

/** Characters of a checksum: the fewest base62 digits that hold 32 bits. */
export const CHECKSUM_LENGTH = 6;

/** Longer texts are no keys. */
export const MAX_CHECKED_LENGTH = 160;

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

// `charCodeAt` costs ten times as much in some processes as in others; copying the text first costs the same in all.
const bytes = new Uint8Array(MAX_CHECKED_LENGTH);
const encoder = new TextEncoder();

/**
 * Whether the characters of `text` from `start` on are base62 and end with the checksum of those before it.
 * Alphabet and CRC in one pass without a branch: this is all that junk costs, and calling zlib would cost more.
 * Texts over `MAX_CHECKED_LENGTH` are refused.
 */
export function endsWithChecksum(text: string, start: number): boolean {
  if (text.length > MAX_CHECKED_LENGTH) return false;
  const { written } = encoder.encodeInto(text, bytes);
  const end = written - CHECKSUM_LENGTH;
  let crc = -1;
  let seen = 0; // every bit that a byte or digit value had: 128 and above for any that is no base62 digit
  for (let index = start; index < end; index += 1) {
    const byte = bytes[index] as number;
    seen |= byte | (DIGIT_VALUES[byte & 127] as number);
    crc = (CRC_TABLE[(crc ^ byte) & 255] as number) ^ (crc >>> 8);
  }
  let expected = 0;
  for (let index = end; index < written; index += 1) {
    const byte = bytes[index] as number;
    const value = DIGIT_VALUES[byte & 127] as number;
    seen |= byte | value;
    expected = expected * 62 + value;
  }
  bytes.fill(0, 0, written); // a key that passed through must not stay
  // What is not ASCII takes more bytes than characters, and its end may not have fitted.
  return written === text.length && seen < 128 && expected === ~crc >>> 0;
}
