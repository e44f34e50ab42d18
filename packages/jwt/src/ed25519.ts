import type { KeyObject } from 'node:crypto';

/**
 * The points of Ed25519 whose order divides eight, by their y coordinate in every encoding there is of it, little-endian.
 * With such a point for a key one signature fits any text.
 */
const SMALL_ORDER: ReadonlySet<string> = new Set([
  '00'.repeat(32),
  `01${'00'.repeat(31)}`,
  '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
  'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
  `ec${'ff'.repeat(30)}7f`,
  `ed${'ff'.repeat(30)}7f`,
  `ee${'ff'.repeat(30)}7f`,
]);

/** Whether an Ed25519 public key is one that proves nothing. OpenSSL refuses its signatures from 3.5 on only. */
export function isOfSmallOrder(key: KeyObject): boolean {
  const y = key.export({ format: 'der', type: 'spki' }).subarray(-32);
  // The highest bit is the sign of x.
  y.writeUInt8(y.readUInt8(31) & 0x7f, 31);
  return SMALL_ORDER.has(y.toString('hex'));
}
