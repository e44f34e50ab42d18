import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createSecretKey,
  KeyObject,
  randomBytes,
} from 'node:crypto';

/** 32 random bytes: a `KeyObject`, bytes, or base64/base64url text. */
export type EncryptionKey = KeyObject | Uint8Array | string;

/** Closes values so that only holders of a key can open them, and only under the name they were closed for. */
export interface Sealing {
  readonly seal: (plaintext: string, name: string) => string;
  /** Undefined when it was altered, moved to another name, or closed with a key that is not there. */
  readonly open: (sealed: string, name: string) => string | undefined;
}

/** The first key closes; all of them open, so that keys can be rotated. @throws TypeError */
export function sealing(encryptionKeys: readonly EncryptionKey[]): Sealing {
  if (!Array.isArray(encryptionKeys) || encryptionKeys.length === 0) {
    throw new TypeError('encryptionKeys must be an array with at least one key');
  }
  const ring = new Map(encryptionKeys.map(importKey).map((key) => [keyId(key), key]));
  const [current] = ring as Iterable<[string, KeyObject]>;
  const [currentId, currentKey] = current as [string, KeyObject];
  return {
    seal: (plaintext, name) => {
      const iv = randomBytes(12);
      const cipher = createCipheriv('aes-256-gcm', currentKey, iv).setAAD(Buffer.from(name));
      const parts = [iv, cipher.update(plaintext, 'utf8'), cipher.final(), cipher.getAuthTag()];
      return `1.${currentId}.${Buffer.concat(parts).toString('base64url')}`;
    },
    open: (sealed, name) => {
      const [version, id = '', text = ''] = sealed.split('.');
      const key = ring.get(id);
      const bytes = Buffer.from(text, 'base64url');
      if (version !== '1' || !key || bytes.length < 28) return undefined;
      const options = { authTagLength: 16 };
      const decipher = createDecipheriv('aes-256-gcm', key, bytes.subarray(0, 12), options)
        .setAAD(Buffer.from(name))
        .setAuthTag(bytes.subarray(-16));
      try {
        return decipher.update(bytes.subarray(12, -16), undefined, 'utf8') + decipher.final('utf8');
      } catch {
        return undefined;
      }
    },
  };
}

function importKey(key: EncryptionKey): KeyObject {
  let imported: KeyObject;
  if (key instanceof KeyObject) imported = key;
  else if (typeof key === 'string') imported = createSecretKey(Buffer.from(key, 'base64url'));
  else imported = createSecretKey(key);
  if (imported.type !== 'secret' || imported.symmetricKeySize !== 32) {
    throw new TypeError('encryptionKeys must be keys of 32 bytes');
  }
  return imported;
}

/** A hash of 256 random bits tells nothing about them. */
function keyId(key: KeyObject): string {
  return createHash('sha256').update(key.export()).digest('base64url').slice(0, 11);
}
