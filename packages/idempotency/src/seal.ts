import { createSeal, isSealed, SealError, type SealKeySource } from '@countersign/seal';
import { IdempotencyError } from './errors.ts';

/** How payloads are kept. */
export interface PayloadSeal {
  /** Gets the key that encrypts. Who cannot have it must not run what it could not store. */
  ready(): Promise<unknown> | undefined;
  seal(payload: Uint8Array, id: string): Uint8Array | Promise<Uint8Array>;
  /**
   * @throws IdempotencyError `ERR_IDEMPOTENCY_RECORD_UNREADABLE`: another key, another record's, changed, or (where
   * encryption is wanted) never encrypted.
   */
  open(bytes: Uint8Array, id: string): Uint8Array | Promise<Uint8Array>;
}

/** Keeps payloads as they are. */
export const unsealed: PayloadSeal = {
  ready: () => undefined,
  seal: (payload) => payload,
  open: (bytes) => {
    // No plain payload begins like one that is sealed.
    if (isSealed(bytes)) throw unreadable('it is encrypted, and there are no encryptionKeys');
    return bytes;
  },
};

/**
 * Encrypts payloads, each under the id of its record, so that none can be moved to another.
 * @throws TypeError when a key is not 32 bytes long.
 */
export function sealWith(encryptionKeys: readonly SealKeySource[]): PayloadSeal {
  const { ready, seal, open } = createSeal(encryptionKeys);
  return {
    ready,
    seal,
    async open(bytes, id) {
      try {
        return await open(bytes, id);
      } catch (error) {
        if (!(error instanceof SealError) || error.code === 'ERR_SEAL_KEY_UNAVAILABLE') throw error;
        throw unreadable(error.message, error);
      }
    },
  };
}

function unreadable(why: string, cause?: unknown): IdempotencyError {
  return new IdempotencyError(
    'ERR_IDEMPOTENCY_RECORD_UNREADABLE',
    `the stored outcome cannot be read: ${why}`,
    { cause },
  );
}
