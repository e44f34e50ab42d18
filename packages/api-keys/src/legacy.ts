import { hash } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import { base62OfDigest } from './base62.ts';
import { ApiKeysError } from './errors.ts';
import type { CreateKey } from './issue.ts';
import { ID_LENGTH } from './key-format.ts';

const KNOWN: OptionNames<LegacyClaim> = { hashed: true, lookup: true };
const HEX = /^[0-9a-f]{64}$/i;
/** Of 32 bytes, in either alphabet, padded or not. `Buffer.from` would pass over whatever else there is. */
const BASE64 = /^[A-Za-z0-9+/_-]{43}=?$/;

/** What to do with a text that looks like a key of the system being left behind. */
export interface LegacyClaim {
  /** The part that the old system hashed, where that was not the whole text. Default: the whole text. */
  readonly hashed?: string;
  /** Asked once, when no record exists: what the key is for, `undefined` when the old system does not know it. */
  readonly lookup?: () => Promise<CreateKey | undefined>;
}

/** Tells by its looks alone whether a text may be a legacy key; no I/O here, that is what `lookup` is for. */
export type Legacy = (text: string) => LegacyClaim | undefined;

/** A key of the old system of which only the SHA-256 hash is known. */
export interface ImportHash extends CreateKey {
  /** Hexadecimal, base64 or base64url. */
  readonly sha256: string;
}

/**
 * The id of a legacy key: taken from the SHA-256 of the key, so that a presented key leads to its record, and an
 * imported hash to the same one, without an index.
 */
export function legacyId(digest: string): string {
  return base62OfDigest(Buffer.from(digest, 'base64url'), ID_LENGTH);
}

/**
 * The id and the payload of a legacy key.
 * @throws TypeError for what is no claim: a promise of one would make every legacy key unknown.
 */
export function legacyClaim(text: string, claim: LegacyClaim): { id: string; payload: string } {
  assertKnown(claim, KNOWN);
  if (claim instanceof Promise)
    throw new TypeError('legacy must answer at once: `lookup` may wait');
  const payload = claim.hashed ?? text;
  return { id: legacyId(hash('sha256', payload, 'base64url')), payload };
}

/** @throws ApiKeysError `ERR_API_KEYS_INVALID` for anything but 32 bytes. */
export function importedDigest(sha256: string): string {
  const encoding = HEX.test(sha256) ? 'hex' : 'base64url';
  if (typeof sha256 !== 'string' || !(encoding === 'hex' || BASE64.test(sha256))) {
    throw new ApiKeysError(
      'ERR_API_KEYS_INVALID',
      'sha256 must be 32 bytes as hex, base64 or base64url',
    );
  }
  return Buffer.from(sha256, encoding).toString('base64url');
}
