import { createSeal, SealError, type SealKeySource } from '@countersign/seal';
import { WebhookError } from './errors.ts';

/** Encrypts what is kept at rest, bound to where it is kept. Both methods reject with SealError when a key cannot be got. */
export interface Vault {
  seal(plain: Uint8Array, name: string): Promise<Buffer>;
  /** @throws WebhookError `ERR_WEBHOOKS_STORE_FAILED` when no key opens it, or it was moved or changed. */
  open(sealed: Uint8Array, name: string): Promise<Buffer>;
}

/** @throws TypeError when there is no key, or one is not of 32 bytes. */
export function createVault(encryptionKeys: readonly SealKeySource[]): Vault {
  const { seal, open } = createSeal(encryptionKeys);
  return {
    seal: async (plain, name) => await seal(plain, name),
    async open(sealed, name) {
      try {
        return await open(sealed, name);
      } catch (cause) {
        if (!(cause instanceof SealError) || cause.code === 'ERR_SEAL_KEY_UNAVAILABLE') throw cause;
        throw new WebhookError(
          'ERR_WEBHOOKS_STORE_FAILED',
          'no encryption key opens what is stored',
          { cause },
        );
      }
    },
  };
}

/** A part of Redis is away, or a key cannot be got: that passes. */
const READ_AGAIN_MS = 10_000;
/** No key opens it: whoever took that away too early has to put it back. */
const OPEN_AGAIN_MS = 600_000;

/** When to try again to read what could not be read. */
export function readAgainMs(error: unknown): number {
  return error instanceof WebhookError ? OPEN_AGAIN_MS : READ_AGAIN_MS;
}
