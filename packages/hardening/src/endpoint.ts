import type { Chain, Guard, GuardRequest, Reply, Verdict } from '@countersign/guard';
import { type Answered, replyTo } from './answer.ts';
import {
  type AnyChain,
  describe,
  type EndpointDescription,
  type Exemptions,
  type Options,
} from './endpoint-description.ts';
import { HardeningError } from './errors.ts';
import { publish } from './events.ts';
import type { InputGuard } from './input-guard.ts';
import type { Output } from './output.ts';
import type { Ownership } from './owner.ts';
import { problem } from './problem.ts';
import { type ParamsOf, routePattern } from './route-pattern.ts';
import { RoutedRequest } from './routed-request.ts';

/** What a handler is told besides its input. */
export type EndpointContext<Path extends string, Found, Resource> = Found & {
  /** The path's parameters, decoded: not empty, at most 256 characters, no slashes. */
  readonly params: ParamsOf<Path>;
  /** What `owner` found. */
  readonly resource: Resource;
};

/** What `endpoint` takes. */
export interface EndpointOptions<
  Path extends string,
  Found extends object,
  Outer extends object,
  Body,
  Resource,
  Result,
> {
  /** Upper case. `GET` answers `HEAD` as well. */
  readonly method: string;
  /** Literal segments and `:name`, matched strictly. */
  readonly path: Path;
  /** What stands before the handler: identity, limits, idempotency. */
  readonly guards: Chain<Found, Outer>;
  /** The name of the guard that identifies the caller. Default `principal`. */
  readonly authentication?: string;
  /** What comes in: `input(schema)` of this module. Without it the handler gets `undefined`, and neither body nor query is read. */
  readonly input?: InputGuard<Body>;
  /** Whose business it is: `owner(…)` or `ability(…)`. */
  readonly owner?: Ownership<
    Resource,
    Found & Outer & { readonly params: ParamsOf<Path>; readonly input: Body }
  >;
  /** What goes out: `output(schema)`. */
  readonly output?: Output<Result>;
  /** Why there is no authentication, owner or output: one reason for all that is missing, or one for each. */
  readonly public?: string | Exemptions;
  /**
   * Does the work. What it returns is held to `output` and sent as JSON; `answer(result, { status, headers })` and `refuse(problem)` say more. What it
   * throws is answered with a 500 that says nothing (or by `errorMapper`) and reported on `countersign:guard:handler-error`.
   */
  readonly handler: (
    input: Body,
    context: EndpointContext<Path, Found & Outer, Resource>,
    request: GuardRequest,
  ) => Answered<NoInfer<Result>> | Promise<Answered<NoInfer<Result>>>;
}

/** A guard that answers one route and lets every other request pass. */
export interface Endpoint<Outer extends object = object> extends Guard<undefined, Outer> {
  describe(): EndpointDescription;
}

const pass: Verdict<undefined> = { pass: true, context: undefined };

/**
 * A route with everything that protects it. The guards run first, then `input`, then `owner`, then the handler, whose result `output` writes.
 * @throws TypeError when authentication, owner or output is missing and `public` does not say why, and for every other mistake in the options: the service
 * does not start.
 */
export function endpoint<
  const Path extends string,
  Found extends object,
  Outer extends object = object,
  Body = undefined,
  Resource = undefined,
  Result = unknown,
>(options: EndpointOptions<Path, Found, Outer, Body, Resource, Result>): Endpoint<Outer> {
  const loose = options as unknown as Options;
  const description = describe(loose);
  const { method, path } = description;
  const match = routePattern(path);
  const secured = protect(loose, description);
  const answers = (asked: string): boolean =>
    asked === method || (asked === 'HEAD' && method === 'GET');
  const guard: Guard<undefined, Outer> = (request, context) => {
    const params = answers(request.method) ? match(request.path) : undefined;
    // The last of the chain answers: it never passes.
    return params ? secured(new RoutedRequest(request, path), { ...context, params }) : pass;
  };
  return Object.assign(guard, { describe: () => description });
}

/** Several endpoints as one guard. A request for none of them passes: what stands behind answers it. */
export interface Endpoints<Outer extends object = object> extends Guard<undefined, Outer> {
  /** Every route with what protects it, as data for the audit: `JSON.stringify(api.describe())`. */
  describe(): readonly EndpointDescription[];
}

/**
 * Endpoints side by side; the first that a request fits answers it.
 * @throws TypeError when one of them would never be reached, because an earlier one answers all that it would: `/orders/new` behind `/orders/:id`.
 */
export function endpoints<Outer extends object = object>(
  all: readonly Endpoint<Outer>[],
): Endpoints<Outer> {
  const descriptions = all.map((one) => one.describe());
  for (const [at, hidden] of descriptions.entries()) {
    const first = descriptions.slice(0, at).find((earlier) => hides(earlier, hidden));
    if (!first) continue;
    throw new TypeError(
      `endpoints: ${hidden.method} ${hidden.path} would never be reached behind ${first.method} ${first.path}`,
    );
  }
  const guard: Guard<undefined, Outer> = (request, context) => {
    for (const one of all) {
      const verdict = one(request, context);
      if (verdict !== pass) return verdict;
    }
    return pass;
  };
  return Object.assign(guard, { describe: () => descriptions });
}

/** Whether every request for the later of two endpoints is answered by the earlier one. */
function hides(earlier: EndpointDescription, later: EndpointDescription): boolean {
  // A parameter takes every other parameter, and every text that a pattern may have.
  const parts = later.path.split('/').map((part) => part.replace(/^:.*/, ':'));
  const pattern = earlier.path.split('/');
  return (
    earlier.method === later.method &&
    parts.length === pattern.length &&
    pattern.every((part, at) => part.startsWith(':') || part === parts[at])
  );
}

/** The guards of an endpoint, and behind them its handler, which answers: it never passes. */
function protect(
  { guards, input, owner, handler, output }: Options,
  { method, path }: EndpointDescription,
): AnyChain {
  const answering: Guard<never, { readonly input?: unknown }> = async (request, context) => {
    try {
      // Guards around the endpoint may have found something by these names: it is neither what came in here nor what was asked for.
      const body = input ? context.input : undefined;
      const known = owner ? context : { ...context, resource: undefined };
      return replyTo(await handler(body, known, request), output);
    } catch (error) {
      if (error instanceof HardeningError && error.code === 'ERR_HARDENING_OUTPUT_MISMATCH') {
        publish('output-mismatch', () => ({ method, route: path, errors: error.errors }));
      }
      return { ...failure, handled: { error: error ?? new Error('the handler threw nothing') } };
    }
  };
  let chain = guards;
  if (input) chain = chain.use('input', input);
  if (owner) chain = chain.use('resource', owner);
  return chain.use('answer', answering);
}

const failure: Reply = problem({ status: 500 });
