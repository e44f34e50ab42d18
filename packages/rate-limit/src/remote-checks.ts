import { type Decision, decide } from './decision.ts';
import { reported, storeFailedChannel } from './events.ts';
import type { Fallback } from './fallback.ts';
import type { Leases } from './lease.ts';
import type { CompiledSet } from './policy-set.ts';
import { localKey } from './policy-sets.ts';
import { Refusals } from './refusals.ts';
import { slotFor } from './slot.ts';
import type { ConsumeMode, RateLimitStore, StoreAnswer } from './store.ts';
import { StoreHealth } from './store-health.ts';

/** A store whose answers are late should still get to know, and nobody waits for it. */
const abandonTimeoutMs = 5000;

export interface RemoteChecksOptions {
  readonly store: RateLimitStore;
  readonly timeoutMs: number;
  readonly fallback: Fallback;
  readonly leases: Leases | undefined;
  readonly now: () => number;
}

/**
 * Checks with a store outside this process: what was refused before and what is leased is decided here, everything else by the
 * store, and by the fallback when it cannot be asked.
 */
export class RemoteChecks {
  readonly #store: RateLimitStore;
  readonly #timeoutMs: number;
  readonly #fallback: Fallback;
  readonly #leases: Leases | undefined;
  readonly #now: () => number;
  readonly #health: StoreHealth;
  readonly #refusals = new Refusals();

  constructor({ store, timeoutMs, fallback, leases, now }: RemoteChecksOptions) {
    this.#store = store;
    this.#timeoutMs = timeoutMs;
    this.#fallback = fallback;
    this.#leases = leases;
    this.#now = now;
    this.#health = new StoreHealth(now);
  }

  check(set: CompiledSet, key: string, cost: number): Promise<Decision> {
    const counted = countedKey(set, key);
    const nowMs = this.#now();
    const refusal = this.#refusals.find(counted, set, cost, nowMs);
    if (refusal) return Promise.resolve(reported(key, cost, refusal));
    const leases = set.leasesSlots || set.shadow ? undefined : this.#leases;
    if (!leases) return this.#take(set, key, counted, cost);
    const local = set.counter === set.name ? counted : localKey(set, key);
    const spent = leases.spend(local, set, cost, nowMs);
    if (spent) return Promise.resolve(spent);
    return cost <= leases.size && leases.size <= set.largestCost
      ? this.#takeLeased(leases, set, key, local, counted, cost)
      : this.#take(set, key, counted, cost);
  }

  forgetRefusals(set: CompiledSet, key: string): void {
    this.#refusals.forget(countedKey(set, key));
  }

  forgetLeases(locals: readonly string[]): void {
    for (const local of locals) this.#leases?.forget(local);
  }

  clear(): void {
    this.#refusals.clear();
    this.#leases?.clear();
  }

  async #takeLeased(
    leases: Leases,
    set: CompiledSet,
    key: string,
    local: string,
    counted: string,
    cost: number,
  ): Promise<Decision> {
    // Nobody is refused when a whole lease cannot be had: the cost alone may still be.
    const take = (size: number): Promise<Decision | undefined> =>
      this.#ask(
        set,
        key,
        counted,
        size,
        0,
        (decision) => decision,
        () => undefined,
      );
    const decision = await leases.renew(local, set, cost, this.#now, take);
    if (decision === 'unavailable') return this.#degrade(set, key, cost, 0);
    return decision ?? (await this.#take(set, key, counted, cost));
  }

  #take(set: CompiledSet, key: string, counted: string, cost: number): Promise<Decision> {
    const slot = slotFor(set);
    return this.#ask(
      set,
      key,
      counted,
      cost,
      slot,
      (decision) => reported(key, cost, decision),
      () => this.#degrade(set, key, cost, slot),
    );
  }

  /** What remains when the store cannot be asked. */
  #degrade(set: CompiledSet, key: string, cost: number, slot: number): Decision {
    return reported(key, cost, this.#fallback.decide(set, key, cost, slot));
  }

  /** Asks the store. Without `async`: this is the path of every request. */
  #ask<T>(
    set: CompiledSet,
    key: string,
    counted: string,
    cost: number,
    slot: number,
    decided: (decision: Decision) => T,
    unavailable: () => T,
  ): Promise<T> {
    if (!this.#health.shouldAsk()) return Promise.resolve(unavailable());
    const askedAtMs = this.#now();
    const impossible = cost > set.largestCost;
    const mode = impossible ? 'peek' : 'take';
    const failed = (error: unknown): T => {
      if (!concernsOneCall(error)) this.#health.failed();
      if (slot !== 0 && !neverRan(error)) void this.#abandon(set, key, slot);
      if (storeFailedChannel.hasSubscribers)
        storeFailedChannel.publish({ policy: set.name, error });
      return unavailable();
    };
    return this.#consume(set, key, cost, mode, slot).then((answer) => {
      let decision: Decision;
      try {
        decision = decide(set, answer, 'store', slot, impossible);
      } catch (error) {
        // What it answered is no answer.
        return failed(error);
      }
      this.#health.succeeded();
      // Who was refused something else has longer to wait now.
      if (decision.allowed) this.#refusals.forget(counted);
      // Slots are freed at any moment; time alone ends other refusals.
      else if (!set.leasesSlots)
        this.#refusals.add(counted, set, cost, decision, askedAtMs, this.#now());
      return decided(decision);
    }, failed);
  }

  /** Gives back a slot that was perhaps taken, by a check whose answer was lost: nobody knows its name but this process. */
  async #abandon({ counter, limits }: CompiledSet, subject: string, slot: number): Promise<void> {
    try {
      await this.#store.give({ counter, subject }, limits, 0, slot, abandonTimeoutMs);
    } catch {
      // Then it frees itself when its lease ends.
    }
  }

  #consume(
    { counter, limits }: CompiledSet,
    key: string,
    cost: number,
    mode: ConsumeMode,
    slot: number,
  ): Promise<StoreAnswer> {
    try {
      const timeoutMs = this.#timeoutMs;
      const answer = this.#store.consume(counter, key, limits, cost, mode, slot, timeoutMs);
      return answer instanceof Promise ? answer : Promise.resolve(answer);
    } catch (error) {
      return Promise.reject(error);
    }
  }
}

/** Under what a refusal of a subject is remembered: what is charged under one set is missing in all that share its counter. */
function countedKey({ counter }: CompiledSet, subject: string): string {
  return `${counter} ${subject}`;
}

/** The store answered, with an error: a record that cannot be read, say. Whoever can bring that about must not take the store from others. */
function concernsOneCall(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_STORE_FAILED';
}

/** It certainly had no effect: there was no connection, say. */
function neverRan(error: unknown): boolean {
  return error instanceof Error && 'outcome' in error && error.outcome === 'not-run';
}
