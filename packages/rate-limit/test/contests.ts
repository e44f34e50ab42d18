import {
  concurrency,
  fixedWindow,
  type Policy,
  slidingLog,
  slidingWindow,
  tokenBucket,
} from '../src/index.ts';

/** Limits that several processes compete for, and how many checks each of them makes. */
export type Contest = keyof typeof contests;

const year = 31_622_400;
const log = slidingLog({ limit: 200, windowSeconds: year, name: 'log' });
const fixed = fixedWindow({ limit: 1000, windowSeconds: year });
const slots = concurrency({ limit: 200, leaseSeconds: 86_400 });

export const contests: {
  readonly [name in 'fixed' | 'sliding' | 'bucket' | 'log' | 'slots' | 'together']: {
    readonly checks: number;
    readonly limits: readonly Policy[];
    readonly passing: number;
  };
} = {
  fixed: { checks: 5000, limits: [fixed], passing: 1000 },
  sliding: {
    checks: 500,
    limits: [slidingWindow({ limit: 300, windowSeconds: year })],
    passing: 300,
  },
  bucket: {
    checks: 500,
    // A token takes more than an hour.
    limits: [tokenBucket({ capacity: 300, refillPerSecond: 1e-4 })],
    passing: 300,
  },
  log: { checks: 500, limits: [log], passing: 200 },
  slots: { checks: 500, limits: [slots], passing: 200 },
  together: { checks: 500, limits: [fixed, log, slots], passing: 200 },
};
