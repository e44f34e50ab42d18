import { type BinaryLike, createSecretKey, hash, KeyObject, timingSafeEqual } from 'node:crypto';
import { hmacSha256 } from './hmac.ts';

const MIN_SECRET_BYTES = 32;
const PEPPER_ID = /^[A-Za-z0-9._-]{1,32}$/;

/** A secret of the service that digests are keyed with, so that a stolen database alone verifies nothing. */
export interface Pepper {
  /** Kept in each record, to know which pepper its digest was made with. 1 to 32 of `A-Za-z0-9._-`. */
  readonly id: string;
  /** At least 32 bytes (a string counts as UTF-8), or an async provider of them, asked once. */
  readonly secret: PepperSecret | (() => Promise<PepperSecret>);
}
export type PepperSecret = string | Uint8Array | KeyObject;

/** The peppers in use: the first one makes digests, all of them verify. */
export interface PepperRing {
  /** The id of the pepper that new digests are made with; absent in plain SHA-256 mode. */
  readonly currentId: string | undefined;
  /** Whether every secret is at hand; otherwise `load()` first. */
  readonly loaded: boolean;
  load(): Promise<void>;
  /** The digest of a key by the pepper named (absent: plain SHA-256); `undefined` when the ring does not have it. */
  digest(payload: string, pepperId: string | undefined): string | undefined;
}

/**
 * @param peppers - newest first; `'none'` for plain SHA-256.
 * @throws TypeError for an empty ring, a repeated or malformed id, a secret under 32 bytes.
 */
export function pepperRing(peppers: readonly Pepper[] | 'none'): PepperRing {
  const sources = peppers === 'none' ? [] : assertPeppers(peppers);
  const digests = new Map<string, (text: string) => string>();
  const pending = new Map<string, () => Promise<PepperSecret>>();
  for (const { id, secret } of sources) {
    if (typeof secret === 'function') pending.set(id, secret);
    else digests.set(id, hmacSha256(importSecret(id, secret)));
  }
  let loading: Promise<void> | undefined;
  const loadAll = async (): Promise<void> => {
    try {
      for (const [id, provide] of pending) {
        digests.set(id, hmacSha256(importSecret(id, await provide())));
        pending.delete(id);
      }
    } finally {
      loading = undefined; // a provider that failed is asked again by the next caller
    }
  };
  return {
    currentId: sources[0]?.id,
    get loaded() {
      return pending.size === 0;
    },
    load() {
      loading ??= loadAll();
      return loading;
    },
    digest(payload, pepperId) {
      if (pepperId === undefined) return sha256(payload);
      return digests.get(pepperId)?.(payload);
    },
  };
}

/** Plain SHA-256, base64url. */
export function sha256(text: string): string {
  return hash('sha256', text, 'base64url');
}

const DIGEST_LENGTH = 43;
const left = Buffer.alloc(DIGEST_LENGTH);
const right = Buffer.alloc(DIGEST_LENGTH);

/** Compares two digests in constant time. */
export function sameDigest(a: string, b: string): boolean {
  if (a.length !== DIGEST_LENGTH || b.length !== DIGEST_LENGTH) return false;
  left.write(a, 'latin1');
  right.write(b, 'latin1');
  return timingSafeEqual(left, right);
}

function assertPeppers(peppers: readonly Pepper[]): readonly Pepper[] {
  if (!Array.isArray(peppers) || peppers.length === 0) {
    throw new TypeError(
      'peppers must be a list of at least one pepper, or "none" for plain SHA-256',
    );
  }
  const seen = new Set<string>();
  for (const pepper of peppers as readonly Pepper[]) {
    if (typeof pepper?.id !== 'string' || !PEPPER_ID.test(pepper.id)) {
      throw new TypeError('peppers[].id must be 1 to 32 of A-Z a-z 0-9 . _ -');
    }
    if (seen.has(pepper.id)) throw new TypeError(`peppers[].id "${pepper.id}" occurs twice`);
    seen.add(pepper.id);
  }
  return peppers;
}

function importSecret(id: string, secret: PepperSecret): KeyObject {
  const key = secret instanceof KeyObject ? secret : createSecretKey(secretBytes(id, secret));
  if (key.type !== 'secret' || (key.symmetricKeySize ?? 0) < MIN_SECRET_BYTES) {
    throw new TypeError(
      `the secret of pepper "${id}" must have at least ${MIN_SECRET_BYTES} bytes`,
    );
  }
  return key;
}

function secretBytes(id: string, secret: BinaryLike): NodeJS.ArrayBufferView {
  if (typeof secret === 'string') return Buffer.from(secret, 'utf8');
  if (secret instanceof Uint8Array) return secret;
  throw new TypeError(`the secret of pepper "${id}" must be a string, bytes or a KeyObject`);
}
