import { hash } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import { assertCount } from './options.ts';
import type { KeyRecord } from './record.ts';

/** The cache of keys that were verified a moment ago. */
export interface KeyCacheOptions {
  /** How long an answer is used at most, in ms; nothing is ever used beyond it. Default 5000. */
  readonly ttlMs?: number;
  /** Verified keys kept. Default 10 000. */
  readonly maxEntries?: number;
  /** Texts known to be no key of ours kept, so that a client retrying a dead key costs nothing. Default 1000. */
  readonly maxNegativeEntries?: number;
}

/** A key that was verified, and the fingerprint of the text that proved it. */
export interface Remembered {
  readonly fingerprint: string;
  readonly record: KeyRecord;
}

interface Entry extends Remembered {
  readonly sinceMs: number;
}

/**
 * Maps ids to records, for whoever presents the very text that was verified before. It holds fingerprints
 * (SHA-256) of keys, never keys.
 */
export interface KeyCache {
  /** What is known of this id, to whoever presents a text of that fingerprint. */
  get(id: string, nowMs: number): Remembered | undefined;
  isUnknown(fingerprint: string, nowMs: number): boolean;
  /** To be taken before the store is read; see `fill`. */
  fence(): number;
  /**
   * Keeps what the store said, unless something was evicted since the fence was taken: the store may have been
   * read before the change that the eviction tells of, and the fill must not bring the old record back.
   * @param sinceMs - when the reading began: the entry's life counts from there.
   */
  fill(fence: number, fingerprint: string, record: KeyRecord | undefined, sinceMs: number): void;
  evict(id: string): void;
  flush(): void;
}

/** What the cache knows a presented text by. Cheaper in hex than as a Buffer, and never a slice of the key. */
export function fingerprintOf(text: string): string {
  return hash('sha256', text, 'hex');
}

const KNOWN: OptionNames<KeyCacheOptions> = {
  ttlMs: true,
  maxEntries: true,
  maxNegativeEntries: true,
};

/** @throws TypeError for what is no option, and for a number that is not a whole number in its range. */
export function keyCache(options: KeyCacheOptions): KeyCache {
  assertKnown(options, KNOWN);
  const ttlMs = assertCount('cache.ttlMs', options.ttlMs ?? 5_000);
  const maxEntries = assertCount('cache.maxEntries', options.maxEntries ?? 10_000);
  const maxNegativeEntries = assertCount(
    'cache.maxNegativeEntries',
    options.maxNegativeEntries ?? 1_000,
  );
  const known = new Map<string, Entry>();
  const unknown = new Map<string, number>();
  let evictions = 0;
  // A clock that was set back must not prolong anything.
  const fresh = (sinceMs: number, nowMs: number): boolean =>
    nowMs >= sinceMs && nowMs - sinceMs < ttlMs;
  return {
    get(id, nowMs) {
      const entry = known.get(id);
      if (!entry || fresh(entry.sinceMs, nowMs)) return entry;
      known.delete(id);
      return undefined;
    },
    isUnknown(fingerprint, nowMs) {
      const sinceMs = unknown.get(fingerprint);
      if (sinceMs === undefined) return false;
      if (fresh(sinceMs, nowMs)) return true;
      unknown.delete(fingerprint);
      return false;
    },
    fence: () => evictions,
    fill(fence, fingerprint, record, sinceMs) {
      if (fence !== evictions) return;
      if (record) insert(known, record.id, { fingerprint, record, sinceMs }, maxEntries);
      else insert(unknown, fingerprint, sinceMs, maxNegativeEntries);
    },
    evict(id) {
      evictions += 1;
      known.delete(id);
      unknown.clear(); // an id may just have come into being: an imported or adopted key
    },
    flush() {
      evictions += 1;
      known.clear();
      unknown.clear();
    },
  };
}

function insert<V>(map: Map<string, V>, key: string, value: V, maxEntries: number): void {
  map.delete(key);
  map.set(key, value);
  if (map.size <= maxEntries) return;
  for (const oldest of map.keys()) {
    map.delete(oldest);
    break;
  }
}
