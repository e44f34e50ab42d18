import type { AuditEntry } from './audit.ts';
import { ApiKeysError } from './errors.ts';
import type { KeyRecord, StoredKey } from './record.ts';

/** A part of a list. */
export interface Page {
  readonly records: readonly KeyRecord[];
  /** Ask for the next part with it; absent on the last one. */
  readonly cursor?: string;
}

export interface PageRequest {
  /** Records per page, 1 to 1000. Default 100. */
  readonly limit?: number;
  readonly cursor?: string;
}

/** @throws ApiKeysError `ERR_API_KEYS_INVALID` for a page of no or too many records. */
export function pageLimit(limit = 100): number {
  if (Number.isSafeInteger(limit) && limit >= 1 && limit <= 1000) return limit;
  throw new ApiKeysError('ERR_API_KEYS_INVALID', 'limit must be a whole number from 1 to 1000');
}

/** Replaces a key by its successor. */
export interface Rotation {
  readonly successor: StoredKey;
  readonly atMs: number;
  /** When the overlap ends. The store never moves the old key's own expiry later because of it. */
  readonly overlapEndsAtMs: number;
  readonly audit?: AuditEntry;
}

export interface Revocation {
  readonly atMs: number;
  readonly reason: string;
  readonly audit?: AuditEntry;
}

export type RotationOutcome =
  | { readonly status: 'rotated'; readonly record: KeyRecord }
  | { readonly status: 'not_found' | 'revoked' | 'expired' | 'already_rotated' | 'id_taken' };

/** Why a key cannot be rotated; the order matters to whoever asks what to do instead. */
export function rotationRefusal(
  { revokedAtMs, successorId, expiresAtMs = Number.POSITIVE_INFINITY }: KeyRecord,
  atMs: number,
): 'revoked' | 'already_rotated' | 'expired' | undefined {
  if (revokedAtMs !== undefined) return 'revoked';
  if (successorId !== undefined) return 'already_rotated';
  return expiresAtMs <= atMs ? 'expired' : undefined;
}

/** What a store tells of changes made by anyone: a key to forget, or all of them (messages may have been lost). */
export type ChangeListener = (change: { readonly id: string } | 'all') => void;

/**
 * Where records live. Each operation is atomic; none is "get, then set". Run the contract suite
 * (`@countersign/api-keys/store-contract`) against your own.
 */
export interface ApiKeyStore {
  /** Adds a key; false, and no change, when the id exists. */
  create(key: StoredKey, audit?: AuditEntry): Promise<boolean>;
  /** May answer at once where it needs no I/O. */
  find(id: string): StoredKey | undefined | Promise<StoredKey | undefined>;
  /** All or nothing; the old key's expiry becomes the earlier of its own and the end of the overlap. */
  rotate(id: string, rotation: Rotation): Promise<RotationOutcome>;
  /** The first revocation stands; the record as it is afterwards, `undefined` when there is none. */
  revoke(id: string, revocation: Revocation): Promise<KeyRecord | undefined>;
  /** Replaces the digest if it is still `from`. */
  rehash(id: string, from: string, to: { digest: string; pepperId?: string }): Promise<boolean>;
  /** Notes a use, unless one was noted less than `intervalMs` ago. True when it did. */
  touch(id: string, atMs: number, intervalMs: number, audit?: AuditEntry): Promise<boolean>;
  /** The owner's keys in the order of their creation. */
  list(owner: string, page: PageRequest): Promise<Page>;
  /** Keys in the order of their expiry, among those that expire from `fromMs` until before `untilMs`. */
  expiring(fromMs: number, untilMs: number, page: PageRequest): Promise<Page>;
  /** Adds to a key's trail (nothing, when there is no such key). */
  append(entry: AuditEntry): Promise<void>;
  /** A key's trail, newest first. */
  trail(id: string, limit: number): Promise<readonly AuditEntry[]>;
  /** Reports changes as they happen, to this process and all others. Returns how to stop. */
  readonly subscribe?: (listener: ChangeListener) => () => void;
  close?(): Promise<void>;
}
