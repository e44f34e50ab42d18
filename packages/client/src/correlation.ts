import { randomFillSync } from 'node:crypto';

const POOL_BYTES = 4096;
const pool = Buffer.alloc(POOL_BYTES);
let used = POOL_BYTES;

/** `bytes` random bytes as hexadecimal digits. Asking the system once for many is several times faster. */
function randomHex(bytes: number): string {
  if (used + bytes > POOL_BYTES) {
    randomFillSync(pool);
    used = 0;
  }
  used += bytes;
  return pool.toString('hex', used - bytes, used);
}

/**
 * A new trace (W3C Trace Context §3.2). It is marked as sampled: services that follow their caller's decision would
 * otherwise record nothing of it.
 */
export function newTraceparent(): string {
  return `00-${nonZero(16)}-${nonZero(8)}-01`;
}

/** A new identifier for `X-Request-Id`. */
export function newRequestId(): string {
  return randomHex(16);
}

/** All zeroes are invalid as trace id and as parent id (§3.2.2.3). */
function nonZero(bytes: number): string {
  const digits = randomHex(bytes);
  return /^0+$/.test(digits) ? nonZero(bytes) : digits;
}
