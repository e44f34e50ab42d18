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
  /** When the same request can be granted. */
  readonly endsAtMs: number;
  /** When this is forgotten, never later. */
  readonly forgottenAtMs: number;
}

/** Remembers who was refused, for as long as a refusal certainly holds, so that a flood of refusals never reaches the store. */
export class Refusals {
  readonly #refusals: Generations<string, Refusal> = new Generations(maxRefusals);

  /** The refusal by the same limits that still holds for this cost or a larger one. */
  find(key: string, set: CompiledSet, cost: number, nowMs: number): Decision | undefined {
    const refusal = this.#refusals.get(key);
    if (refusal === undefined || refusal.set !== set || cost < refusal.cost) return undefined;
    if (nowMs >= refusal.forgottenAtMs) {
      this.#refusals.delete(key);
      return undefined;
    }
    const { decision, endsAtMs } = refusal;
    const retryAfterMs = Math.ceil(endsAtMs - nowMs);
    const passedMs = decision.retryAfterMs - retryAfterMs;
    return {
      ...decision,
      source: 'blocked',
      retryAfterMs,
      resetMs: Math.max(0, decision.resetMs - passedMs),
    };
  }

  /** @param askedAtMs - when the store was asked: counting from then, a refusal never outlasts the truth. */
  add(key: string, set: CompiledSet, cost: number, decision: Decision, askedAtMs: number): void {
    if (decision.allowed || decision.impossible || decision.shadowed) return;
    const endsAtMs = askedAtMs + decision.retryAfterMs;
    // The store rounds up to whole milliseconds.
    const forgottenAtMs = askedAtMs + Math.min(decision.retryAfterMs - 1, longestMs);
    this.#refusals.set(key, { set, decision, cost, endsAtMs, forgottenAtMs });
  }

  forget(key: string): void {
    this.#refusals.delete(key);
  }

  clear(): void {
    this.#refusals.clear();
  }
}
