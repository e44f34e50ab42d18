import { randomInt } from 'node:crypto';
import { chargedCost, type Decision, decide, decideWithoutLimits } from './decision.ts';
import { RateLimitError } from './errors.ts';
import { refusedChannel, restrictedChannel, storeFailedChannel } from './events.ts';
import { type Fallback, fallback, type OnStoreError } from './fallback.ts';
import { type LeaseOptions, Leases } from './lease.ts';
import { assertFunction, assertInteger, largestLimit, type Policy } from './policy.ts';
import { type CompiledSet, compileSet, type PolicySetInput } from './policy-set.ts';
import { longestRestrictionMs } from './record.ts';
import { Refusals } from './refusals.ts';
import type { ConsumeMode, RateLimitStore, StateKey, StoreAnswer } from './store.ts';
import { StoreHealth } from './store-health.ts';
import { subjectKey } from './subject.ts';
import { assertWait, Turnstile, waitTooLong } from './turnstile.ts';

export interface RateLimiterOptions<Name extends string> {
  readonly store: RateLimitStore;
  /** Sets of limits by name; a list of limits, or limits with options. */
  readonly policies: Readonly<Record<Name, PolicySetInput>>;
  /** What decides while the store cannot be asked. Default `closed`. */
  readonly onStoreError?: OnStoreError;
  /** How long the store may take, in milliseconds, before `onStoreError` decides. Default 100. */
  readonly timeoutMs?: number;
  /** How many processes share the limits; `onStoreError: 'local'` divides by it. Default 1. */
  readonly replicas?: number;
  /** Take tokens from the store in batches and serve from memory. Default: ask for each request. */
  readonly lease?: LeaseOptions;
  /** Other limits for this subject; `undefined`: the set's own. Return the same array for the same limits: it is compiled once. */
  readonly overrides?: (subject: string, policy: Name) => readonly Policy[] | undefined;
  /** Refuse this subject whatever its limits say. */
  readonly deny?: (subject: string) => boolean;
  /** Milliseconds; for what this process decides itself, not for the store. Default: a clock that never steps back. */
  readonly now?: () => number;
}

export interface CheckOptions<Name extends string> {
  /** Which set of limits; may be left out when there is only one. */
  readonly policy?: Name;
  /** An integer of at least 1; default 1. */
  readonly cost?: number;
}

export interface AcquireOptions<Name extends string> extends CheckOptions<Name> {
  readonly signal?: AbortSignal;
  /** Give up after this long, or at once when it would certainly take longer. Default 30,000. */
  readonly maxWaitMs?: number;
}

export interface SlotOptions<Name extends string> {
  readonly policy?: Name;
  /** `decision.slot` */
  readonly slot: number;
}

export interface SettleOptions<Name extends string> {
  readonly policy?: Name;
  /** What was charged. */
  readonly cost: number;
  /** What it turned out to be: an integer of at least 0; what is over 1e9 counts as 1e9. */
  readonly actualCost: number;
  /** `decision.slot`; default 0: none. */
  readonly slot?: number;
}

export interface RestrictOptions<Name extends string> {
  readonly policy?: Name;
  /** At most so many more; 0: none. */
  readonly remaining: number;
  /** For how long, in milliseconds: an integer from 1 to 86,400,000. */
  readonly durationMs: number;
}

/** A cost that was charged as an estimate. */
export interface Reservation extends Decision {
  /** Charges or gives back the difference, and releases the slot; once, later calls do nothing. */
  settle(actualCost: number): Promise<void>;
}

