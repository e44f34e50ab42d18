import type { Decision } from './decision.ts';
import { Generations } from './generations.ts';
import type { CompiledSet } from './policy-set.ts';

/** A refusal is asked for again after this long at the latest: another process may have given back or reset. */
const longestMs = 10_000;
const maxRefusals = 10_000;

interface Refusal {
  /** The limits that refused. */
  readonly set: CompiledSet;
  readonly decision: Decision;
  readonly cost: number;
  readonly askedAtMs: number;
  readonly answeredAtMs: number;
  /** How long after it was asked for this is forgotten. */
  readonly heldMs: number;
}

/** Remembers who was refused, for as long as a refusal certainly holds, so that a flood of refusals never reaches the store. */
export class Refusals {
  readonly #refusals: Generations<Refusal> = new Generations(maxRefusals);
  #latestMs = Number.NEGATIVE_INFINITY;

  /** The refusal by the same limits that still holds for this cost. A larger one would have longer to wait, a smaller one less. */
  find(key: string, set: CompiledSet, cost: number, nowMs: number): Decision | undefined {
    // The clock was set back, and nobody knows how much time has passed since any of these.
    if (nowMs < this.#latestMs) this.clear();
    this.#latestMs = nowMs;
    const refusal = this.#refusals.get(key);
    if (refusal === undefined) return undefined;
    // A check under other limits may convert what is counted, and what this one was made by is gone then.
    if (refusal.set !== set) this.#refusals.delete(key);
    if (refusal.set !== set || refusal.cost !== cost) return undefined;
    const sinceMs = nowMs - refusal.askedAtMs;
    // Below 0: it was asked for before the clock was set back.
    if (sinceMs < 0 || sinceMs >= refusal.heldMs) {
      this.#refusals.delete(key);
      return undefined;
    }
    return aged(refusal.decision, nowMs - refusal.answeredAtMs);
  }

  /**
   * @param askedAtMs - when the store was asked: counting from then, a refusal never outlasts the truth.
   * @param answeredAtMs - when its answer came: counting from then, what is left to wait is never less than the truth.
   */
  add(
    key: string,
    set: CompiledSet,
    cost: number,
    decision: Decision,
    askedAtMs: number,
    answeredAtMs: number,
  ): void {
    if (decision.allowed || decision.impossible || decision.shadowed) return;
    // The store rounds up to whole milliseconds.
    const heldMs = Math.min(decision.retryAfterMs - 1, longestMs);
    this.#refusals.set(key, { set, decision, cost, askedAtMs, answeredAtMs, heldMs });
  }

  forget(key: string): void {
    this.#refusals.delete(key);
  }

  clear(): void {
    this.#refusals.clear();
  }
}

/** What a refusal says some time later. */
function aged(decision: Decision, passedMs: number): Decision {
  const left = (ms: number): number => Math.max(0, Math.ceil(ms - passedMs));
  return {
    ...decision,
    source: 'blocked',
    retryAfterMs: left(decision.retryAfterMs),
    resetMs: left(decision.resetMs),
    policies: decision.policies.map((policy) => ({
      ...policy,
      resetMs: left(policy.resetMs),
      retryAfterMs: left(policy.retryAfterMs),
    })),
  };
}
