import { assertKnown, type OptionNames } from '@countersign/options';
import type { Decision } from './decision.ts';
import { Generations } from './generations.ts';
import { assertInteger } from './options.ts';
import type { CompiledSet } from './policy-set.ts';

export interface LeaseOptions {
  /** How many units of cost a process takes at once. An integer from 2 to 1e6. */
  readonly size: number;
  /** What is not used within so many milliseconds is lost. An integer from 1 to 60,000; default 1000. */
  readonly maxAgeMs?: number;
}

const known: OptionNames<LeaseOptions> = { size: true, maxAgeMs: true };

interface Lease {
  /** The limits that granted it. */
  readonly set: CompiledSet;
  readonly decision: Decision;
  left: number;
  readonly askedAtMs: number;
}

const maxLeases = 10_000;

/**
 * Tokens that this process took from the store ahead of need. They are charged when they are taken, so the store never
 * grants more than the limit; but they are spent up to `maxAgeMs` later, so within any one window at most `size` for each
 * process, and for each set where several share a counter, can pass on top of the limit.
 */
export class Leases {
  readonly size: number;
  readonly #maxAgeMs: number;
  readonly #leases: Generations<Lease> = new Generations(maxLeases);
  readonly #taking = new Map<string, Promise<Decision | undefined>>();
  /** When too little was left for a whole lease: single costs are asked for meanwhile. */
  readonly #singlySinceMs: Generations<number> = new Generations(maxLeases);

  constructor(options: LeaseOptions) {
    assertKnown(options, known, 'lease.');
    const { size, maxAgeMs = 1000 } = options;
    assertInteger('lease.size', size, 1e6, 2);
    assertInteger('lease.maxAgeMs', maxAgeMs, 60_000);
    this.size = size;
    this.#maxAgeMs = maxAgeMs;
  }

  /** Spends from a lease; `undefined` when there is none that covers the cost. */
  spend(key: string, set: CompiledSet, cost: number, nowMs: number): Decision | undefined {
    const lease = this.#leases.get(key);
    if (lease === undefined || lease.set !== set || lease.left < cost) return undefined;
    if (!this.#lasts(lease.askedAtMs, nowMs)) return undefined;
    lease.left -= cost;
    const { decision } = lease;
    return { ...decision, source: 'local', remaining: decision.remaining + lease.left };
  }

  /**
   * Takes a lease from the store and spends from it; callers that come meanwhile share it.
   * @param take - charges the store; called with the size of a lease; `undefined`: the store could not be asked.
   * @returns `undefined` when the store has less left than a lease: ask it for the cost alone.
   */
  async renew(
    key: string,
    set: CompiledSet,
    cost: number,
    now: () => number,
    take: (cost: number) => Promise<Decision | undefined>,
  ): Promise<Decision | 'unavailable' | undefined> {
    if (this.#lasts(this.#singlySinceMs.get(key), now())) return undefined;
    const underway = this.#taking.get(key) ?? this.#take(key, set, now, take);
    const decision = await underway;
    if (!decision) return 'unavailable';
    return decision.allowed ? this.spend(key, set, cost, now()) : undefined;
  }

  forget(key: string): void {
    this.#leases.delete(key);
    this.#singlySinceMs.delete(key);
  }

  clear(): void {
    this.#leases.clear();
    this.#singlySinceMs.clear();
  }

  /** Whether less than a lease's time has passed; a clock that was set back says that nobody knows. */
  #lasts(sinceMs: number | undefined, nowMs: number): boolean {
    return sinceMs !== undefined && nowMs >= sinceMs && nowMs - sinceMs < this.#maxAgeMs;
  }

  async #take(
    key: string,
    set: CompiledSet,
    now: () => number,
    take: (cost: number) => Promise<Decision | undefined>,
  ): Promise<Decision | undefined> {
    const askedAtMs = now();
    // What is left of another is lost: spent beside the new one it would be more than one lease.
    this.#leases.delete(key);
    const taking = take(this.size);
    this.#taking.set(key, taking);
    try {
      const decision = await taking;
      if (decision?.allowed) {
        this.#leases.set(key, { set, decision, left: this.size, askedAtMs });
      } else if (decision) this.#singlySinceMs.set(key, askedAtMs);
      return decision;
    } finally {
      this.#taking.delete(key);
    }
  }
}
