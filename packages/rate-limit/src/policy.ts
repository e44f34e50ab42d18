import { assertKnown, type OptionNames } from '@countersign/options';
import { assertInteger, assertName } from './options.ts';

export type PolicyKind =
  | 'token-bucket'
  | 'sliding-window'
  | 'sliding-log'
  | 'fixed-window'
  | 'concurrency';

/** What kinds are called where they are stored: in records of Redis, and in rows of numbers. */
export const kindNumbers: Readonly<Record<PolicyKind, number>> = {
  'token-bucket': 1,
  'sliding-window': 2,
  'fixed-window': 3,
  'sliding-log': 4,
  concurrency: 5,
};

/** One limit, as data. Made by `tokenBucket`, `slidingWindow`, `slidingLog`, `fixedWindow` or `concurrency`. */
export interface Policy {
  readonly kind: PolicyKind;
  /** Shown in headers and problems; unique within its set. */
  readonly name: string;
  /** The most that can be had at once, in units of cost. */
  readonly limit: number;
  /** The window; for a token bucket, how long an empty one takes to fill; for concurrency, how long a slot is leased. */
  readonly windowSeconds: number;
  /** `windowSeconds` in microseconds, the unit of all state. For a token bucket 0: it has no window. */
  readonly windowUs: number;
  /** Token bucket only; else 0. */
  readonly refillPerSecond: number;
}

interface Named {
  /** Shown in headers and problems: 1 to 64 of `A–Z a–z 0–9 . _ -`. Default: what the policy is, e.g. `60s`. */
  readonly name?: string;
}

export interface TokenBucketOptions extends Named {
  /** How many tokens the bucket holds: the largest burst. An integer from 1 to 1e9. */
  readonly capacity: number;
  /** Above 0; a fraction is fine. An empty bucket must fill within 366 days. */
  readonly refillPerSecond: number;
}

export interface WindowOptions extends Named {
  /** An integer from 1 to 1e9; for `slidingLog` to 10,000. */
  readonly limit: number;
  /** An integer from 1 to 31,622,400 (366 days). */
  readonly windowSeconds: number;
}

export interface ConcurrencyOptions extends Named {
  /** How many may hold a slot at the same time: an integer from 1 to 10,000. */
  readonly limit: number;
  /** A slot frees itself after so many seconds unless it is renewed. An integer from 1 to 86,400; default 60. */
  readonly leaseSeconds?: number;
}

const tokenBucketOptions: OptionNames<TokenBucketOptions> = {
  capacity: true,
  refillPerSecond: true,
  name: true,
};
const windowOptions: OptionNames<WindowOptions> = { limit: true, windowSeconds: true, name: true };
const concurrencyOptions: OptionNames<ConcurrencyOptions> = {
  limit: true,
  leaseSeconds: true,
  name: true,
};

export const largestLimit: number = 1e9;
const maxListed = 10_000;
export const longestWindowSeconds: number = 366 * 86_400;

/**
 * Bursts up to `capacity`, then a steady `refillPerSecond`. Inside it is GCRA in its leaky-bucket form (ITU-T I.371 §5.4.4
 * calls the two equivalent): a level that drains and a time of last update, so limits can change without loss of state.
 */
export function tokenBucket(options: TokenBucketOptions): Policy {
  assertKnown(options, tokenBucketOptions);
  const { capacity, refillPerSecond, name } = options;
  assertInteger('capacity', capacity, largestLimit);
  if (
    !(
      typeof refillPerSecond === 'number' &&
      refillPerSecond > 0 &&
      capacity / refillPerSecond <= longestWindowSeconds &&
      refillPerSecond <= largestLimit
    )
  )
    throw new TypeError(
      'refillPerSecond: expected a number above 0 that fills the bucket within 366 days, at most 1e9',
    );
  return policy('token-bucket', name ?? 'bucket', {
    limit: capacity,
    windowSeconds: Math.ceil(capacity / refillPerSecond),
    windowUs: 0,
    refillPerSecond,
  });
}

/**
 * At most `limit` in about any window, in constant space: counts of the current and the previous window, the latter
 * weighted by how much of it still overlaps. It assumes that requests were spread evenly over the previous window; in the
 * worst case (all of them at its very end) nearly twice the limit passes within one window. `slidingLog` is exact.
 */
export function slidingWindow(options: WindowOptions): Policy {
  return windowPolicy('sliding-window', options, largestLimit);
}