export interface RateLimiter<Name extends string = string> {
  /** Charges the cost to every limit of the set, or, when one of them refuses, to none. Never throws for a store that fails. */
  check(subject: string, options?: CheckOptions<Name>): Promise<Decision>;
  /** The same, at once; only with a store in this process. */
  checkSync(subject: string, options?: CheckOptions<Name>): Decision;
  /** Whether `checkSync` can be used. */
  readonly sync: boolean;
  /** What `check` would say, charging nothing. */
  peek(subject: string, options?: CheckOptions<Name>): Promise<Decision>;
  /** Charges an estimate now, the truth with `settle`. */
  reserve(subject: string, options?: CheckOptions<Name>): Promise<Reservation>;
  /** What `settle` of a reservation does, for who keeps the numbers rather than the reservation. Not idempotent. */
  settle(subject: string, options: SettleOptions<Name>): Promise<void>;
  /** Gives back a cost that was charged; never more than was. */
  refund(subject: string, options?: CheckOptions<Name>): Promise<void>;
  /** Forgets the subject under this set. */
  reset(subject: string, options?: Pick<CheckOptions<Name>, 'policy'>): Promise<void>;
  /** Gives a concurrency slot back. */
  release(subject: string, options: SlotOptions<Name>): Promise<void>;
  /** Leases a concurrency slot anew; `false` when its lease had ended. */
  renew(subject: string, options: SlotOptions<Name>): Promise<boolean>;
  /** Waits until `check` grants. Who has to wait is served in the order in which they came. */
  acquire(subject: string, options?: AcquireOptions<Name>): Promise<Decision>;
  /**
   * Lets the subject have at most `remaining` more for a while, in every process that shares the store. Of two restrictions the one
   * that leaves less holds, until its own end.
   */
  restrict(subject: string, options: RestrictOptions<Name>): Promise<void>;
  /**
   * Replaces the limits of a set; what was used carries over to limits of the same kind. Its counter and whether it is a shadow stay as
   * they were where nothing else is said.
   */
  setPolicies(policy: Name, limits: PolicySetInput): void;
  /** Closes the store. */
  close(): Promise<void>;
}

const defaultMaxWaitMs = 30_000;
/** A store whose answers are late should still get to know, and nobody waits for it. */
const abandonTimeoutMs = 5000;
/** A slot may be released before its lease ends: look again this often. */
const slotPollMs = 100;

/** Makes a limiter. @throws TypeError for an option that makes no sense, naming it. */
export function createRateLimiter<Name extends string>(
  options: RateLimiterOptions<Name>,
): RateLimiter<Name> {
  return new Limiter(options);
}

class Limiter<Name extends string> implements RateLimiter<Name> {
  readonly sync: boolean;
  readonly #store: RateLimitStore;
  readonly #sets: Map<string, CompiledSet> = new Map();
  /** The set that was asked for last: most requests of a service ask for the same one, and a lookup is dear. */
  #lastSet: CompiledSet | undefined;
  /** The set that is meant when none is named. */
  readonly #onlyPolicy: Name | undefined;
  readonly #timeoutMs: number;
  readonly #overrides: RateLimiterOptions<Name>['overrides'];
  /** For each set, the limits of single subjects. */
  readonly #overridden: Map<string, WeakMap<readonly Policy[], CompiledSet>> = new Map();
  readonly #deny: ((subject: string) => boolean) | undefined;
  readonly #now: () => number;
  readonly #fallback: Fallback;
  readonly #health: StoreHealth;
  readonly #refusals = new Refusals();
  readonly #leases: Leases | undefined;
  readonly #turnstile = new Turnstile();

  constructor(options: RateLimiterOptions<Name>) {
    const { store, onStoreError = 'closed', timeoutMs = 100, replicas = 1, now } = options;
    if (typeof store?.consume !== 'function')
      throw new TypeError('store: expected a RateLimitStore');
    if (!['open', 'closed', 'local'].includes(onStoreError))
      throw new TypeError("onStoreError: expected 'open', 'closed' or 'local'");
    assertFunction('overrides', options.overrides);
    assertFunction('deny', options.deny);
    assertFunction('now', now);
    assertInteger('timeoutMs', timeoutMs, 60_000);
    assertInteger('replicas', replicas, 100_000);
    this.#store = store;
    this.sync = store.sync;
    this.#timeoutMs = timeoutMs;
    this.#overrides = options.overrides;
    this.#deny = options.deny;
    this.#now = now ?? (() => performance.now());
    this.#fallback = fallback(onStoreError, replicas, this.#now);
    this.#health = new StoreHealth(this.#now);
    this.#leases = options.lease && new Leases(options.lease);
    const names = Object.keys(options.policies ?? {}) as Name[];
    if (names.length === 0) throw new TypeError('policies: expected at least one set of limits');
    this.#onlyPolicy = names.length === 1 ? names[0] : undefined;
    for (const name of names) this.#put(compileSet(name, options.policies[name]));
  }

