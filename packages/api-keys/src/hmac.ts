import { createHash, hash, type KeyObject } from 'node:crypto';

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
const MAX_TEXT_BYTES = 2048;

/**
 * HMAC-SHA256 (RFC 2104 §2) of text under one key, base64url. `createHmac` builds a stream and a native object for
 * each digest, which takes twice as long as the hashing itself; here the two paddings are made once, and each digest
 * is two one-shot hashes. Equal to `createHmac` for every key and text: a test compares them.
 * @returns a function that throws a RangeError for more than 2048 bytes of UTF-8.
 */
export function hmacSha256(key: KeyObject): (text: string) => string {
  const secret = blockOf(key.export());
  const inner = new Uint8Array(BLOCK_BYTES + MAX_TEXT_BYTES);
  const outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES);
  for (let index = 0; index < BLOCK_BYTES; index += 1) {
    const byte = secret[index] as number;
    inner[index] = byte ^ 0x36;
    outer[index] = byte ^ 0x5c;
  }
  secret.fill(0);
  const message = inner.subarray(BLOCK_BYTES);
  const encoder = new TextEncoder();
  return (text) => {
    const { read, written } = encoder.encodeInto(text, message);
    if (read < text.length) throw new RangeError(`more than ${MAX_TEXT_BYTES} bytes`);
    // As text in between, because Node makes a Buffer for a digest at three times the cost of the digest.
    outer.write(
      hash('sha256', inner.subarray(0, BLOCK_BYTES + written), 'hex'),
      BLOCK_BYTES,
      'hex',
    );
    message.fill(0, 0, written);
    return hash('sha256', outer, 'base64url');
  };
}

/** The key, padded with zeros to a block, or its hash where it is longer than one. */
function blockOf(key: Buffer): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(key.length > BLOCK_BYTES ? createHash('sha256').update(key).digest() : key);
  key.fill(0);
  return block;
}
