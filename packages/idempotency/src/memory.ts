import { IdempotencyError } from './errors.ts';
import type { Begun, Claim, HeldClaim, IdempotencyStore } from './store.ts';

/** Options of {@link memoryIdempotencyStore}. */
export interface MemoryStoreOptions {
  /** Records at most; default 100,000. */
  readonly maxEntries?: number;
  /** Bytes of ids, fingerprints and payloads at most, with 200 bytes added per record; default 64 MiB. */
  readonly maxBytes?: number;
  /** Milliseconds since the epoch; default `Date.now`. */
  readonly now?: () => number;
}

/** The store of one process, with a look at how full it is. */
export interface MemoryIdempotencyStore extends IdempotencyStore {
  readonly entries: number;
  readonly bytes: number;
}

interface MemoryRecord {
  readonly state: 'processing' | 'unknown' | 'completed' | 'released';
  readonly fence: number;
  readonly fingerprint: string;
  readonly expiresAt: number;
  /** Of a processing record. */
  readonly owner?: string;
  readonly leaseUntil?: number;
  readonly recovered?: boolean;
  /** Of a completed record. */
  readonly payload?: Uint8Array;
}

const overheadBytes = 200;
const nothing = new Uint8Array();

/**
 * Keeps records in this process: for a single process, and for tests. A restart forgets them.
 * It never drops a record before its time, which would allow a second execution: when it is full, `begin` rejects with
 * `ERR_IDEMPOTENCY_STORE_FULL`, and a payload that finds no room is left out of its record.
 */
export function memoryIdempotencyStore(options: MemoryStoreOptions = {}): MemoryIdempotencyStore {
  const { maxEntries = 100_000, maxBytes = 64 * 1024 * 1024, now = Date.now } = options;
  if (!(Number.isSafeInteger(maxEntries) && maxEntries > 0)) {
    throw new TypeError('maxEntries: expected a positive integer');
  }
  if (!(Number.isSafeInteger(maxBytes) && maxBytes > 0)) {
    throw new TypeError('maxBytes: expected a positive integer');
  }
  // In the order of their last change, which is the order of expiry as long as all have the same TTL.
  const records = new Map<string, MemoryRecord>();
  let bytes = 0;
  let sweptAt = Number.NEGATIVE_INFINITY;

  const drop = (id: string, record: MemoryRecord): void => {
    records.delete(id);
    bytes -= sizeOf(id, record);
  };
  const find = (id: string): MemoryRecord | undefined => {
    const record = records.get(id);
    if (!record || record.expiresAt > now()) return record;
    drop(id, record);
    return undefined;
  };
  const put = (id: string, record: MemoryRecord): void => {
    const before = records.get(id);
    if (before) drop(id, before);
    records.set(id, record);
    bytes += sizeOf(id, record);
  };
  const dropExpired = (): void => {
    const time = now();
    for (const [id, record] of records) {
      if (record.expiresAt > time) break;
      drop(id, record);
    }
    const isFull = records.size >= maxEntries || bytes >= maxBytes;
    // Records of a shorter TTL may hide behind longer ones; looking at all of them is dear, so once per second.
    if (!isFull || time - sweptAt < 1000) return;
    sweptAt = time;
    for (const [id, record] of records) if (record.expiresAt <= time) drop(id, record);
  };
  const acquire = (claim: Claim, before: MemoryRecord | undefined, recovered: boolean): Begun => {
    if (!before) {
      dropExpired();
      const bytesAfter = bytes + overheadBytes + claim.id.length + claim.fingerprint.length;
      if (records.size >= maxEntries || bytesAfter > maxBytes) {
        throw new IdempotencyError('ERR_IDEMPOTENCY_STORE_FULL', 'the memory store is full');
      }
    }
    const fence = Math.max((before?.fence ?? 0) + 1, Math.floor(now()));
    put(claim.id, processing(claim, fence, recovered, now()));
    return { state: 'acquired', fence, recovered };
  };
  const begin = (claim: Claim, takeover: boolean): Begun => {
    const record = find(claim.id);
    if (!record || record.state === 'released') return acquire(claim, record, false);
    if (record.owner === claim.owner) {
      const { fence, recovered = false } = record;
      return { state: 'acquired', fence, recovered };
    }
    if (record.fingerprint !== claim.fingerprint) return { state: 'mismatch' };
    if (record.state === 'completed') {
      const { payload = nothing, expiresAt } = record;
      return { state: 'completed', payload, expiresInMs: expiresAt - now() };
    }
    if (record.leaseUntil !== undefined && record.leaseUntil > now())
      return { state: 'processing' };
    return takeover ? acquire(claim, record, true) : { state: 'unknown', fence: record.fence };
  };
  /** Changes the claim's own record. Saying the same again is no change, and true. */
  const change = (
    { id, owner, fence }: HeldClaim,
    next: (record: MemoryRecord | undefined) => MemoryRecord | undefined,
    already: readonly MemoryRecord['state'][] = [],
  ): boolean => {
    const record = find(id);
    if (record && record.owner !== owner) {
      return record.fence === fence && already.includes(record.state);
    }
    const changed = next(record);
    if (changed) put(id, changed);
    return true;
  };

  return {
    get entries() {
      return records.size;
    },
    get bytes() {
      return bytes;
    },
    begin: async (claim, { takeover }) => begin(claim, takeover),
    renew: async (claim) =>
      change(claim, (record) => processing(claim, claim.fence, record?.recovered ?? false, now())),
    complete: async (claim, payload) => {
      dropExpired();
      const fits = bytes + payload.byteLength <= maxBytes;
      // A copy: a small buffer may be a slice of a pool, all of which would live as long as the record.
      const kept = fits ? new Uint8Array(payload) : nothing;
      const completed = settled(claim, 'completed', now(), kept);
      return change(claim, () => completed, ['completed']);
    },
    release: async (claim) =>
      change(
        claim,
        (record) => {
          if (!record) return undefined;
          const { fence, recovered } = record; // its owner may never have learned the fence
          return settled({ ...claim, fence }, recovered ? 'unknown' : 'released', now());
        },
        ['released', 'unknown'],
      ),
    abandon: async (claim) => change(claim, () => settled(claim, 'unknown', now()), ['unknown']),
  };
}

function processing(claim: Claim, fence: number, recovered: boolean, time: number): MemoryRecord {
  const { owner, fingerprint, leaseMs, ttlMs } = claim;
  return {
    state: 'processing',
    fence,
    fingerprint,
    owner,
    recovered,
    leaseUntil: time + leaseMs,
    expiresAt: time + ttlMs,
  };
}

function settled(
  claim: HeldClaim,
  state: 'unknown' | 'completed' | 'released',
  time: number,
  payload: Uint8Array = nothing,
): MemoryRecord {
  const { fence, fingerprint, leaseMs, ttlMs } = claim;
  const keptMs = state === 'released' ? leaseMs : ttlMs;
  return { state, fence, fingerprint, expiresAt: time + keptMs, payload };
}

function sizeOf(id: string, { fingerprint, payload = nothing }: MemoryRecord): number {
  return overheadBytes + id.length + fingerprint.length + payload.byteLength;
}
