import { Generations } from './generations.ts';
import { assertInteger } from './policy.ts';
import {
  advanced,
  commit,
  consume,
  freshRecord,
  give,
  isClear,
  renew,
  restrict,
  type SubjectRecord,
} from './record.ts';
import type { RateLimitStore, StateKey, StoreAnswer } from './store.ts';

export interface MemoryRateLimitStoreOptions {
  /** How many subjects are remembered; beyond that those not seen for longest are forgotten. Default 100,000. */
  readonly maxSubjects?: number;
  /** The time in milliseconds. Default `Date.now`. */
  readonly now?: () => number;
}

/** A store that answers synchronously. */
export interface MemoryRateLimitStore extends RateLimitStore {
  readonly sync: true;
  consume(...args: Parameters<RateLimitStore['consume']>): StoreAnswer;
  give(...args: Parameters<RateLimitStore['give']>): void;
  renew(...args: Parameters<RateLimitStore['renew']>): boolean;
  restrict(...args: Parameters<RateLimitStore['restrict']>): void;
  reset(...args: Parameters<RateLimitStore['reset']>): void;
  /** How many subjects are remembered now. */
  readonly size: number;
}

/** Keeps all state in this process: for one process, for tests, and as what remains when a shared store fails. */
export function memoryRateLimitStore(
  options: MemoryRateLimitStoreOptions = {},
): MemoryRateLimitStore {
  const { maxSubjects = 100_000, now = Date.now } = options;
  assertInteger('maxSubjects', maxSubjects, 1e7);
  const counters = new Map<string, Generations<string, SubjectRecord>>();
  const nowUs = (): number => Math.floor(now() * 1000);

  let lastCounter: string | undefined;
  let lastRecords: Generations<string, SubjectRecord> = new Generations(1);
  const recordsOf = (counter: string): Generations<string, SubjectRecord> => {
    if (counter === lastCounter) return lastRecords;
    const records = counters.get(counter) ?? new Generations(maxSubjects);
    counters.set(counter, records);
    lastCounter = counter;
    lastRecords = records;
    return records;
  };
  const known = ({ counter, subject }: StateKey): SubjectRecord | undefined =>
    counters.get(counter)?.get(subject);

  return {
    sync: true,
    get size() {
      let size = 0;
      for (const records of counters.values()) size += records.size;
      return size;
    },
    consume(counter, subject, policies, cost, mode, slot) {
      const records = recordsOf(counter);
      let record = records.get(subject);
      if (record === undefined) {
        record = freshRecord(policies);
        if (mode !== 'peek') records.set(subject, record);
      }
      return consume(record, policies, nowUs(), cost, mode, slot);
    },
    give(key, policies, cost, slot) {
      const record = known(key);
      if (!record) return;
      const moment = nowUs();
      commit(record, policies, advanced(record, policies, moment).states);
      give(record, cost, slot);
      if (isClear(record, moment)) counters.get(key.counter)?.delete(key.subject);
    },
    renew(key, policies, slot) {
      const record = known(key);
      if (!record) return false;
      const moment = nowUs();
      const { states } = advanced(record, policies, moment);
      const renewed = renew(states, moment, slot);
      if (renewed) commit(record, policies, states);
      return renewed;
    },
    restrict(key, policies, remaining, durationMs) {
      const record = known(key) ?? freshRecord(policies);
      const moment = nowUs();
      commit(record, policies, advanced(record, policies, moment).states);
      restrict(record, moment, remaining, durationMs);
      recordsOf(key.counter).set(key.subject, record);
    },
    reset({ counter, subject }) {
      counters.get(counter)?.delete(subject);
    },
  };
}
