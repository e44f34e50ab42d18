import { RateLimitError } from './errors.ts';
import type { Policy } from './policy.ts';
import { type CompiledSet, compileSet, type PolicySetInput } from './policy-set.ts';
import type { RateLimiterOptions } from './rate-limiter.ts';

/** The sets of limits of a limiter, by name, and what single subjects have in their place. */
export class PolicySets<Name extends string> {
  readonly #sets: Map<string, CompiledSet> = new Map();
  /** The set that was asked for last: most requests of a service ask for the same one, and a lookup is dear. */
  #last: CompiledSet | undefined;
  /** The set that is meant when none is named. */
  readonly #only: Name | undefined;
  readonly #overrides: RateLimiterOptions<Name>['overrides'];
  /** For each set, the limits of single subjects. */
  readonly #overridden: Map<string, WeakMap<readonly Policy[], CompiledSet>> = new Map();

  constructor({ policies, overrides }: Pick<RateLimiterOptions<Name>, 'policies' | 'overrides'>) {
    const names = Object.keys(policies ?? {}) as Name[];
    if (names.length === 0) throw new TypeError('policies: expected at least one set of limits');
    this.#only = names.length === 1 ? names[0] : undefined;
    this.#overrides = overrides;
    for (const name of names) this.#put(compileSet(name, policies[name]));
  }

  /** Other limits under the same name; what they do not say stays as it was. */
  replace(policy: Name, limits: PolicySetInput): void {
    const before = this.#sets.get(policy);
    if (before === undefined) throw unknownPolicy(policy);
    this.#put(compileSet(policy, limits, before));
  }

  /** The set that holds for a subject. @param asked - its name; may be left out when there is only one. */
  setFor(subject: string, asked: Name | undefined): CompiledSet {
    const policy = asked ?? this.#only;
    const last = this.#last;
    const set = last !== undefined && last.name === policy ? last : this.#named(policy);
    return this.#overrides === undefined ? set : this.#overriddenSet(subject, policy as Name, set);
  }

  /** Under what this process knows the subject, in every set that shares the counter. */
  localKeys({ counter }: CompiledSet, key: string): string[] {
    return [...this.#sets.values()]
      .filter((set) => set.counter === counter)
      .map((set) => localKey(set, key));
  }

  #put(set: CompiledSet): void {
    this.#assertCompatible(set);
    this.#sets.set(set.name, set);
    this.#overridden.set(set.name, new WeakMap());
    this.#last = undefined;
  }

  #named(policy: Name | undefined): CompiledSet {
    const set = policy === undefined ? undefined : this.#sets.get(policy);
    if (set === undefined) throw unknownPolicy(policy);
    this.#last = set;
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
}

/** Under what this process knows a subject of a set. */
export function localKey({ name }: CompiledSet, subject: string): string {
  return `${name} ${subject}`;
}

function shapeOf(limits: readonly Policy[]): string {
  return limits.map(({ kind, windowUs }) => `${kind} ${windowUs}`).join();
}

function unknownPolicy(name: string | undefined): RateLimitError {
  const message =
    name === undefined
      ? 'several sets of limits: say which by `policy`'
      : `no policy is named ${JSON.stringify(String(name).slice(0, 64))}`;
  return new RateLimitError('ERR_RATE_LIMIT_POLICY', message);
}
