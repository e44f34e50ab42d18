import { randomFillSync } from 'node:crypto';

const ALPHABET = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz';
const CODES = Uint8Array.from(ALPHABET, (character) => character.charCodeAt(0));

/** The value of each ASCII character as a base62 digit; 255 for every other one. */
export const DIGIT_VALUES: Uint8Array = new Uint8Array(128).fill(255);
for (const [value, code] of CODES.entries()) DIGIT_VALUES[code] = value;

// One call into the random generator costs as much as a whole key does: bytes are drawn 4 KiB at a time.
const pool = new Uint8Array(4096);
let drawn = pool.length;

/** Uniformly distributed base62 characters from the system's random generator. */
export function randomBase62(length: number): string {
  const characters = Buffer.allocUnsafeSlow(length);
  for (let filled = 0; filled < length; ) {
    // Six bits, and 62 and 63 thrown away: `% 62` of a byte would favour the first eight characters.
    const value = nextByte() & 63;
    if (value < 62) {
      characters[filled] = CODES[value] as number;
      filled += 1;
    }
  }
  const text = characters.toString('latin1');
  characters.fill(0);
  return text;
}

/** The number in base62, most significant digit first, padded with `0` to `width`. */
export function encodeBase62(value: number, width: number): string {
  let text = '';
  for (let rest = value; text.length < width; rest = Math.floor(rest / 62)) {
    text = ALPHABET.charAt(rest % 62) + text;
  }
  return text;
}

/** The first `width` base62 digits of a digest read as one number: a name for it, not a secret. */
export function base62OfDigest(digest: Uint8Array, width: number): string {
  let rest = BigInt(`0x${Buffer.from(digest).toString('hex')}`);
  let text = '';
  for (; text.length < width; rest /= 62n) text += ALPHABET.charAt(Number(rest % 62n));
  return text;
}

function nextByte(): number {
  if (drawn === pool.length) {
    randomFillSync(pool);
    drawn = 0;
  }
  const byte = pool[drawn] as number;
  pool[drawn] = 0; // what became a secret must not stay in the pool
  drawn += 1;
  return byte;
}
