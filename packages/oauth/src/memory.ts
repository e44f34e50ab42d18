import { assertKnown, type OptionNames } from '@countersign/options';
import { bound } from './bound.ts';
import { assertClock } from './options.ts';
import type { TokenStore } from './store.ts';

interface Entry {
  value?: string;
  generation: number;
  valueUntilMs: number;
  lease?: { owner: string; untilMs: number };
  intent?: { owner: string; atMs: number };
  refused?: { reason: string; untilMs: number };
}

export interface MemoryTokenStoreOptions {
  /** Default 10,000; the least recently used entry goes first. */
  readonly maxEntries?: number;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
}

const names: OptionNames<MemoryTokenStoreOptions> = { maxEntries: true, now: true };

/** Shares tokens between the sources of one process, and forgets them with it. */
export function memoryTokenStore(options: MemoryTokenStoreOptions = {}): TokenStore {
  assertKnown(options, names);
  const { now = Date.now } = options;
  assertClock(now);
  const maxEntries = bound(options, 'maxEntries', 10_000);
  const entries = new Map<string, Entry>();

  const open = (key: string): Entry => {
    const entry = entries.get(key) ?? { generation: 0, valueUntilMs: 0 };
    entries.delete(key);
    entries.set(key, entry);
    const oldest = entries.size > maxEntries ? entries.keys().next().value : undefined;
    if (oldest !== undefined) entries.delete(oldest);
    if (entry.value !== undefined && entry.valueUntilMs <= now()) delete entry.value;
    return entry;
  };

  return {
    claim: async (key, { owner, leaseMs, generation, journal, takeOverWithinMs = 0 }) => {
      const entry = open(key);
      const { value, lease, intent, refused } = entry;
      const nowMs = now();
      if (value !== undefined && entry.generation > generation) {
        const remainingMs = entry.valueUntilMs - nowMs;
        return { status: 'current', value, generation: entry.generation, remainingMs };
      }
      if (lease && lease.owner !== owner && lease.untilMs > nowMs) {
        return { status: 'held', remainingMs: lease.untilMs - nowMs };
      }
      if (intent && intent.owner !== owner && nowMs - intent.atMs >= takeOverWithinMs) {
        return { status: 'ambiguous', sinceMs: intent.atMs };
      }
      if (refused && refused.untilMs > nowMs) {
        return { status: 'refused', reason: refused.reason, remainingMs: refused.untilMs - nowMs };
      }
      entry.lease = { owner, untilMs: nowMs + leaseMs };
      if (journal) entry.intent ??= { owner, atMs: nowMs };
      const known = { status: 'claimed', generation: entry.generation } as const;
      return value === undefined ? known : { ...known, value };
    },
    complete: async (key, { owner, value, ttlMs, generation }) => {
      const entry = open(key);
      const holder = holderOf(entry);
      if (holder === undefined ? entry.generation > generation : holder !== owner) return undefined;
      entry.generation = Math.max(entry.generation, generation) + 1;
      entry.value = value;
      entry.valueUntilMs = now() + ttlMs;
      settle(entry);
      return entry.generation;
    },
    release: async (key, { owner, refused, keepIntent }) => {
      const entry = open(key);
      if (holderOf(entry) !== owner) return;
      delete entry.lease;
      if (keepIntent) return;
      // Of an intent that was taken over nothing new is known.
      if (entry.intent?.owner === owner) delete entry.intent;
      delete entry.refused;
      if (refused) entry.refused = { reason: refused.reason, untilMs: now() + refused.ttlMs };
    },
  };
}

/** Whose turn it is, or was, when nobody has taken it since. */
function holderOf({ lease, intent }: Entry): string | undefined {
  return lease?.owner ?? intent?.owner;
}

function settle(entry: Entry): void {
  delete entry.lease;
  delete entry.intent;
  delete entry.refused;
}
