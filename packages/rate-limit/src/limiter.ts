import { assertKnown, type OptionNames } from '@countersign/options';
import { assertActualCost, assertCost } from './cost.ts';
import { chargedCost, type Decision, decide, decideWithoutLimits } from './decision.ts';
import { RateLimitError } from './errors.ts';
import { reported, restrictedChannel } from './events.ts';
import { type Fallback, fallback } from './fallback.ts';
import { Leases } from './lease.ts';
import { assertFunction, assertInteger } from './options.ts';
import { largestLimit } from './policy.ts';
import type { CompiledSet, PolicySetInput } from './policy-set.ts';
import { localKey, PolicySets } from './policy-sets.ts';
import type {
  AcquireOptions,
  CheckOptions,
  RateLimiter,
  RateLimiterOptions,
  Reservation,
  RestrictOptions,
  SettleOptions,
  SlotOptions,
} from './rate-limiter.ts';
import { longestRestrictionMs } from './record.ts';
import { RemoteChecks } from './remote-checks.ts';
import { assertSlot, slotFor } from './slot.ts';
import type { ConsumeMode, PolicyStatus, RateLimitStore, StateKey, StoreAnswer } from './store.ts';
import { subjectKey } from './subject.ts';
import { assertWait, Turnstile, waitTooLong } from './turnstile.ts';

const defaultMaxWaitMs = 30_000;
/** A slot may be released before its lease ends: look again this often. */
const slotPollMs = 100;

/** Makes a limiter. @throws TypeError for an option that makes no sense, naming it. */
export function createRateLimiter<Name extends string>(
  options: RateLimiterOptions<Name>,
): RateLimiter<Name> {
  return new Limiter(options);
}

const known: OptionNames<RateLimiterOptions<string>> = {
  store: true,
  policies: true,
  onStoreError: true,
  timeoutMs: true,
  replicas: true,
  lease: true,
  overrides: true,
  deny: true,
  now: true,
};

class Limiter<Name extends string> implements RateLimiter<Name> {
  readonly sync: boolean;
  readonly #store: RateLimitStore;
  readonly #sets: PolicySets<Name>;
  readonly #timeoutMs: number;
  readonly #deny: ((subject: string) => boolean) | undefined;
  readonly #now: () => number;
  readonly #fallback: Fallback;
  readonly #remote: RemoteChecks;
  readonly #turnstile = new Turnstile();

  constructor(options: RateLimiterOptions<Name>) {
    assertKnown(options, known);
    const { store, onStoreError = 'closed', timeoutMs = 100, replicas = 1 } = options;
    const { now = () => performance.now() } = options;
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
    this.#sets = new PolicySets(options);
    this.#timeoutMs = timeoutMs;
    this.#deny = options.deny;
    this.#now = now;
    this.#fallback = fallback(onStoreError, replicas, now);
    const leases = options.lease && new Leases(options.lease);
    this.#remote = new RemoteChecks({ store, timeoutMs, fallback: this.#fallback, leases, now });
  }

  setPolicies(policy: Name, limits: PolicySetInput): void {
    this.#sets.replace(policy, limits);
    this.#remote.clear();
    this.#turnstile.wakeAll();
  }

  checkSync(subject: string, options: CheckOptions<Name> = {}): Decision {
    if (!this.sync) throw notInThisProcess();
    const { policy, cost = 1 } = asked(options);
    const key = subjectKey(subject);
    assertCost(cost);
    const set = this.#sets.setFor(subject, policy);
    if (this.#deny?.(subject)) return reported(key, cost, denial(set));
    const impossible = cost > set.largestCost;
    const slot = slotFor(set);
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
    const set = this.#sets.setFor(subject, policy);
    return this.#deny?.(subject)
      ? Promise.resolve(reported(key, cost, denial(set)))
      : this.#remote.check(set, key, cost);
  }

  async peek(subject: string, options: CheckOptions<Name> = {}): Promise<Decision> {
    const { policy, cost = 1 } = asked(options);
    const key = subjectKey(subject);
    assertCost(cost);
    const set = this.#sets.setFor(subject, policy);
    if (this.#deny?.(subject)) return denial(set);
    return await this.#orStoreError(() => this.#consume(set, key, cost, 'peek'));
  }

  async #consume(
    set: CompiledSet,
    key: string,
    cost: number,
    mode: Exclude<ConsumeMode, 'take'>,
  ): Promise<Decision> {
    const { counter, limits, largestCost } = set;
    const answer = await this.#store.consume(counter, key, limits, cost, mode, 0, this.#timeoutMs);
    return decide(set, answer, 'store', 0, cost > largestCost);
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
    assertSlot(slot);
    const key = subjectKey(subject);
    const set = this.#sets.setFor(subject, policy);
    // More than the largest limit is of no consequence.
    const difference = Math.min(actualCost - cost, largestLimit);
    // Both at once: a slot must not stay taken because a charge failed.
    await Promise.all([
      difference > 0 && this.#charge(set, key, difference),
      (difference < 0 || slot !== 0) && this.#give(set, key, Math.max(0, -difference), slot),
    ]);
  }

  async #charge(set: CompiledSet, key: string, cost: number): Promise<void> {
    await this.#orStoreError(() => this.#consume(set, key, cost, 'force'));
    // Where the limits of the subject have changed, what it was refused by may be gone now.
    this.#remote.forgetRefusals(set, key);
  }

