import { assertKnown, type OptionNames } from '@countersign/options';
import { assertFunction, assertInteger } from './options.ts';
import type { Policy } from './policy.ts';
import { advance, consume, freshRecord, give, isClear, renew, restrict } from './record.ts';
import { takeAtOnce } from './scalar.ts';
import type { ConsumeMode, RateLimitStore, StoreAnswer } from './store.ts';
import { Subjects } from './subjects.ts';

export interface MemoryRateLimitStoreOptions {
  /**
   * How many subjects are remembered for each counter at most, and half of them at least: those seen last. What others have used
   * is forgotten. An integer from 2 to 1e7; default 100,000.
   */
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

const known: OptionNames<MemoryRateLimitStoreOptions> = { maxSubjects: true, now: true };

/** Keeps all state in this process: for one process, for tests, and as what remains when a shared store fails. */
export function memoryRateLimitStore(
  options: MemoryRateLimitStoreOptions = {},
): MemoryRateLimitStore {
  assertKnown(options, known);
  const { maxSubjects = 100_000, now = Date.now } = options;
  assertInteger('maxSubjects', maxSubjects, 1e7, 2);
  assertFunction('now', now);
  const counters = new Map<string, Subjects>();
  const nowUs = (): number => Math.floor(now() * 1000);

  let lastCounter: string | undefined;
  let lastSubjects = new Subjects(1);
  const subjectsOf = (counter: string): Subjects =>
    counter === lastCounter ? lastSubjects : otherSubjects(counter);
  const otherSubjects = (counter: string): Subjects => {
    const subjects = counters.get(counter) ?? new Subjects(maxSubjects);
    counters.set(counter, subjects);
    lastCounter = counter;
    lastSubjects = subjects;
    return subjects;
  };

  return {
    sync: true,
    get size() {
      let size = 0;
      for (const subjects of counters.values()) size += subjects.size;
      return size;
    },
    consume(counter, subject, policies, cost, mode, slot) {
      const subjects = subjectsOf(counter);
      const { scalars } = subjects;
      const offset = scalars.find(subject);
      const taken =
        offset >= 0 && mode === 'take'
          ? takeAtOnce(scalars.values, offset, policies, cost, nowUs)
          : undefined;
      return taken ?? consumed(subjects, subject, policies, nowUs(), cost, mode, slot);
    },
    give({ counter, subject }, policies, cost, slot) {
      const subjects = subjectsOf(counter);
      const record = subjects.get(subject);
      if (!record) return;
      const moment = nowUs();
      advance(record, policies, moment);
      give(record, cost, slot);
      if (isClear(record, policies, moment)) subjects.delete(subject);
      else subjects.set(subject, record);
    },
    renew({ counter, subject }, policies, slot) {
      const subjects = subjectsOf(counter);
      const record = subjects.get(subject);
      if (!record) return false;
      const moment = nowUs();
      const changed = { ...record };
      advance(changed, policies, moment);
      const renewed = renew(changed, moment, slot);
      if (renewed) subjects.set(subject, changed);
      return renewed;
    },
    restrict({ counter, subject }, policies, remaining, durationMs) {
      const subjects = subjectsOf(counter);
      const record = subjects.get(subject) ?? freshRecord(policies);
      const moment = nowUs();
      advance(record, policies, moment);
      restrict(record, moment, remaining, durationMs);
      subjects.set(subject, record);
    },
    reset({ counter, subject }) {
      counters.get(counter)?.delete(subject);
    },
  };
}

function consumed(
  subjects: Subjects,
  subject: string,
  policies: readonly Policy[],
  moment: number,
  cost: number,
  mode: ConsumeMode,
  slot: number,
): StoreAnswer {
  const known = subjects.get(subject);
  const record = known ?? freshRecord(policies);
  const answer = consume(record, policies, moment, cost, mode, slot);
  if (known || mode !== 'peek') subjects.set(subject, record);
  return answer;
}
