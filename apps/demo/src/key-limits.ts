import type { KeyRecord } from '@countersign/api-keys';
import { type Policy, slidingLog, slidingWindow } from '@countersign/rate-limit';

/** The limits that API keys declare, handed from the guard that knows the key to the limiter that charges it. */
export interface KeyLimits {
  /** Whom a request is charged to: the key, where it declares limits of its own, else its owner. */
  subjectOf(record: KeyRecord): string;
  /** The limits of a subject, for `overrides` of the limiter. */
  limitsOf(subject: string): readonly Policy[] | undefined;
}

/** How many keys with limits of their own are remembered; one that is forgotten is noted again by its next request. */
const maxKeys = 10_000;

/** Keys live 90 days at most, so that what was used is remembered for as long as the key can be used. */
const lifetimeSeconds = 366 * 86_400;

/** What keys declare, noted as they are used. */
export function keyLimits(): KeyLimits {
  const noted = new Map<string, readonly Policy[]>();
  return {
    subjectOf(record) {
      const subject = `key:${record.id}`;
      if (noted.has(subject)) return subject;
      const policies = declared(record);
      if (policies.length === 0) return record.owner;
      if (noted.size >= maxKeys) noted.delete(noted.keys().next().value as string);
      noted.set(subject, policies);
      return subject;
    },
    limitsOf: (subject) => noted.get(subject),
  };
}

function declared({ rateLimit, maxUses }: KeyRecord): readonly Policy[] {
  const rate = rateLimit && 'limit' in rateLimit ? [slidingWindow(rateLimit)] : [];
  const quota =
    maxUses === undefined
      ? []
      : [slidingLog({ limit: maxUses, windowSeconds: lifetimeSeconds, name: 'uses' })];
  return [...rate, ...quota];
}
