import { assertKnown, type OptionNames } from '@countersign/options';
import { assertName } from './options.ts';
import { checkedPolicy, type Policy, type PolicySet } from './policy.ts';

/** A set of policies as the limiter uses it. */
export interface CompiledSet {
  readonly name: string;
  readonly counter: string;
  readonly shadow: boolean;
  readonly limits: readonly Policy[];
  /** Some policy leases slots. */
  readonly leasesSlots: boolean;
  /** No cost above this can ever be granted. */
  readonly largestCost: number;
}

/** What a set may be given as: with its options, or as its limits alone. */
export type PolicySetInput = PolicySet | readonly Policy[];

const setOptions: OptionNames<PolicySet> = { limits: true, counter: true, shadow: true };

/** @param unsaid - what counts where the input does not say it. */
export function compileSet(
  name: string,
  input: PolicySetInput,
  unsaid: Pick<CompiledSet, 'counter' | 'shadow'> = { counter: name, shadow: false },
): CompiledSet {
  assertName('policies', name);
  if (typeof input !== 'object' || input === null) throw notASet(name);
  const set = isList(input) ? { limits: input } : input;
  assertKnown(set, setOptions, `policies.${name}.`);
  const { limits, counter = unsaid.counter, shadow = unsaid.shadow } = set;
  assertName('counter', counter);
  if (!Array.isArray(limits) || limits.length === 0 || limits.length > 16) throw notASet(name);
  if (typeof shadow !== 'boolean')
    throw new TypeError(`policies.${name}: shadow: expected a boolean`);
  // Names are unique over all sets, as the RateLimit fields want them.
  const named = limits.map((given): Policy => {
    const policy = checked(name, given);
    const own = limits.length === 1 ? name : `${name}-${policy.name}`;
    return Object.freeze({ ...policy, name: own });
  });
  if (new Set(named.map((policy) => policy.name)).size < named.length)
    throw new TypeError(
      `policies.${name}: two limits have the same name; give each its own \`name\``,
    );
  const counted = named.filter(({ kind }) => kind !== 'concurrency');
  return Object.freeze({
    name,
    counter,
    shadow,
    limits: Object.freeze(named),
    leasesSlots: counted.length < named.length,
    largestCost: Math.min(...counted.map(({ limit }) => limit)),
  });
}

function notASet(name: string): TypeError {
  return new TypeError(`policies.${name}: expected 1 to 16 limits`);
}

function checked(set: string, given: Policy): Policy {
  try {
    return checkedPolicy(given);
  } catch (cause) {
    throw new TypeError(`policies.${set}: ${(cause as Error).message}`, { cause });
  }
}

function isList(input: PolicySetInput): input is readonly Policy[] {
  return Array.isArray(input);
}
