import {
  type KeyObject,
  sign as signDigest,
  timingSafeEqual,
  verify as verifyDigest,
} from 'node:crypto';
import type { ImportedKey } from './keys.ts';

const SIGNATURE_BYTES = 64;

/** Signs `prefix` and `body`, and encodes the signature. */
export function signature(
  key: ImportedKey,
  prefix: string,
  body: Uint8Array | string,
  encoding: 'base64' | 'hex',
): string {
  if (key.algorithm === 'hmac-sha256') return key.hmac(prefix, body, encoding);
  return signDigest(null, joined(prefix, body), key.key).toString(encoding);
}

/** Whether `presented` is the ed25519 signature of `prefix` and `body`. Only the one canonical encoding counts. */
export function verifiesEd25519(
  key: KeyObject,
  prefix: string,
  body: Uint8Array | string,
  presented: string,
  encoding: 'base64' | 'hex',
): boolean {
  const bytes = Buffer.from(presented, encoding);
  if (bytes.length !== SIGNATURE_BYTES || bytes.toString(encoding) !== presented) return false;
  return verifyDigest(null, joined(prefix, body), key, bytes);
}

// Kept from call to call, because making Buffers costs more than comparing them.
let expectedRoom = Buffer.alloc(0);
let presentedRoom = Buffer.alloc(0);

/**
 * Compares two signatures as they are written, in constant time. Text, not decoded bytes: decoders are lenient, and
 * would let many spellings pass for one signature.
 * @param expected - ASCII.
 */
export function equalText(expected: string, presented: string): boolean {
  const { length } = expected;
  if (presented.length !== length) return false;
  if (expectedRoom.length !== length) {
    expectedRoom = Buffer.alloc(length);
    presentedRoom = Buffer.alloc(length);
  }
  // Without an encoding: the one path of `write` that goes straight to UTF-8.
  expectedRoom.write(expected);
  // Text that is not ASCII does not fit: what does not fill the room must not be compared with what was there before.
  return presentedRoom.write(presented) === length && timingSafeEqual(expectedRoom, presentedRoom);
}

function joined(prefix: string, body: Uint8Array | string): Buffer {
  if (typeof body === 'string') return Buffer.from(prefix + body, 'utf8');
  return Buffer.concat([Buffer.from(prefix, 'utf8'), body]);
}
