import {
  createCipheriv,
  createDecipheriv,
  createSecretKey,
  KeyObject,
  randomBytes,
} from 'node:crypto';
import { WebhookError } from './errors.ts';

/** Encrypts what is kept at rest: AES-256-GCM, bound to where it is kept. */
export interface Seal {
  seal(plain: Uint8Array, context: string): Buffer;
  /** @throws WebhookError `ERR_WEBHOOKS_STORE_FAILED` when no key opens it, or it was moved or changed. */
  open(sealed: Uint8Array, context: string): Buffer;
}

const NONCE_BYTES = 12;
const TAG_BYTES = 16;

/**
 * @param keys - 32 bytes each; the first encrypts, all decrypt: to rotate, put the new one first and keep the old one
 * for as long as what it encrypted is kept.
 * @throws TypeError when there is no key, or one is of another length.
 */
export function createSeal(keys: readonly (Uint8Array | KeyObject)[]): Seal {
  const imported = keys.map((key) => (key instanceof KeyObject ? key : createSecretKey(key)));
  const [first] = imported;
  if (!first || imported.some((key) => key.symmetricKeySize !== 32)) {
    throw new TypeError('encryptionKeys must hold keys of 32 bytes');
  }
  return {
    seal(plain, context) {
      const nonce = randomBytes(NONCE_BYTES);
      const cipher = createCipheriv('aes-256-gcm', first, nonce);
      cipher.setAAD(Buffer.from(context, 'utf8'));
      const text = cipher.update(plain);
      cipher.final();
      return Buffer.concat([nonce, cipher.getAuthTag(), text]);
    },
    open(sealed, context) {
      for (const key of imported) {
        const plain = opened(key, sealed, context);
        if (plain) return plain;
      }
      throw new WebhookError(
        'ERR_WEBHOOKS_STORE_FAILED',
        'no encryption key opens what was stored',
      );
    },
  };
}

function opened(key: KeyObject, sealed: Uint8Array, context: string): Buffer | undefined {
  if (sealed.byteLength < NONCE_BYTES + TAG_BYTES) return undefined;
  const decipher = createDecipheriv('aes-256-gcm', key, sealed.subarray(0, NONCE_BYTES));
  decipher.setAAD(Buffer.from(context, 'utf8'));
  decipher.setAuthTag(sealed.subarray(NONCE_BYTES, NONCE_BYTES + TAG_BYTES));
  const plain = decipher.update(sealed.subarray(NONCE_BYTES + TAG_BYTES));
  try {
    decipher.final();
    return plain;
  } catch {
    return undefined;
  }
}
