import type { Guard, GuardRequest } from '@countersign/guard';
import type { InputGuard } from './input-guard.ts';
import type { Output } from './output.ts';
import type { Ownership, OwnershipRule } from './owner.ts';

/** Why an endpoint does without something that protects the others. */
export interface Exemptions {
  /** Why anybody may call it. */
  readonly authentication?: string;
  /** Why it does not matter whose resource it is, or that it is about none: `creates a payment of the caller`. */
  readonly owner?: string;
  /** Why its answer has no schema. */
  readonly output?: string;
}

/** What protects an endpoint, as data. */
export interface EndpointDescription {
  readonly method: string;
  readonly path: string;
  /** The names of the guards before it, the outermost first. */
  readonly guards: readonly string[];
  /** The one of them that identifies the caller. */
  readonly authentication: string | null;
  readonly owner: OwnershipRule | null;
  /** Where input comes from, which is held to a schema; null: it is not read. */
  readonly input: 'body' | 'query' | null;
  /** Everything that can leave, as JSON Pointers. */
  readonly output: readonly string[] | null;
  /** Why what is missing is missing. */
  readonly public: Exemptions;
}

/** How chains and guards look to whoever puts them together without knowing what they find out. */
export interface AnyChain extends Guard<never, object> {
  readonly names: readonly string[];
  use(name: string, guard: Guard<unknown, never>): AnyChain;
}

/** The options of any endpoint. */
export interface Options {
  readonly method: string;
  readonly path: string;
  readonly guards: AnyChain;
  readonly authentication?: string;
  readonly input?: InputGuard<unknown>;
  readonly owner?: Ownership<unknown, never>;
  readonly output?: Output<unknown>;
  readonly public?: string | Exemptions;
  readonly handler: (input: unknown, context: object, request: GuardRequest) => unknown;
}

const optionNames: ReadonlySet<string> = new Set([
  'method',
  'path',
  'guards',
  'authentication',
  'input',
  'owner',
  'output',
  'public',
  'handler',
]);

/** What protects the endpoint, when that is enough. */
export function describe(options: Options): EndpointDescription {
  const { method, path, guards, authentication = 'principal', input, owner, output } = options;
  const where = `endpoint ${method} ${path}`;
  for (const name of Object.keys(options)) {
    if (!optionNames.has(name)) throw new TypeError(`${where}: unknown option "${name}"`);
  }
  if (typeof method !== 'string' || !/^[A-Z]+$/.test(method) || method === 'HEAD') {
    throw new TypeError(`${where}: method: expected one in upper case; GET answers HEAD as well`);
  }
  if (typeof guards !== 'function' || !Array.isArray(guards.names)) {
    throw new TypeError(`${where}: guards: expected a chain(), an empty one for none`);
  }
  const { names } = guards;
  if (names.includes('params')) {
    throw new TypeError(`${where}: guards: "params" are those of the path`);
  }
  if (input !== undefined && (typeof input !== 'function' || typeof input.from !== 'string')) {
    throw new TypeError(
      `${where}: input: expected a guard, input(schema) or upload(…) of "@countersign/hardening/guard"`,
    );
  }
  if (owner !== undefined && typeof owner?.rule !== 'object') {
    throw new TypeError(`${where}: owner: expected owner(…) or ability(…)`);
  }
  if (output !== undefined && typeof output?.stringify !== 'function') {
    throw new TypeError(`${where}: output: expected output(schema)`);
  }
  if (typeof options.handler !== 'function') {
    throw new TypeError(`${where}: handler: expected a function`);
  }
  if (options.authentication !== undefined && !names.includes(authentication)) {
    throw new TypeError(`${where}: authentication: there is no guard named "${authentication}"`);
  }
  const identity = names.includes(authentication) ? authentication : null;
  const missing: readonly (keyof Exemptions)[] = [
    ...(identity === null ? (['authentication'] as const) : []),
    ...(owner ? [] : (['owner'] as const)),
    ...(output ? [] : (['output'] as const)),
  ];
  return {
    method,
    path,
    guards: names,
    authentication: identity,
    owner: owner?.rule ?? null,
    input: input?.from ?? null,
    output: output?.fields ?? null,
    public: exemptions(where, missing, options.public),
  };
}

/** @throws TypeError for what is missing without a reason, and for reasons that have outlived their cause. */
function exemptions(
  where: string,
  missing: readonly (keyof Exemptions)[],
  given: string | Exemptions | undefined,
): Exemptions {
  const reasons =
    typeof given === 'string'
      ? Object.fromEntries(missing.map((name) => [name, given]))
      : { ...given };
  for (const name of missing) {
    const reason: unknown = reasons[name];
    if (typeof reason !== 'string' || reason.trim() === '') {
      throw new TypeError(
        `${where}: no ${name}. Every endpoint has authentication, an owner and an output, or says why not: public: { ${name}: 'why' }`,
      );
    }
  }
  const idle = Object.keys(reasons).filter((name) => !missing.some((other) => other === name));
  if (idle.length > 0 || (given !== undefined && missing.length === 0)) {
    throw new TypeError(`${where}: public: nothing is missing of ${idle.join(', ') || 'it'}`);
  }
  return reasons;
}
