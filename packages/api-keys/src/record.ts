/** A limit declared on a key: the name of one of the limiter's policies, or numbers of its own. */
export type KeyRateLimit =
  | { readonly policy: string }
  | { readonly limit: number; readonly windowSeconds: number };

/** What is known of a key. Never the key itself, nor its digest. Frozen: every change makes a new record. */
export interface KeyRecord {
  readonly id: string;
  /** The first characters, to recognise the key in a list: `sk-live-4fK9aZ0q`. No part of the secret. */
  readonly display: string;
  readonly environment: string;
  readonly owner: string;
  readonly scopes: readonly string[];
  /** Patterns of what the key may act on; absent: everything its scopes allow. */
  readonly resources?: readonly string[];
  /** Declared here, charged by the rate limiter once everything else has passed. */
  readonly rateLimit?: KeyRateLimit;
  /** How often the key may be used at all; declared here, charged by the rate limiter. */
  readonly maxUses?: number;
  /** Addresses and CIDR ranges that the key may be used from; absent: everywhere. */
  readonly ipAllowlist?: readonly string[];
  readonly metadata?: Readonly<Record<string, string>>;
  readonly createdAtMs: number;
  /** Absent only where `maxAgeDays: 'unlimited'` allowed a key that never expires. */
  readonly expiresAtMs?: number;
  readonly rotatedAtMs?: number;
  readonly revokedAtMs?: number;
  readonly revokedReason?: string;
  /** To the minute. */
  readonly lastUsedAtMs?: number;
  readonly successorId?: string;
  readonly predecessorId?: string;
  /** Which pepper its digest was made with; absent: plain SHA-256. */
  readonly pepperId?: string;
  /** A key in somebody else's format, adopted or imported. */
  readonly legacy?: true;
}

/** A record and the digest that proves its key: what stores keep. */
export interface StoredKey {
  readonly record: KeyRecord;
  /** base64url, 43 characters. */
  readonly digest: string;
}

/** Writes a change down as a new, frozen record. */
export function amend(record: KeyRecord, change: Partial<KeyRecord>): KeyRecord {
  return Object.freeze({ ...record, ...change });
}
