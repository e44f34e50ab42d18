import { assertKnown, type OptionNames } from '@countersign/options';
import { IdempotencyError } from './errors.ts';
import { assertFunction } from './options.ts';
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

type State = 'processing' | 'unknown' | 'completed' | 'released';

/** Changed in place: a record that is put anew would be garbage twice. */
interface MemoryRecord {
  state: State;
  readonly fence: number;
  readonly fingerprint: string;
  expiresAt: number;
  /** Of a processing record; empty otherwise. */
  owner: string;
  leaseUntil: number;
  readonly recovered: boolean;
  /** Of a completed record, a character for each byte; empty otherwise. A string takes 180 bytes less than a buffer. */
  payload: string;
}

const overheadBytes = 200;
const known: OptionNames<MemoryStoreOptions> = { maxEntries: true, maxBytes: true, now: true };

/**
 * Keeps records in this process: for a single process, and for tests. A restart forgets them.
 * It never drops a record before its time, which would allow a second execution: when it is full, `begin` rejects with
 * `ERR_IDEMPOTENCY_STORE_FULL`, and a payload that finds no room is left out of its record.
 * @throws TypeError naming the option that is wrong, or that there is not.
 */
export function memoryIdempotencyStore(options: MemoryStoreOptions = {}): MemoryIdempotencyStore {
  assertKnown(options, known);
  const { maxEntries = 100_000, maxBytes = 64 * 1024 * 1024, now = Date.now } = options;
  if (!(Number.isSafeInteger(maxEntries) && maxEntries > 0)) {
    throw new TypeError('maxEntries: expected a positive integer');
  }
  if (!(Number.isSafeInteger(maxBytes) && maxBytes > 0)) {
    throw new TypeError('maxBytes: expected a positive integer');
  }
  assertFunction('now', now);
  // In the order of their last beginning or renewal: nearly that of expiry, as long as all have the same TTL.
  const records = new Map<string, MemoryRecord>();
  let bytes = 0;
  let sweptAt = Number.NEGATIVE_INFINITY;

  const drop = (id: string, record: MemoryRecord): void => {
    records.delete(id);
    bytes -= sizeOf(id, record);
  };
  const find = (id: string, time: number): MemoryRecord | undefined => {
    const record = records.get(id);
    if (!record || record.expiresAt > time) return record;
    drop(id, record);
    return undefined;
  };
  const add = (claim: Claim, fence: number, recovered: boolean, time: number): MemoryRecord => {
    const { id, owner, fingerprint, leaseMs, ttlMs } = claim;
    const record: MemoryRecord = {
      state: 'processing',
      fence,
      fingerprint,
      owner,
      recovered,
      leaseUntil: time + leaseMs,
      expiresAt: time + ttlMs,
      payload: '',
    };
    records.set(id, record);
    bytes += sizeOf(id, record);
    return record;
  };
  /** Drops what has expired. False: it does not fit all the same. */
  const makeRoom = (time: number, fits: () => boolean): boolean => {
    for (const [id, record] of records) {
      if (record.expiresAt > time) break;
      drop(id, record);
    }
    // Records that expire earlier may hide behind others; looking at all of them is dear, so once per second.
    if (fits() || time - sweptAt < 1000) return fits();
    sweptAt = time;
    for (const [id, record] of records) if (record.expiresAt <= time) drop(id, record);
    return fits();
  };
  const acquire = (claim: Claim, before: MemoryRecord | undefined, recovered: boolean): Begun => {
    const time = now();
    if (before) drop(claim.id, before);
    else {
      const size = overheadBytes + claim.id.length + claim.fingerprint.length;
      const fits = (): boolean => records.size < maxEntries && bytes + size <= maxBytes;
      if (!makeRoom(time, fits)) {
        throw new IdempotencyError('ERR_IDEMPOTENCY_STORE_FULL', 'the memory store is full');
      }
    }
    const fence = Math.max((before?.fence ?? 0) + 1, Math.floor(time));
    add(claim, fence, recovered, time);
    return { state: 'acquired', fence, recovered };
  };
  const begin = (claim: Claim, takeover: boolean): Begun => {
    const time = now();
    const record = find(claim.id, time);
    if (!record || record.state === 'released') return acquire(claim, record, false);
    const { fence, recovered, payload, expiresAt } = record;
    if (record.owner === claim.owner) return { state: 'acquired', fence, recovered };
    if (record.fingerprint !== claim.fingerprint) return { state: 'mismatch' };
    if (record.state === 'completed') {
      return {
        state: 'completed',
        payload: Buffer.from(payload, 'latin1'),
        expiresInMs: expiresAt - time,
      };
    }
    if (record.leaseUntil > time) return { state: 'processing' };
    return takeover ? acquire(claim, record, true) : { state: 'unknown', fence };
  };
  /** The claim's own record; true or false when there is nothing to change and that is the answer. */
  const own = (claim: HeldClaim, wanted: State, time: number): MemoryRecord | boolean => {
    const record = find(claim.id, time);
    if (!record) return wanted === 'released' || add(claim, claim.fence, false, time);
    if (record.owner === claim.owner) return record;
    // Saying the same again is no change, and true.
    const isSaidAgain =
      (wanted !== 'processing' && record.state === wanted) ||
      (wanted === 'released' && record.state === 'unknown');
    return record.fence === claim.fence && isSaidAgain;
  };
  const settle = (claim: HeldClaim, wanted: State, payload = ''): boolean => {
    const time = now();
    const record = own(claim, wanted, time);
    if (typeof record === 'boolean') return record;
    const state = wanted === 'released' && record.recovered ? 'unknown' : wanted;
    record.state = state;
    record.owner = '';
    record.leaseUntil = 0;
    record.expiresAt = time + (state === 'released' ? claim.leaseMs : claim.ttlMs);
    record.payload = payload;
    bytes += payload.length;
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
    renew: async (claim) => {
      const time = now();
      const record = own(claim, 'processing', time);
      if (typeof record === 'boolean') return record;
      record.leaseUntil = time + claim.leaseMs;
      record.expiresAt = time + claim.ttlMs;
      // To the end of the order, where those are that expire last.
      records.delete(claim.id);
      records.set(claim.id, record);
      return true;
    },
    complete: async (claim, payload) => {
      const fits = (): boolean => bytes + payload.byteLength <= maxBytes;
      const isKept = fits() || makeRoom(now(), fits);
      return settle(claim, 'completed', isKept ? latin1(payload) : '');
    },
    release: async (claim) => settle(claim, 'released'),
    abandon: async (claim) => settle(claim, 'unknown'),
  };
}

function sizeOf(id: string, { fingerprint, payload }: MemoryRecord): number {
  return overheadBytes + id.length + fingerprint.length + payload.length;
}

function latin1({ buffer, byteOffset, byteLength }: Uint8Array): string {
  return Buffer.from(buffer, byteOffset, byteLength).toString('latin1');
}
