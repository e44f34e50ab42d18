import { timeOf } from './clock.ts';
import { JwtError } from './errors.ts';
import { assertFunction, assertKnown, positive } from './options.ts';
import type { DenylistStore, DpopReplayStore } from './store.ts';

export interface MemoryStoreOptions {
  /** Default 100000. What does not fit is refused, never forgotten early. */
  readonly maxEntries?: number;
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: () => number;
}

/** Revoked tokens in this process only. @throws JwtError `ERR_JWT_DENYLIST_FULL` (from `add`) when there is no room */
export function memoryDenylistStore(options: MemoryStoreOptions = {}): DenylistStore {
  const entries = expiringSet(options);
  return {
    add(id, ttlMs) {
      if (entries.extend(id, ttlMs) === 'full')
        throw new JwtError('ERR_JWT_DENYLIST_FULL', 'The denylist has no room left');
    },
    has: (id) => entries.has(id),
  };
}

/** Used DPoP proofs in this process only. When there is no room, proofs are refused until some have expired. */
export function memoryDpopReplayStore(options: MemoryStoreOptions = {}): DpopReplayStore {
  const entries = expiringSet(options);
  return {
    claim(id, ttlMs) {
      if (entries.has(id)) return false;
      if (entries.extend(id, ttlMs) === 'full')
        throw new JwtError('ERR_JWT_REPLAY_STORE_UNAVAILABLE', 'No room for another DPoP proof');
      return true;
    },
  };
}

interface ExpiringSet {
  has(id: string): boolean;
  extend(id: string, ttlMs: number): 'kept' | 'full';
}

function expiringSet(options: MemoryStoreOptions): ExpiringSet {
  assertKnown('store option', options, ['maxEntries', 'now']);
  const { now = Date.now } = options;
  assertFunction('now', now);
  const maxEntries = positive('maxEntries', options.maxEntries ?? 100_000);
  const expiresAtMs = new Map<string, number>();
  let sweepAgainAtMs = 0;

  /** All of them at once, but at most every second: a full set must not be walked for each request of a flood. */
  function sweep(nowMs: number): void {
    if (nowMs < sweepAgainAtMs && sweepAgainAtMs - nowMs <= 1000) return;
    sweepAgainAtMs = nowMs + 1000;
    for (const [id, at] of expiresAtMs) {
      if (at <= nowMs) expiresAtMs.delete(id);
    }
  }

  return {
    has(id) {
      const at = expiresAtMs.get(id);
      if (at === undefined) return false;
      if (at > timeOf(now)) return true;
      expiresAtMs.delete(id);
      return false;
    },
    extend(id, ttlMs) {
      const nowMs = timeOf(now);
      const before = expiresAtMs.get(id);
      if (before === undefined && expiresAtMs.size >= maxEntries) sweep(nowMs);
      if (before === undefined && expiresAtMs.size >= maxEntries) return 'full';
      expiresAtMs.set(id, Math.max(before ?? 0, nowMs + ttlMs));
      return 'kept';
    },
  };
}