  async refund(subject: string, options: CheckOptions<Name> = {}): Promise<void> {
    const { policy, cost = 1 } = asked(options);
    assertCost(cost);
    await this.#give(this.#sets.setFor(subject, policy), subjectKey(subject), cost, 0);
  }

  async release(subject: string, { policy, slot }: SlotOptions<Name>): Promise<void> {
    assertSlot(slot);
    if (slot !== 0)
      await this.#give(this.#sets.setFor(subject, policy), subjectKey(subject), 0, slot);
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
    this.#remote.forgetRefusals(set, key);
    for (const local of this.#sets.localKeys(set, key)) this.#turnstile.wake(local);
  }

  async renew(subject: string, { policy, slot }: SlotOptions<Name>): Promise<boolean> {
    assertSlot(slot);
    if (slot === 0) return false;
    const set = this.#sets.setFor(subject, policy);
    const key = subjectKey(subject);
    if (this.#fallback.renew(set, key, slot)) return true;
    return await this.#orStoreError(() =>
      this.#store.renew(stateKey(set, key), set.limits, slot, this.#timeoutMs),
    );
  }

  async reset(subject: string, { policy }: Pick<CheckOptions<Name>, 'policy'> = {}): Promise<void> {
    const set = this.#sets.setFor(subject, policy);
    const key = subjectKey(subject);
    await this.#orStoreError(() => this.#store.reset(stateKey(set, key), this.#timeoutMs));
    this.#remote.forgetLeases(this.#sets.localKeys(set, key));
    this.#moreLeft(set, key);
  }

  async restrict(subject: string, options: RestrictOptions<Name>): Promise<void> {
    const { policy, remaining, durationMs } = options;
    if (!Number.isSafeInteger(remaining) || remaining < 0)
      throw new TypeError('remaining: expected an integer of at least 0');
    assertInteger('durationMs', durationMs, longestRestrictionMs);
    const set = this.#sets.setFor(subject, policy);
    const key = subjectKey(subject);
    const locals = this.#sets.localKeys(set, key);
    this.#remote.forgetLeases(locals);
    await this.#orStoreError(() =>
      this.#store.restrict(stateKey(set, key), set.limits, remaining, durationMs, this.#timeoutMs),
    );
    // Once more: one may have been on its way.
    this.#remote.forgetLeases(locals);
    // A restriction that ends sooner may have taken the place of the one that somebody was refused by.
    this.#remote.forgetRefusals(set, key);
    if (restrictedChannel.hasSubscribers)
      restrictedChannel.publish({ subject: key, policy: set.name, remaining, durationMs });
  }

  async acquire(subject: string, options: AcquireOptions<Name> = {}): Promise<Decision> {
    const { policy, signal, maxWaitMs = defaultMaxWaitMs } = options;
    assertWait(maxWaitMs);
    const set = this.#sets.setFor(subject, policy);
    const local = localKey(set, subjectKey(subject));
    const giveUpAtMs = this.#now() + maxWaitMs;
    const attempt = async (): Promise<Decision | number> => {
      signal?.throwIfAborted();
      const decision = await this.check(subject, options);
      if (decision.allowed) return decision;
      const waitMs = waitOf(decision);
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

function notInThisProcess(): TypeError {
  return new TypeError('checkSync: the store is not in this process; use check');
}

function denial(set: CompiledSet): Decision {
  const retryAfterMs = Number.POSITIVE_INFINITY;
  return decideWithoutLimits(set, { allowed: false, retryAfterMs, denied: true, source: 'local' });
}

function waitOf(decision: Decision): number {
  if (decision.denied)
    throw new RateLimitError('ERR_RATE_LIMIT_DENIED', 'the subject is on the deny list');
  if (decision.impossible)
    throw new RateLimitError(
      'ERR_RATE_LIMIT_IMPOSSIBLE',
      'the cost is more than a limit ever grants',
    );
  const { policies, retryAfterMs } = decision;
  const slotMs = longestWait(policies.filter(({ concurrent }) => concurrent));
  const otherMs = longestWait(policies.filter(({ concurrent }) => !concurrent));
  // A slot may be free at any moment, but whatever else refuses takes its time.
  return slotMs < retryAfterMs ? retryAfterMs : Math.max(otherMs, Math.min(slotMs, slotPollMs));
}

function longestWait(policies: readonly PolicyStatus[]): number {
  return Math.max(0, ...policies.map((policy) => policy.retryAfterMs));
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

function stateKey({ counter }: CompiledSet, subject: string): StateKey {
  return { counter, subject };
}