  setPolicies(policy: Name, limits: PolicySetInput): void {
    const before = this.#sets.get(policy);
    if (before === undefined) throw unknownPolicy(policy);
    this.#put(compileSet(policy, limits, before));
  }

  #put(set: CompiledSet): void {
    this.#assertCompatible(set);
    this.#sets.set(set.name, set);
    this.#lastSet = undefined;
    this.#overridden.set(set.name, new WeakMap());
    this.#refusals.clear();
    this.#leases?.clear();
  }

  checkSync(subject: string, options: CheckOptions<Name> = {}): Decision {
    if (!this.sync) throw notInThisProcess();
    const { policy, cost = 1 } = asked(options);
    const key = subjectKey(subject);
    assertCost(cost);
    const set = this.#setFor(subject, policy);
    if (this.#deny?.(subject)) return reported(key, cost, denial(set));
    const impossible = cost > set.largestCost;
    const slot = set.leasesSlots ? newSlot() : 0;
    const mode = impossible ? 'peek' : 'take';
    const answer = this.#store.consume(set.counter, key, set.limits, cost, mode, slot, 0);
    return reported(key, cost, decide(set, answer as StoreAnswer, 'store', slot, impossible));
  }

  check(subject: string, options: CheckOptions<Name> = {}): Promise<Decision> {
    try {
      return this.sync
        ? Promise.resolve(this.checkSync(subject, options))
        : this.#checkRemote(subject, options);
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #checkRemote(subject: string, options: CheckOptions<Name>): Promise<Decision> {
    const { policy, cost = 1 } = asked(options);
    const key = subjectKey(subject);
    assertCost(cost);
    const set = this.#setFor(subject, policy);
    if (this.#deny?.(subject)) return Promise.resolve(reported(key, cost, denial(set)));
    const local = localKey(set, key);
    const decided =
      this.#refusals.find(local, set, cost, this.#now()) ??
      (set.leasesSlots ? undefined : this.#leases?.spend(local, set, cost, this.#now()));
    if (decided) return Promise.resolve(reported(key, cost, decided));
    const leased = set.leasesSlots || set.shadow ? undefined : this.#leases;
    return leased && cost <= leased.size && leased.size <= set.largestCost
      ? this.#takeLeased(leased, set, key, local, cost)
      : this.#take(set, key, local, cost);
  }

  async #takeLeased(
    leases: Leases,
    set: CompiledSet,
    key: string,
    local: string,
    cost: number,
  ): Promise<Decision> {
    // Nobody is refused when a whole lease cannot be had: the cost alone may still be.
    const take = (size: number): Promise<Decision | undefined> =>
      this.#ask(
        set,
        key,
        local,
        size,
        0,
        (decision) => decision,
        () => undefined,
      );
    const decision = await leases.renew(local, set, cost, this.#now, take);
    if (decision === 'unavailable') return this.#degrade(set, key, cost, 0);
    return decision ?? (await this.#take(set, key, local, cost));
  }

  #take(set: CompiledSet, key: string, local: string, cost: number): Promise<Decision> {
    const slot = set.leasesSlots ? newSlot() : 0;
    return this.#ask(
      set,
      key,
      local,
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
    local: string,
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
      if (slot !== 0 && !neverRan(error)) this.#abandon(set, key, slot);
      if (storeFailedChannel.hasSubscribers)
        storeFailedChannel.publish({ policy: set.name, error });
      return unavailable();
    };
    return this.#askStore(set, key, cost, mode, slot).then((answer) => {
      let decision: Decision;
      try {
        decision = decide(set, answer, 'store', slot, impossible);
      } catch (error) {
        // What it answered is no answer.
        return failed(error);
      }
      this.#health.succeeded();
      // Slots are freed at any moment; time alone ends other refusals.
      if (!decision.allowed && !set.leasesSlots)
        this.#refusals.add(local, set, cost, decision, askedAtMs, this.#now());
      return decided(decision);
    }, failed);
  }

  /** Gives back a slot that was perhaps taken, by a check whose answer was lost: nobody knows its name but this process. */
  #abandon({ counter, limits }: CompiledSet, subject: string, slot: number): void {
    this.#orStoreError(
      () => this.#store.give({ counter, subject }, limits, 0, slot, abandonTimeoutMs),
      // Then it frees itself when its lease ends.
    ).catch(() => {});
  }

  #askStore(
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

  async #consume(
    set: CompiledSet,
    key: string,
    cost: number,
    mode: ConsumeMode,
    slot: number,
  ): Promise<Decision> {
    const answer = await this.#askStore(set, key, cost, mode, slot);
    return decide(set, answer, 'store', slot, cost > set.largestCost);
  }

  async peek(subject: string, options: CheckOptions<Name> = {}): Promise<Decision> {
    const { policy, cost = 1 } = asked(options);
    const key = subjectKey(subject);
    assertCost(cost);
    const set = this.#setFor(subject, policy);
    if (this.#deny?.(subject)) return denial(set);
    return {
      ...(await this.#orStoreError(() => this.#consume(set, key, cost, 'peek', 0))),
      slot: 0,
    };
  }

  async reserve(subject: string, options: CheckOptions<Name> = {}): Promise<Reservation> {
    const { cost: estimate = 1 } = options;
    const decision = await this.check(subject, options);
    let settled = !decision.allowed;
    const settle = async (actualCost: number): Promise<void> => {
      assertActualCost(actualCost);
      if (settled) return;
      settled = true;
      const cost = chargedCost(decision, estimate, actualCost);
      await this.settle(subject, { ...options, cost, actualCost, slot: decision.slot });
    };
    return { ...decision, settle };
  }

  async settle(subject: string, options: SettleOptions<Name>): Promise<void> {
    const { policy, cost, actualCost, slot = 0 } = options;
    assertActualCost(cost);
    assertActualCost(actualCost);
    const key = subjectKey(subject);
    const set = this.#setFor(subject, policy);
    // More than the largest limit is of no consequence.
    const difference = Math.min(actualCost - cost, largestLimit);
    // Both at once: a slot must not stay taken because a charge failed.
    await Promise.all([
      difference > 0 && this.#charge(set, key, difference),
      (difference < 0 || slot !== 0) && this.#give(set, key, Math.max(0, -difference), slot),
    ]);
  }

  async #charge(set: CompiledSet, key: string, cost: number): Promise<void> {
    await this.#orStoreError(() => this.#consume(set, key, cost, 'force', 0));
    // Where the limits of the subject have changed, what it was refused by may be gone now.
    this.#forgetRefusals(set, key);
  }

  async refund(subject: string, options: CheckOptions<Name> = {}): Promise<void> {
    const { policy, cost = 1 } = asked(options);
    assertCost(cost);
    await this.#give(this.#setFor(subject, policy), subjectKey(subject), cost, 0);
  }

  async release(subject: string, { policy, slot }: SlotOptions<Name>): Promise<void> {
    if (slot !== 0) await this.#give(this.#setFor(subject, policy), subjectKey(subject), 0, slot);
  }

  async #give(set: CompiledSet, key: string, cost: number, slot: number): Promise<void> {
    if (slot === 0 || !this.#fallback.release(set, key, slot)) {
      const { limits } = set;
      await this.#orStoreError(() =>
        this.#store.give(stateKey(set, key), limits, cost, slot, this.#timeoutMs),
      );
    }
    // Not before: a refusal may have been on its way.
    this.#moreLeft(set, key);
  }

  /** Something was given back: refusals need not hold any more, and who waits may try. */
  #moreLeft(set: CompiledSet, key: string): void {
    this.#forgetRefusals(set, key);
    for (const local of this.#localKeys(set, key)) this.#turnstile.wake(local);
  }

  #forgetRefusals(set: CompiledSet, key: string): void {
    for (const local of this.#localKeys(set, key)) this.#refusals.forget(local);
  }

  #giveUpLeases(set: CompiledSet, key: string): void {
    for (const local of this.#localKeys(set, key)) this.#leases?.forget(local);
  }

  /** Under what this process knows the subject, in every set that shares the counter. */
  #localKeys({ counter }: CompiledSet, key: string): string[] {
    return [...this.#sets.values()]
      .filter((set) => set.counter === counter)
      .map((set) => localKey(set, key));
  }

  async renew(subject: string, { policy, slot }: SlotOptions<Name>): Promise<boolean> {
    if (slot === 0) return false;
    const set = this.#setFor(subject, policy);
    const key = subjectKey(subject);
    if (this.#fallback.renew(set, key, slot)) return true;
    return await this.#orStoreError(() =>
      this.#store.renew(stateKey(set, key), set.limits, slot, this.#timeoutMs),
    );
  }

  async reset(subject: string, { policy }: Pick<CheckOptions<Name>, 'policy'> = {}): Promise<void> {
    const set = this.#setFor(subject, policy);
    const key = subjectKey(subject);
    await this.#orStoreError(() => this.#store.reset(stateKey(set, key), this.#timeoutMs));
    this.#giveUpLeases(set, key);
    this.#moreLeft(set, key);
  }

  async restrict(subject: string, options: RestrictOptions<Name>): Promise<void> {
    const { policy, remaining, durationMs } = options;
    if (!Number.isSafeInteger(remaining) || remaining < 0)
      throw new TypeError('remaining: expected an integer of at least 0');
    assertInteger('durationMs', durationMs, longestRestrictionMs);
    const set = this.#setFor(subject, policy);
    const key = subjectKey(subject);
    this.#giveUpLeases(set, key);
    await this.#orStoreError(() =>
      this.#store.restrict(stateKey(set, key), set.limits, remaining, durationMs, this.#timeoutMs),
    );
    // Once more: one may have been on its way.
    this.#giveUpLeases(set, key);
    // A restriction that ends sooner may have taken the place of the one that somebody was refused by.
    this.#forgetRefusals(set, key);
    if (restrictedChannel.hasSubscribers)
      restrictedChannel.publish({ subject: key, policy: set.name, remaining, durationMs });
  }

  async acquire(subject: string, options: AcquireOptions<Name> = {}): Promise<Decision> {
    const { policy, signal, maxWaitMs = defaultMaxWaitMs } = options;
    assertWait(maxWaitMs);
    const set = this.#setFor(subject, policy);
    const local = localKey(set, subjectKey(subject));
    const giveUpAtMs = this.#now() + maxWaitMs;
    const attempt = async (): Promise<Decision | number> => {
      signal?.throwIfAborted();
      const decision = await this.check(subject, options);
      if (decision.allowed) return decision;
      const waitMs = waitOf(decision, set);
      const leftMs = giveUpAtMs - this.#now();
      if (waitMs > leftMs) throw waitTooLong(decision.retryAfterMs);
      return Math.min(jittered(waitMs), leftMs);
    };
    // As long as nobody has to wait, nobody waits for the answers of others.
    if (!this.#turnstile.occupied(local)) {
      const outcome = await attempt();
      if (typeof outcome !== 'number') return outcome;
    }
    const leave = await this.#turnstile.enter(local, signal, giveUpAtMs - this.#now());
    try {
      for (;;) {
        this.#turnstile.tries(local);
        const outcome = await attempt();
        if (typeof outcome !== 'number') return outcome;
        await this.#turnstile.sleep(local, outcome, signal);
      }
    } finally {
      leave();
    }
  }

  async close(): Promise<void> {
    await this.#store.close?.();
  }

  /**
   * What one set does not know, it forgets, and what it knows for a minute does not last an hour: sets that share a counter must
   * know the same.
   * @param limitsOf - the limits under another set; default its own.
   */
  #assertCompatible(
    set: CompiledSet,
    limitsOf: (other: CompiledSet) => readonly Policy[] = ({ limits }) => limits,
  ): void {
    for (const other of this.#sets.values()) {
      if (other.counter !== set.counter || other.name === set.name) continue;
      if (shapeOf(set.limits) !== shapeOf(limitsOf(other)))
        throw new TypeError(
          `policies.${set.name}: shares the counter "${set.counter}" with ${other.name}, so both need the same kinds of limits with the same windows in the same order`,
        );
    }
  }

  #setFor(subject: string, asked: Name | undefined): CompiledSet {
    const policy = asked ?? this.#onlyPolicy;
    const last = this.#lastSet;
    const set = last !== undefined && last.name === policy ? last : this.#namedSet(policy);
    return this.#overrides === undefined ? set : this.#overriddenSet(subject, policy as Name, set);
  }

  #namedSet(policy: Name | undefined): CompiledSet {
    const set = policy === undefined ? undefined : this.#sets.get(policy);
    if (set === undefined) throw unknownPolicy(policy);
    this.#lastSet = set;
    return set;
  }

  #overriddenSet(subject: string, policy: Name, set: CompiledSet): CompiledSet {
    const limits = this.#overrides?.(subject, policy);
    if (limits === undefined) return set;
    const known = this.#overridden.get(policy)?.get(limits);
    if (known) return known;
    const { counter, shadow } = set;
    const overridden = compileSet(policy, { limits, counter, shadow });
    this.#assertCompatible(
      overridden,
      (other) => this.#overrides?.(subject, other.name as Name) ?? other.limits,
    );
    this.#overridden.get(policy)?.set(limits, overridden);
    return overridden;
  }

  async #orStoreError<T>(operation: () => T | Promise<T>): Promise<T> {
    try {
      return await operation();
    } catch (cause) {
      throw new RateLimitError(
        'ERR_RATE_LIMIT_STORE',
        'the store did not do it, or did not say so',
        {
          cause,
        },
      );
    }
  }
}

