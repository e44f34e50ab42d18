import { createHash, createSecretKey, KeyObject } from 'node:crypto';
import { SealError } from './errors.ts';

/** 32 random bytes: as they are, in base64 or base64url, or in a secret `KeyObject`. */
export type SealKey = KeyObject | Uint8Array | string;

/** A key, or how to get it. A function is called when its key is first needed, and again only after it has failed. */
export type SealKeySource = SealKey | (() => SealKey | Promise<SealKey>);

/** A key and the name by which sealed bytes say that it sealed them. */
export interface NamedKey {
  /** Four bytes of a hash of 256 random bits, which tells nothing about them. */
  readonly id: Buffer;
  readonly key: KeyObject;
}

/** A key that is there, or what gets it. */
export type KeyHolder = NamedKey | (() => NamedKey | Promise<NamedKey>);

export function isThere(holder: KeyHolder): holder is NamedKey {
  return typeof holder !== 'function';
}

/** The promise rejects with SealError `ERR_SEAL_KEY_UNAVAILABLE`. */
export function keyOf(holder: KeyHolder): NamedKey | Promise<NamedKey> {
  return isThere(holder) ? holder : holder();
}

/** @throws TypeError when a key that is there is none. */
export function keyHolder(source: SealKeySource): KeyHolder {
  if (typeof source !== 'function') return named(source);
  let known: NamedKey | Promise<NamedKey> | undefined;
  const keep = (key: NamedKey): NamedKey => {
    known = key;
    return key;
  };
  const forget = (cause: unknown): never => {
    known = undefined;
    throw new SealError('ERR_SEAL_KEY_UNAVAILABLE', 'a key could not be got', { cause });
  };
  return () => {
    known ??= Promise.resolve().then(source).then(named).then(keep, forget);
    return known;
  };
}

function named(secret: SealKey): NamedKey {
  const key = imported(secret);
  if (key?.type !== 'secret' || key.symmetricKeySize !== 32) {
    throw new TypeError('encryptionKeys: expected secrets of 32 bytes');
  }
  const id = createHash('sha256').update('key id').update(key.export()).digest().subarray(0, 4);
  return { id, key };
}

/** 32 bytes in base64 or base64url. Node's decoder would take a sentence for a key. */
const encoded = /^[\w+/-]{43}=?$/;

function imported(secret: SealKey): KeyObject | undefined {
  if (secret instanceof KeyObject) return secret;
  if (secret instanceof Uint8Array) return createSecretKey(secret);
  const isKey = typeof secret === 'string' && encoded.test(secret);
  return isKey ? createSecretKey(secret, 'base64') : undefined;
}
