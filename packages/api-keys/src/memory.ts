import { assertKnown, type OptionNames } from '@countersign/options';
import type { AuditEntry } from './audit.ts';
import { ApiKeysError } from './errors.ts';
import { assertCount } from './options.ts';
import { amend, type KeyRecord, type StoredKey } from './record.ts';
import type { ApiKeyStore, ChangeListener, Page, PageRequest } from './store.ts';
import { pageLimit, rotationRefusal } from './store.ts';

export interface MemoryApiKeyStoreOptions {
  /** Keys kept at most; `create` is refused beyond it. Default 100 000. */
  readonly maxKeys?: number;
  /** How long an expired key's record is kept, in ms. Default 30 days. */
  readonly retentionMs?: number;
  /** Trail entries kept per key; the oldest go first. Default 100. */
  readonly maxTrail?: number;
}

interface Slot {
  stored: StoredKey;
  /** Newest last. */
  readonly trail: AuditEntry[];
}

const KNOWN: OptionNames<MemoryApiKeyStoreOptions> = {
  maxKeys: true,
  retentionMs: true,
  maxTrail: true,
};

/**
 * A store in this process's memory: for tests, tools and services of one process. Gone when the process is.
 * @throws TypeError for options that cannot work.
 */
export function memoryApiKeyStore(options: MemoryApiKeyStoreOptions = {}): ApiKeyStore {
  assertKnown(options, KNOWN);
  const maxKeys = assertCount('maxKeys', options.maxKeys ?? 100_000, 1);
  const retentionMs = assertCount('retentionMs', options.retentionMs ?? 30 * 86_400_000);
  const maxTrail = assertCount('maxTrail', options.maxTrail ?? 100, 1);
  const slots = new Map<string, Slot>();
  const owners = new Map<string, Set<string>>();
  const listeners = new Set<ChangeListener>();

  function insert(stored: StoredKey): boolean {
    const { id, owner, createdAtMs } = stored.record;
    if (slots.has(id)) return false;
    if (slots.size >= maxKeys) purge(createdAtMs);
    if (slots.size >= maxKeys) {
      throw new ApiKeysError(
        'ERR_API_KEYS_STORE_FULL',
        `the store holds its ${maxKeys} keys (maxKeys)`,
      );
    }
    slots.set(id, { stored, trail: [] });
    const owned = owners.get(owner);
    if (owned) owned.add(id);
    else owners.set(owner, new Set([id]));
    return true;
  }

  // Legacy records stay: without its record, a revoked legacy key would be looked up, and adopted, again.
  function purge(nowMs: number): void {
    for (const [id, { stored }] of slots) {
      const { expiresAtMs, legacy, owner } = stored.record;
      if (legacy || expiresAtMs === undefined || expiresAtMs + retentionMs > nowMs) continue;
      slots.delete(id);
      owners.get(owner)?.delete(id);
      if (owners.get(owner)?.size === 0) owners.delete(owner);
    }
  }

  function change(slot: Slot, patch: Partial<KeyRecord>): KeyRecord {
    const record = amend(slot.stored.record, patch);
    slot.stored = { record, digest: slot.stored.digest };
    for (const listener of listeners) listener({ id: record.id });
    return record;
  }

  function note(slot: Slot | undefined, entry: AuditEntry | undefined): void {
    if (!slot || !entry) return;
    slot.trail.push(entry);
    if (slot.trail.length > maxTrail) slot.trail.shift();
  }

  return {
    async create(stored, audit) {
      if (!insert(stored)) return false;
      note(slots.get(stored.record.id), audit);
      for (const listener of listeners) listener({ id: stored.record.id });
      return true;
    },
    find: (id) => slots.get(id)?.stored,
    async rotate(id, { successor, atMs, overlapEndsAtMs, audit }) {
      const slot = slots.get(id);
      if (!slot) return { status: 'not_found' };
      const refusal = rotationRefusal(slot.stored.record, atMs);
      if (refusal) return { status: refusal };
      if (!insert(successor)) return { status: 'id_taken' };
      note(slot, audit);
      const record = change(slot, {
        rotatedAtMs: atMs,
        successorId: successor.record.id,
        expiresAtMs: Math.min(slot.stored.record.expiresAtMs ?? overlapEndsAtMs, overlapEndsAtMs),
      });
      return { status: 'rotated', record };
    },
    async revoke(id, { atMs, reason, audit }) {
      const slot = slots.get(id);
      if (!slot || slot.stored.record.revokedAtMs !== undefined) return slot?.stored.record;
      note(slot, audit);
      return change(slot, { revokedAtMs: atMs, revokedReason: reason });
    },
    async rehash(id, from, { digest, pepperId }) {
      const slot = slots.get(id);
      if (slot?.stored.digest !== from) return false;
      const { pepperId: _, ...rest } = slot.stored.record;
      const record = Object.freeze(pepperId === undefined ? rest : { ...rest, pepperId });
      slot.stored = { record, digest };
      return true;
    },
    async touch(id, atMs, intervalMs, audit) {
      const slot = slots.get(id);
      if (!slot) return false;
      const { lastUsedAtMs } = slot.stored.record;
      if (lastUsedAtMs !== undefined && atMs - lastUsedAtMs < intervalMs) return false;
      slot.stored = {
        record: amend(slot.stored.record, { lastUsedAtMs: atMs }),
        digest: slot.stored.digest,
      };
      note(slot, audit);
      return true;
    },
    async list(owner, page) {
      const ids = [...(owners.get(owner) ?? [])];
      return pageOf(
        ids.map((id) => recordOf(slots, id)),
        (record) => record.createdAtMs,
        page,
      );
    },
    async expiring(fromMs, untilMs, page) {
      const due: KeyRecord[] = [];
      for (const { stored } of slots.values()) {
        const { expiresAtMs } = stored.record;
        if (expiresAtMs !== undefined && expiresAtMs >= fromMs && expiresAtMs < untilMs)
          due.push(stored.record);
      }
      return pageOf(due, (record) => record.expiresAtMs ?? 0, page);
    },
    async append(entry) {
      note(slots.get(entry.id), entry);
    },
    async trail(id, limit) {
      return (slots.get(id)?.trail ?? []).slice(-limit).reverse();
    },
    subscribe(listener) {
      listeners.add(listener);
      return () => listeners.delete(listener);
    },
  };
}

function recordOf(slots: ReadonlyMap<string, Slot>, id: string): KeyRecord {
  return (slots.get(id) as Slot).stored.record;
}

/** Cursors name the last record given, so that a page stays right when records come and go between two calls. */
function pageOf(
  records: readonly KeyRecord[],
  positionMs: (record: KeyRecord) => number,
  { limit, cursor = '' }: PageRequest,
): Page {
  const size = pageLimit(limit);
  const ordered = records
    .map(
      (record) => [`${String(positionMs(record)).padStart(16, '0')}.${record.id}`, record] as const,
    )
    .filter(([position]) => position > cursor)
    .sort(([a], [b]) => (a < b ? -1 : 1));
  const part = ordered.slice(0, size);
  const last = part.at(-1);
  return {
    records: part.map(([, record]) => record),
    ...(last && ordered.length > size && { cursor: last[0] }),
  };
}
