import { type Decision, decide, decideWithoutLimits } from './decision.ts';
import { memoryRateLimitStore } from './memory.ts';
import type { Policy } from './policy.ts';
import type { CompiledSet } from './policy-set.ts';
import { probeIntervalMs } from './store-health.ts';

/**
 * What a limiter does while its store cannot be asked.
 * - `closed`: refuse, and try again in a second.
 * - `local`: limit in this process, each limit divided by `replicas`.
 * - `open`: let pass.
 */
export type OnStoreError = 'open' | 'closed' | 'local';

export interface Fallback {
  decide(set: CompiledSet, subject: string, cost: number, slot: number): Decision;
  /** Leases a slot anew that was leased here; `false` when none of that name is. */
  renew(set: CompiledSet, subject: string, slot: number): boolean;
  /** Gives back a slot that was leased here; `false` when none of that name is. */
  release(set: CompiledSet, subject: string, slot: number): boolean;
}

export function fallback(choice: OnStoreError, replicas: number, now: () => number): Fallback {
  if (choice !== 'local') {
    const allowed = choice === 'open';
    return {
      decide: (set) =>
        decideWithoutLimits(set, {
          allowed: allowed || set.shadow,
          retryAfterMs: allowed ? 0 : probeIntervalMs,
          denied: false,
          source: 'degraded',
        }),
      renew: () => false,
      release: () => false,
    };
  }
  const store = memoryRateLimitStore({ now });
  const shares = new WeakMap<readonly Policy[], readonly Policy[]>();
  const sharesOf = ({ limits }: CompiledSet): readonly Policy[] => {
    const share = shares.get(limits) ?? limits.map((policy) => shareOf(policy, replicas));
    shares.set(limits, share);
    return share;
  };
  const renew: Fallback['renew'] = (set, subject, slot) =>
    store.renew({ counter: set.counter, subject }, sharesOf(set), slot, 0);
  return {
    decide(set, subject, cost, slot) {
      const share = sharesOf(set);
      const impossible = cost > set.largestCost;
      // A cost that the whole limit allows must not become impossible because the share is smaller.
      const counted = share.filter(({ kind }) => kind !== 'concurrency');
      const asked = impossible ? cost : Math.min(cost, ...counted.map(({ limit }) => limit));
      const mode = impossible ? 'peek' : 'take';
      const answer = store.consume(set.counter, subject, share, asked, mode, slot, 0);
      return decide(set, answer, 'degraded', slot, impossible);
    },
    renew,
    release(set, subject, slot) {
      const held = renew(set, subject, slot);
      if (held) store.give({ counter: set.counter, subject }, sharesOf(set), 0, slot, 0);
      return held;
    },
  };
}

function shareOf(policy: Policy, replicas: number): Policy {
  return {
    ...policy,
    limit: Math.max(1, Math.floor(policy.limit / replicas)),
    refillPerSecond: policy.refillPerSecond / replicas,
  };
}
