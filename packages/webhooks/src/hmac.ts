import { createHash, createHmac, hash, type KeyObject } from 'node:crypto';

/** HMAC-SHA256 (RFC 2104 §2) of `prefix` and `body`, under the key it was made for. */
export type Hmac = (
  prefix: string,
  body: Uint8Array | string,
  encoding: 'base64' | 'hex',
) => string;

const BLOCK_BYTES = 64;
const DIGEST_BYTES = 32;
const ROOM_BYTES = 16_384;
/** What one UTF-16 unit can become in UTF-8. */
const BYTES_PER_UNIT = 3;

// One room for all keys, because an application may have thousands. Everything below is synchronous.
const room = Buffer.alloc(BLOCK_BYTES + ROOM_BYTES);

/**
 * `createHmac` builds a stream and a native object for each digest; here the two paddings are made once, and a digest
 * is two one-shot hashes. Bodies beyond 16 KiB go through `createHmac`: to copy them costs more than that saves.
 */
export function hmacSha256(key: KeyObject): Hmac {
  const inner = new Uint8Array(BLOCK_BYTES);
  const outer = Buffer.alloc(BLOCK_BYTES + DIGEST_BYTES);
  const block = blockOf(key.export());
  for (let index = 0; index < BLOCK_BYTES; index += 1) {
    const byte = block[index] as number;
    inner[index] = byte ^ 0x36;
    outer[index] = byte ^ 0x5c;
  }
  block.fill(0);
  return (prefix, body, encoding) => {
    const bodyBytes = typeof body === 'string' ? body.length * BYTES_PER_UNIT : body.byteLength;
    if (prefix.length * BYTES_PER_UNIT + bodyBytes > ROOM_BYTES) {
      return createHmac('sha256', key).update(prefix, 'utf8').update(body).digest(encoding);
    }
    room.set(inner);
    let end = BLOCK_BYTES + room.write(prefix, BLOCK_BYTES);
    if (typeof body === 'string') end += room.write(body, end);
    else {
      room.set(body, end);
      end += body.byteLength;
    }
    // As text in between: Node.js makes a Buffer for a digest at three times the cost of the digest.
    outer.write(hash('sha256', room.subarray(0, end), 'hex'), BLOCK_BYTES, 'hex');
    return hash('sha256', outer, encoding);
  };
}

/** The key, padded with zeros to a block, or its hash where it is longer than one. */
function blockOf(key: Buffer): Uint8Array {
  const block = new Uint8Array(BLOCK_BYTES);
  block.set(key.byteLength > BLOCK_BYTES ? createHash('sha256').update(key).digest() : key);
  key.fill(0);
  return block;
}
