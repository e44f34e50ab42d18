import { createCipheriv, createDecipheriv, randomBytes } from 'node:crypto';
import { SealError } from './errors.ts';
import {
  isThere,
  type KeyHolder,
  keyHolder,
  keyOf,
  type NamedKey,
  type SealKey,
  type SealKeySource,
} from './key.ts';

/** Closes bytes so that only holders of a key can open them, and only under the name they were closed under. */
export interface Seal {
  /**
   * Gets the key that seals, where it must still be got: who cannot have it need not begin what could not be sealed.
   * Rejects with SealError `ERR_SEAL_KEY_UNAVAILABLE`.
   */
  ready(): Promise<void> | undefined;
  /**
   * 33 bytes longer than `plain`, and never the same twice.
   * @param name - what the bytes are and where they are kept: they open under no other name.
   * @throws SealError `ERR_SEAL_KEY_UNAVAILABLE`; TypeError for a name that is no well-formed text.
   */
  seal(plain: Uint8Array, name: string): Buffer | Promise<Buffer>;
  /** @throws SealError, the reason in its code; TypeError for a name that is no well-formed text. */
  open(sealed: Uint8Array, name: string): Buffer | Promise<Buffer>;
}

/** A seal whose keys are all there: it answers, and throws, at once. Others always answer with a promise. */
export interface PromptSeal extends Seal {
  ready(): undefined;
  seal(plain: Uint8Array, name: string): Buffer;
  open(sealed: Uint8Array, name: string): Buffer;
}

// version (1) | key id (4) | nonce (12) | tag (16) | ciphertext
const version = 1;
const overheadBytes = 33;
const cipher = 'aes-256-gcm';
const options = { authTagLength: 16 };

/**
 * AES-256-GCM (NIST SP 800-38D) with random nonces. The first key seals, all of them open: to rotate, put the new key first, and
 * keep the old one for as long as what it sealed is kept. One key must not seal more than 2³² times (§8.3).
 * @throws TypeError when there is no key, or one is not 32 bytes long.
 */
export function createSeal(encryptionKeys: readonly SealKey[]): PromptSeal;
export function createSeal(encryptionKeys: readonly SealKeySource[]): Seal;
export function createSeal(encryptionKeys: readonly SealKeySource[]): Seal {
  if (!Array.isArray(encryptionKeys)) throw new TypeError('encryptionKeys: expected a list');
  const ring = encryptionKeys.map(keyHolder);
  const [current] = ring;
  if (!current) throw new TypeError('encryptionKeys: expected at least one key');
  return ring.every(isThere) ? promptSeal(ring) : lateSeal(ring, current);
}

function promptSeal(ring: readonly NamedKey[]): PromptSeal {
  return {
    ready: () => undefined,
    seal: (plain, name) => encrypt(ring[0] as NamedKey, plain, authenticated(name)),
    open(bytes, name) {
      const aad = authenticated(name);
      const sealed = sealedBytes(bytes);
      const key = ring.find((one) => sealedBy(one, sealed));
      if (!key) throw unknownKey();
      return decrypt(key, sealed, aad);
    },
  };
}

function lateSeal(ring: readonly KeyHolder[], current: KeyHolder): Seal {
  // First those that are there: what they sealed opens while the others cannot be got.
  const opening = ring.toSorted((one, other) => Number(isThere(other)) - Number(isThere(one)));
  return {
    ready() {
      const key = keyOf(current);
      return key instanceof Promise ? key.then(() => {}) : undefined;
    },
    async seal(plain, name) {
      const aad = authenticated(name);
      return encrypt(await keyOf(current), plain, aad);
    },
    async open(bytes, name) {
      const aad = authenticated(name);
      const sealed = sealedBytes(bytes);
      let failure: unknown;
      for (const holder of opening) {
        const key = await Promise.resolve(keyOf(holder)).catch((error: unknown) => {
          failure ??= error;
        });
        if (key && sealedBy(key, sealed)) return decrypt(key, sealed, aad);
      }
      throw failure ?? unknownKey();
    },
  };
}

/** Whether bytes look sealed: for who may have kept them plain before. Plain bytes that begin with 1 look so too. */
export function isSealed(bytes: Uint8Array): boolean {
  return bytes[0] === version && bytes.byteLength >= overheadBytes;
}

function sealedBytes(bytes: Uint8Array): Buffer {
  if (!isSealed(bytes)) throw new SealError('ERR_SEAL_NOT_SEALED', 'this was never sealed');
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function unknownKey(): SealError {
  return new SealError('ERR_SEAL_UNKNOWN_KEY', 'none of the keys sealed this');
}

function encrypt({ id, key }: NamedKey, plain: Uint8Array, aad: Buffer): Buffer {
  const nonce = randomBytes(12);
  const encryption = createCipheriv(cipher, key, nonce, options).setAAD(aad);
  const text = encryption.update(plain);
  encryption.final();
  return Buffer.concat([Buffer.of(version), id, nonce, encryption.getAuthTag(), text]);
}

function decrypt({ key }: NamedKey, sealed: Buffer, aad: Buffer): Buffer {
  const decryption = createDecipheriv(cipher, key, sealed.subarray(5, 17), options)
    .setAAD(aad)
    .setAuthTag(sealed.subarray(17, overheadBytes));
  const plain = decryption.update(sealed.subarray(overheadBytes));
  try {
    decryption.final();
  } catch {
    throw new SealError('ERR_SEAL_ALTERED', 'this was changed, or sealed under another name');
  }
  return plain;
}

function sealedBy({ id }: NamedKey, sealed: Buffer): boolean {
  return id.equals(sealed.subarray(1, 5));
}

/** Lone surrogates would become one and the same character. */
function authenticated(name: string): Buffer {
  if (typeof name !== 'string' || !name.isWellFormed()) {
    throw new TypeError('name: expected well-formed text');
  }
  return Buffer.from(name);
}
