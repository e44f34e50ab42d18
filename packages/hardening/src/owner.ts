import type { Guard, GuardRequest, Reply } from '@countersign/guard';
import { type OwnerRefused, publish } from './events.ts';
import { assertFunction, assertKnown } from './options.ts';
import { problem } from './problem.ts';

/** A resource, and whose it is. */
export interface Owned<Resource> {
  /** The principal's name, as the guard that identifies callers gives it. Empty is nobody's. */
  readonly owner: string;
  readonly resource: Resource;
}

/** What a caller who is nobody's owner is answered; both look the same for every caller. */
export type OwnerRefusal = 403 | 404;

/** What a caller may do to a resource, decided by the resource: a guard whose context is the resource. */
export type Ownership<Resource, In = object> = Guard<Resource, In> & {
  /** For the audit: how it decides. */
  readonly rule: OwnershipRule;
};

/** How ownership is decided, as data. */
export interface OwnershipRule {
  readonly kind: 'owner' | 'ability';
  readonly refuseWith: OwnerRefusal;
  /** Roles that are let through whoever the owner is. */
  readonly roles?: readonly string[];
  /** What the ability is asked for. */
  readonly action?: string;
}

/** What `owner` and `ability` share. */
export interface OwnershipOptions {
  /**
   * 404 (default) says of the resources of others what it says of none: that they exist is nobody's business. 403 tells that they do;
   * resources that do not exist are 404 all the same.
   */
  readonly refuseWith?: OwnerRefusal;
}

/** What the guards before found out, when one of them is called `principal`: a name, or something that has one. */
export interface Identified {
  readonly principal: string | { readonly id: string } | { readonly subject: string };
}

/** What `owner` takes. `In` is what the guards before it found out. */
export interface OwnerOptions<In> extends OwnershipOptions {
  /** Who asks. Default: the context's `principal`, its `id` or its `subject`. Nobody (undefined, empty) owns nothing. */
  readonly principal?: (context: In) => string | undefined;
  /** Roles that are let through to everybody's resources. Default none. Each use is an event. */
  readonly roles?: readonly string[];
  /** The roles of who asks; mandatory with `roles`. */
  readonly rolesOf?: (context: In) => readonly string[];
}

/** What was found about a resource that nobody is told of. */
type Found = string | Owned<unknown> | null | undefined;
type ResourceOf<F> = [Extract<F, Owned<unknown>>] extends [never]
  ? undefined
  : Extract<F, Owned<unknown>>['resource'];

/**
 * A guard that lets through the owner of what is asked for, and nobody else (OWASP API1:2023). `resolve` says whose it is: the owner's name; the
 * owner with the resource, which is the guard's context then and need not be loaded twice; or undefined when there is no such resource.
 * @throws TypeError when an option is missing, misspelt or malformed.
 */
export function owner<F extends Found, In = Identified>(
  resolve: (request: GuardRequest, context: In) => F | Promise<F>,
  options: OwnerOptions<In> = {},
): Ownership<ResourceOf<F>, In> {
  const { principal = principalOf, roles = [], rolesOf, refuseWith = 404 } = options;
  assertKnown('owner', options, ['principal', 'roles', 'rolesOf', 'refuseWith']);
  assertFunction('owner: resolve', resolve);
  assertFunction('owner: principal', principal);
  assertRefusal('owner', refuseWith);
  if (!Array.isArray(roles) || !roles.every((role) => typeof role === 'string' && role !== '')) {
    throw new TypeError('owner: roles: expected names of roles');
  }
  if (roles.length > 0) assertFunction('owner: rolesOf', rolesOf);
  const mayAll = (context: In): string | undefined => {
    const held = rolesOf?.(context);
    return Array.isArray(held) ? roles.find((role) => held.includes(role)) : undefined;
  };
  const decide = async (request: GuardRequest, context: In) => {
    const caller = principal(context);
    // Not even looked up: how long that takes is no business of somebody who is nobody.
    if (!isName(caller)) return refuse(request, refuseWith, 'anonymous');
    const found = await resolve(request, context);
    const named = typeof found === 'object' && found !== null ? found.owner : found;
    if (!isName(named)) return refuse(request, 404, 'absent', caller);
    if (named !== caller) {
      const role = mayAll(context);
      if (role === undefined) return refuse(request, refuseWith, 'foreign', caller);
      publish('owner-overridden', () => ({ ...whereOf(request), principal: caller, role }));
    }
    const resource = typeof found === 'object' ? found?.resource : undefined;
    return { pass: true, context: resource as ResourceOf<F> } as const;
  };
  return Object.assign(decide, { rule: { kind: 'owner', refuseWith, roles } as const });
}

