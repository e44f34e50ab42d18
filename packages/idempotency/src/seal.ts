import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  KeyObject,
  randomBytes,
} from 'node:crypto';
import { IdempotencyError } from './errors.ts';

/** 32 bytes: as they are, in base64 or base64url, or in a secret `KeyObject`. */
export type EncryptionKey = Uint8Array | string | KeyObject;

/** A key, or how to get it. It is asked for once, when it is first needed, and again only if that failed. */
export type EncryptionKeySource = EncryptionKey | (() => EncryptionKey | Promise<EncryptionKey>);

/** Encrypts what is stored, and reads it again. */
export interface Seal {
  /** Gets the key that encrypts. Who cannot have it must not run what it could not store. */
  ready(): Promise<unknown> | undefined;
  seal(payload: Uint8Array, id: string): Uint8Array | Promise<Uint8Array>;
  /**
   * @throws IdempotencyError `ERR_IDEMPOTENCY_RECORD_UNREADABLE`: another key, another record's, changed, or (where
   * encryption is wanted) never encrypted.
   */
  open(bytes: Uint8Array, id: string): Uint8Array | Promise<Uint8Array>;
}

interface NamedKey {
  readonly id: Buffer;
  readonly key: KeyObject;
}

// version (1) | key id (4) | nonce (12) | tag (16) | ciphertext. No plain payload begins with the version byte.
const version = 1;
const cipher = 'aes-256-gcm';

/** Stores payloads as they are. */
export const unsealed: Seal = {
  ready: () => undefined,
  seal: (payload) => payload,
  open: (bytes) => {
    if (bytes[0] === version) throw unreadable('it is encrypted, and there are no encryptionKeys');
    return bytes;
  },
};

/**
 * AES-256-GCM with a random nonce; the record's id is authenticated with it, so that no payload can be moved to another
 * record. The first key encrypts, all of them decrypt.
 * @throws TypeError when a key is not 32 bytes long; from `seal` and `open` when it comes from a function.
 */
export function sealWith(sources: readonly EncryptionKeySource[]): Seal {
  const [current, ...older] = sources.map(loader);
  if (!current) throw new TypeError('encryptionKeys: expected at least one key');
  return {
    ready: current,
    async seal(payload, id) {
      const { id: keyId, key } = await current();
      const nonce = randomBytes(12);
      const encryption = createCipheriv(cipher, key, nonce).setAAD(Buffer.from(id));
      const text = Buffer.concat([encryption.update(payload), encryption.final()]);
      return Buffer.concat([Buffer.of(version), keyId, nonce, encryption.getAuthTag(), text]);
    },
    async open(bytes, id) {
      const sealed = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      if (sealed[0] !== version || sealed.length < 33) throw unreadable('it is not encrypted');
      for (const load of [current, ...older]) {
        const candidate = await load();
        if (candidate.id.equals(sealed.subarray(1, 5))) return decrypt(sealed, candidate.key, id);
      }
      throw unreadable('none of the encryptionKeys is the one that encrypted it');
    },
  };
}

function decrypt(sealed: Buffer, key: KeyObject, id: string): Uint8Array {
  const decryption = createDecipheriv(cipher, key, sealed.subarray(5, 17), { authTagLength: 16 })
    .setAAD(Buffer.from(id))
    .setAuthTag(sealed.subarray(17, 33));
  try {
    return Buffer.concat([decryption.update(sealed.subarray(33)), decryption.final()]);
  } catch (cause) {
    throw unreadable('it was changed, or belongs to another record', cause);
  }
}

function unreadable(why: string, cause?: unknown): IdempotencyError {
  return new IdempotencyError(
    'ERR_IDEMPOTENCY_RECORD_UNREADABLE',
    `the stored outcome cannot be read: ${why}`,
    { cause },
  );
}

function loader(source: EncryptionKeySource): () => Promise<NamedKey> {
  if (typeof source !== 'function') {
    const loaded = Promise.resolve(named(source));
    return () => loaded;
  }
  let loading: Promise<NamedKey> | undefined;
  return () => {
    loading ??= Promise.resolve()
      .then(source)
      .then(named)
      .catch((error: unknown) => {
        loading = undefined;
        throw error;
      });
    return loading;
  };
}

function named(secret: EncryptionKey): NamedKey {
  const key = toKeyObject(secret);
  if (key.type !== 'secret' || key.symmetricKeySize !== 32) {
    throw new TypeError('encryptionKeys: expected secrets of 32 bytes');
  }
  const id = createHash('sha256').update('key id').update(key.export()).digest().subarray(0, 4);
  return { id, key };
}

function toKeyObject(secret: EncryptionKey): KeyObject {
  if (secret instanceof KeyObject) return secret;
  return createSecretKey(typeof secret === 'string' ? Buffer.from(secret, 'base64') : secret);
}