function reported(subject: string, cost: number, decision: Decision): Decision {
  if ((!decision.allowed || decision.shadowed) && refusedChannel.hasSubscribers)
    refusedChannel.publish({ subject, cost, decision });
  return decision;
}

/** The store answered, with an error: a record that cannot be read, say. Whoever can bring that about must not take the store from others. */
function concernsOneCall(error: unknown): boolean {
  return error instanceof Error && 'code' in error && error.code === 'ERR_STORE_FAILED';
}

/** It certainly had no effect: there was no connection, say. */
function neverRan(error: unknown): boolean {
  return error instanceof Error && 'outcome' in error && error.outcome === 'not-run';
}

function unknownPolicy(name: string | undefined): RateLimitError {
  const message =
    name === undefined
      ? 'several sets of limits: say which by `policy`'
      : `no policy is named ${JSON.stringify(String(name).slice(0, 64))}`;
  return new RateLimitError('ERR_RATE_LIMIT_POLICY', message);
}

function shapeOf(limits: readonly Policy[]): string {
  return limits.map(({ kind, windowUs }) => `${kind} ${windowUs}`).join();
}

function notInThisProcess(): TypeError {
  return new TypeError('checkSync: the store is not in this process; use check');
}

function denial(set: CompiledSet): Decision {
  const retryAfterMs = Number.POSITIVE_INFINITY;
  return decideWithoutLimits(set, { allowed: false, retryAfterMs, denied: true, source: 'local' });
}