/** An ability as CASL makes it (`@casl/ability`): `can(action, resource)` says whether somebody may. */
export interface Ability {
  can(...question: never): boolean;
}

/** What `ability` takes. `In` is what the guards before it found out. */
export interface AbilityOptions<Able extends Ability, In> extends OwnershipOptions {
  /** What is about to be done, as the ability calls it: `read`, `update`, … */
  readonly action: Extract<Parameters<Able['can']>[0], string>;
  /** What the caller may do; nothing when undefined. */
  readonly of: (context: In) => Able | undefined;
}

/**
 * A guard that asks an ability (CASL's, or anything with its `can`) whether the caller may do `action` to what is asked for. `load` gives the
 * resource itself, an object that the ability knows the type of (an instance of a class, or CASL's `subject('Payment', payment)`): asked about a
 * type alone, abilities say yes if there is any such resource.
 * @throws TypeError when an option is missing, misspelt or malformed.
 */
export function ability<Resource extends object, Able extends Ability, In = Identified>(
  load: (
    request: GuardRequest,
    context: In,
  ) => Resource | null | undefined | Promise<Resource | null | undefined>,
  options: AbilityOptions<Able, In>,
): Ownership<Resource, In> {
  const { action, of, refuseWith = 404 } = options;
  assertKnown('ability', options, ['action', 'of', 'refuseWith']);
  assertFunction('ability: load', load);
  assertFunction('ability: of', of);
  assertRefusal('ability', refuseWith);
  if (!isName(action)) throw new TypeError('ability: action: expected a name such as "read"');
  const decide = async (request: GuardRequest, context: In) => {
    const able = of(context);
    if (!able) return refuse(request, refuseWith, 'anonymous');
    const resource = await load(request, context);
    if (typeof resource !== 'object' || resource === null) return refuse(request, 404, 'absent');
    const answer: unknown = able.can(...([action, resource] as never));
    // Nothing but true is a yes: a promise is none.
    if (answer !== true) {
      return refuse(request, refuseWith, 'foreign');
    }
    return { pass: true, context: resource } as const;
  };
  return Object.assign(decide, { rule: { kind: 'ability', refuseWith, action } as const });
}

const replies: Readonly<Record<OwnerRefusal, Reply>> = {
  403: problem({ status: 403 }),
  404: problem({ status: 404 }),
};

function refuse(
  request: GuardRequest,
  status: OwnerRefusal,
  reason: OwnerRefused['reason'],
  principal?: string,
): Reply {
  const who = principal === undefined ? {} : { principal };
  publish('owner-refused', () => ({ ...whereOf(request), reason, status, ...who }));
  return replies[status];
}

function whereOf({ method, route }: GuardRequest): { method: string; route?: string } {
  return route === undefined ? { method } : { method, route };
}

function principalOf(context: unknown): string | undefined {
  const { principal } = (context ?? {}) as { principal?: unknown };
  if (typeof principal !== 'object' || principal === null) return principal as string | undefined;
  const { id, subject } = principal as { id?: string; subject?: string };
  return id ?? subject;
}

function isName(value: unknown): value is string {
  return typeof value === 'string' && value !== '';
}

function assertRefusal(what: string, status: number): void {
  if (status !== 403 && status !== 404) {
    throw new TypeError(`${what}: refuseWith: expected 404 or 403`);
  }
}
