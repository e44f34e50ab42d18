import type { GuardRequest, RequestHeaders } from './request.ts';
import { pathMatch } from './route-match.ts';
import type { Guard } from './verdict.ts';

/**
 * A guard for some requests only: `guard` (a chain, mostly) sees those whose method and path match, and `request.route`
 * is `pattern` then. Every other request passes, with `undefined` for a context.
 *
 * A path matches in every spelling that a router might accept: `/payments`, `/Payments/`, `//payments`, `/%70ayments`.
 * @param method - upper case; several; or `'*'` for all. `GET` includes `HEAD`, as routers have it.
 * @param pattern - literal segments, `:name` for one segment, and `*` at the end for the rest.
 * @throws TypeError when the method or the pattern is malformed.
 */
export function route<C, In = object>(
  method: string | readonly string[],
  pattern: string,
  guard: Guard<C, In>,
): Guard<C | undefined, In> {
  const methods = methodsOf(method);
  const matches = pathMatch(pattern);
  const guarded = (request: GuardRequest, context: In): ReturnType<Guard<C | undefined, In>> => {
    const applies =
      (methods === undefined || methods.has(request.method)) &&
      (request.route === pattern || matches(request.path));
    if (!applies) return { pass: true, context: undefined };
    return guard(new RoutedRequest(request, pattern), context);
  };
  return Object.assign(guarded, { refusesStreams: guard.refusesStreams ?? false });
}

/** `undefined` for all. */
function methodsOf(method: string | readonly string[]): ReadonlySet<string> | undefined {
  if (method === '*') return undefined;
  const methods = new Set(typeof method === 'string' ? [method] : method);
  if (methods.size === 0 || [...methods].some((name) => !/^[A-Z-]+$/.test(name))) {
    throw new TypeError("route: expected methods in upper case, such as 'POST', or '*'");
  }
  return methods.has('GET') ? methods.add('HEAD') : methods;
}

/** The request, whose route is known now. */
class RoutedRequest implements GuardRequest {
  readonly route: string;
  private readonly request: GuardRequest;

  constructor(request: GuardRequest, route: string) {
    this.request = request;
    this.route = route;
  }

  get method(): string {
    return this.request.method;
  }
  get path(): string {
    return this.request.path;
  }
  get query(): URLSearchParams {
    return this.request.query;
  }
  get search(): string | undefined {
    return this.request.search;
  }
  get headers(): RequestHeaders {
    return this.request.headers;
  }
  get remoteAddress(): string {
    return this.request.remoteAddress;
  }
  get secure(): boolean {
    return this.request.secure;
  }
  get viaTrustedProxy(): boolean {
    return this.request.viaTrustedProxy ?? false;
  }
  get signal(): AbortSignal {
    return this.request.signal;
  }
  rawBody(maxBytes?: number): Promise<Uint8Array> {
    return this.request.rawBody(maxBytes);
  }
}