/** At most `limit` in any window whatever, exactly. Keeps a time per request: up to 12 bytes × `limit` for each subject, twice that where more is charged afterwards. */
export function slidingLog(options: WindowOptions): Policy {
  return windowPolicy('sliding-log', options, maxListed);
}

/** At most `limit` in each window that begins at a multiple of its length. Twice the limit can pass around a boundary. */
export function fixedWindow(options: WindowOptions): Policy {
  return windowPolicy('fixed-window', options, largestLimit);
}

/** At most `limit` at the same time. Each call takes one slot, whatever its cost, until it is released or its lease ends. */
export function concurrency(options: ConcurrencyOptions): Policy {
  assertKnown(options, concurrencyOptions);
  const { limit, leaseSeconds = 60, name } = options;
  assertInteger('limit', limit, maxListed);
  assertInteger('leaseSeconds', leaseSeconds, 86_400);
  return policy('concurrency', name ?? 'concurrency', {
    limit,
    windowSeconds: leaseSeconds,
    windowUs: leaseSeconds * 1e6,
    refillPerSecond: 0,
  });
}

/** Limits for callers nobody knows, for free accounts and for paying ones. They share their counters: who upgrades keeps what was used. */
export const defaultTiers: Readonly<Record<'unauthenticated' | 'free' | 'paid', PolicySet>> = {
  unauthenticated: tier(20, 100),
  free: tier(60, 1000),
  paid: tier(300, 10_000),
};

/** Several limits that are checked as one: all of them grant a request, or none is charged. */
export interface PolicySet {
  readonly limits: readonly Policy[];
  /** Sets with the same counter share state for the same subject. Default: the name of the set. */
  readonly counter?: string;
  /** Evaluate and report, but let every request pass. Default false. */
  readonly shadow?: boolean;
}

function tier(perMinute: number, perHour: number): PolicySet {
  return {
    limits: [
      slidingWindow({ limit: perMinute, windowSeconds: 60 }),
      slidingWindow({ limit: perHour, windowSeconds: 3600 }),
    ],
    counter: 'tier',
  };
}

function windowPolicy(kind: PolicyKind, options: WindowOptions, largest: number): Policy {
  assertKnown(options, windowOptions);
  const { limit, windowSeconds, name } = options;
  assertInteger('limit', limit, largest);
  assertInteger('windowSeconds', windowSeconds, longestWindowSeconds);
  const windowUs = windowSeconds * 1e6;
  return policy(kind, name ?? `${windowSeconds}s`, {
    limit,
    windowSeconds,
    windowUs,
    refillPerSecond: 0,
  });
}

/** Makes a policy anew from what may have come from anywhere: a file, a database, an older version. */
export function checkedPolicy(given: Policy): Policy {
  if (typeof given !== 'object' || given === null) throw new TypeError('expected a policy');
  const { kind, name, limit, windowSeconds, windowUs, refillPerSecond } = given;
  const made = factories[kind]?.({ name, limit, windowSeconds, refillPerSecond });
  if (made === undefined) throw new TypeError('kind: expected one of a policy');
  if (made.windowSeconds !== windowSeconds || made.windowUs !== windowUs)
    throw new TypeError('windowUs: expected a policy made by tokenBucket, slidingWindow, …');
  return made;
}

type Numbers = Pick<Policy, 'name' | 'limit' | 'windowSeconds' | 'refillPerSecond'>;

function windowOf({ name, limit, windowSeconds }: Numbers): WindowOptions {
  return { name, limit, windowSeconds };
}

const factories: Readonly<Record<string, ((numbers: Numbers) => Policy) | undefined>> = {
  __proto__: null as never,
  'token-bucket': ({ name, limit, refillPerSecond }) =>
    tokenBucket({ name, capacity: limit, refillPerSecond }),
  'sliding-window': (numbers) => slidingWindow(windowOf(numbers)),
  'sliding-log': (numbers) => slidingLog(windowOf(numbers)),
  'fixed-window': (numbers) => fixedWindow(windowOf(numbers)),
  concurrency: ({ name, limit, windowSeconds }) =>
    concurrency({ name, limit, leaseSeconds: windowSeconds }),
};

function policy(kind: PolicyKind, name: string, numbers: Omit<Policy, 'kind' | 'name'>): Policy {
  assertName('name', name);
  return Object.freeze({ kind, name, ...numbers });
}