function waitOf(decision: Decision, set: CompiledSet): number {
  if (decision.denied)
    throw new RateLimitError('ERR_RATE_LIMIT_DENIED', 'the subject is on the deny list');
  if (decision.impossible)
    throw new RateLimitError(
      'ERR_RATE_LIMIT_IMPOSSIBLE',
      'the cost is more than a limit ever grants',
    );
  return set.leasesSlots ? Math.min(decision.retryAfterMs, slotPollMs) : decision.retryAfterMs;
}

/** Processes that were all refused until the same moment should not all come back at it. */
function jittered(waitMs: number): number {
  return waitMs + Math.random() * Math.min(50, waitMs / 4 + 1);
}

/** A number in their place, as other libraries have it, would count as 1 without a word. */
function asked<Options extends object>(options: Options): Options {
  if (typeof options !== 'object')
    throw new TypeError('options: expected an object, such as { cost: 5 }');
  return options;
}

function assertCost(cost: number): void {
  if (!Number.isSafeInteger(cost) || cost < 1) throw badCost('the cost', 1);
}

function assertActualCost(cost: number): void {
  if (!Number.isSafeInteger(cost) || cost < 0) throw badCost('the actual cost', 0);
}

function badCost(what: string, least: number): RateLimitError {
  return new RateLimitError(
    'ERR_RATE_LIMIT_COST',
    `${what} must be an integer of at least ${least}`,
  );
}

function stateKey({ counter }: CompiledSet, subject: string): StateKey {
  return { counter, subject };
}

function localKey({ name }: CompiledSet, subject: string): string {
  return `${name} ${subject}`;
}

function newSlot(): number {
  return randomInt(1, 2 ** 47);
}
