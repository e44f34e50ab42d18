import type { Algorithm } from './algorithm.ts';
import type { PolicyKind } from './policy.ts';

/**
 * What one policy remembers of one subject. All kinds share one shape, which keeps the hot path monomorphic; times are
 * integer microseconds.
 */
export interface PolicyState {
  readonly kind: PolicyKind;
  readonly algorithm: Algorithm;
  readonly windowUs: number;
  /** Token bucket: when `used` was right. Windows: when the current one began. */
  at: number;
  /** Token bucket: the level. Windows: what was charged in the current one. Log: the sum of its entries. */
  used: number;
  /** Windows: what was charged in the one before. */
  previous: number;
  /** Log: time and cost in turns, oldest first. Concurrency: slot and end of lease in turns. */
  readonly entries: number[];
}

/**
 * Floating-point sums of fractions may fall this short of a whole token; nobody is turned away for it. Large enough for the
 * rounding of a level of 1e9, far too small to be worth anything.
 */
export const tolerance = 1e-6;
