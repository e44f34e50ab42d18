import {
  createHmac,
  sign as signDigest,
  timingSafeEqual,
  verify as verifyDigest,
} from 'node:crypto';
import type { SchemeKey } from './secret.ts';

const SIGNATURE_BYTES = 64;

/** Signs `prefix` and `body`, and encodes the signature. */
export function signature(
  { algorithm, key }: SchemeKey,
  prefix: string,
  body: Uint8Array | string,
  encoding: 'base64' | 'hex',
): string {
  if (algorithm === 'ed25519')
    return signDigest(null, joined(prefix, body), key).toString(encoding);
  // Two updates: to join them first would copy the body, which costs more than the second call.
  return createHmac('sha256', key).update(prefix, 'utf8').update(body).digest(encoding);
}

/** Whether `presented` is the ed25519 signature of `prefix` and `body`. Only the one canonical encoding counts. */
export function verifiesEd25519(
  { key }: SchemeKey,
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
