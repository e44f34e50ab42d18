import { randomUUID } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import { WebhookError } from './errors.ts';
import type { ReplayStore } from './store.ts';

export interface MemoryReplayStoreOptions {
  /**
   * How many ids are remembered; default 100,000 (some 20 MB). When it is full, the id that was completed longest ago
   * is forgotten; one that is being processed never is, and when all are, `claim` fails.
   */
  readonly maxEntries?: number;
  /** The clock, in milliseconds. Default `Date.now`. */
  readonly now?: () => number;
}

const known: OptionNames<MemoryReplayStoreOptions> = { maxEntries: true, now: true };

interface Entry {
  /** Absent once completed. */
  readonly token?: string;
  readonly endsAtMs: number;
}

/** A replay store for one process, without timers. It forgets everything when the process ends. */
export function memoryReplayStore(options: MemoryReplayStoreOptions = {}): ReplayStore {
  assertKnown(options, known);
  const { maxEntries = 100_000, now = Date.now } = options;
  if (!(Number.isInteger(maxEntries) && maxEntries >= 1)) {
    throw new TypeError('maxEntries must be a whole number above 0');
  }
  const claimed = new Map<string, Entry>();
  // In the order of completion: the first is the oldest.
  const completed = new Map<string, Entry>();

  function live(entries: Map<string, Entry>, id: string): Entry | undefined {
    const entry = entries.get(id);
    if (!entry || entry.endsAtMs > now()) return entry;
    entries.delete(id);
    return undefined;
  }

  function makeRoom(): void {
    if (claimed.size + completed.size < maxEntries) return;
    const oldest = completed.keys().next();
    if (!oldest.done) {
      completed.delete(oldest.value);
      return;
    }
    for (const id of claimed.keys()) live(claimed, id);
    if (claimed.size < maxEntries) return;
    throw new WebhookError(
      'ERR_WEBHOOKS_STORE_FAILED',
      `all ${maxEntries} entries of the replay store are being processed`,
    );
  }

  return {
    async claim(id, leaseMs) {
      if (live(completed, id)) return { status: 'completed' };
      const held = live(claimed, id);
      if (held) return { status: 'processing', retryAfterMs: held.endsAtMs - now() };
      makeRoom();
      const token = randomUUID();
      claimed.set(id, { token, endsAtMs: now() + leaseMs });
      return { status: 'claimed', token };
    },
    async renew(id, token, leaseMs) {
      if (live(claimed, id)?.token !== token) return false;
      claimed.set(id, { token, endsAtMs: now() + leaseMs });
      return true;
    },
    async complete(id, token, ttlMs) {
      const held = live(claimed, id);
      if ((held && held.token !== token) || live(completed, id)) return false;
      claimed.delete(id);
      if (!held) makeRoom();
      completed.set(id, { endsAtMs: now() + ttlMs });
      return true;
    },
    async release(id, token) {
      if (live(claimed, id)?.token !== token) return false;
      return claimed.delete(id);
    },
  };
}
