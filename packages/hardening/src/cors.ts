import { isIP } from 'node:net';
import { assertKnown } from './options.ts';
import { frozen, type HeaderEntry } from './security-headers.ts';

/** Every host below a domain, over one scheme and port; the domain itself is not among them. */
export interface SubdomainsOf {
  /** The origin of the domain: `https://example.com` admits `https://shop.example.com`. */
  readonly subdomainsOf: string;
}

/** What `cors` takes. */
export interface CorsOptions {
  /**
   * Who may read answers: exact origins (`https://app.example.com`, as `URL.origin` writes them), all subdomains of one, or `'*'` for everybody.
   * `null`, the origin of sandboxed frames and files, is never among them. With `'*'`, callers that send no `Origin` are told so too: caches that do not
   * look at `Vary` may give their answer to a page.
   */
  readonly origins: '*' | readonly (string | SubdomainsOf)[];
  /** Whether the browser may send cookies and show what comes back. Default false; refused with `'*'`. */
  readonly credentials?: boolean;
  /** Methods a preflight allows. Default `GET`, `HEAD`, `POST`. */
  readonly methods?: readonly string[];
  /** Request headers a preflight allows, besides those that need no permission. Default none. */
  readonly headers?: readonly string[];
  /** How long a browser may remember a preflight. Default 3,600; 0 to 86,400. */
  readonly maxAgeSeconds?: number;
  /** Response headers that scripts may read, besides those they always may. Default none. */
  readonly exposeHeaders?: readonly string[];
}

/** The part of a request that the decision depends on. */
export interface CorsRequest {
  /** Upper case. */
  readonly method: string;
  /** The `Origin` field; undefined when there is none. */
  readonly origin: string | undefined;
  /** The `Access-Control-Request-Method` field: makes an OPTIONS request a preflight. */
  readonly requestMethod: string | undefined;
}

/** What to do with a request. */
export interface CorsDecision {
  /**
   * `same-origin`: no `Origin` was sent. `allowed`, `refused`: go on, the browser will show the answer or not.
   * `preflight`, `refused-preflight`: answer with 204 and these headers, without running the handler.
   */
  readonly kind: 'same-origin' | 'allowed' | 'refused' | 'preflight' | 'refused-preflight';
  /** On the answer in any case. */
  readonly headers: readonly HeaderEntry[];
}

/** A CORS policy, checked and serialised. */
export type Cors = (request: CorsRequest) => CorsDecision;

const token = /^[!#$%&'*+.^_`|~0-9A-Za-z-]+$/;

/** What a browser never asks permission for, and what no page may ever be given (Fetch §2.2.1). */
const forbiddenMethods = ['CONNECT', 'TRACE', 'TRACK'];

const known: readonly string[] = [
  'origins',
  'credentials',
  'methods',
  'headers',
  'maxAgeSeconds',
  'exposeHeaders',
] satisfies readonly (keyof CorsOptions)[];

/**
 * Decides which pages of other origins may read answers (Fetch §3.3). Origins are compared as they are: there are no patterns and no
 * function that could reflect what was sent. What an origin may do is said in full; nothing of the request is echoed.
 * @throws TypeError for what would not protect or not work: an origin that is no origin, `'*'` with credentials, `null`.
 */
export function cors(options: CorsOptions): Cors {
  assertKnown('cors', options, known);
  const { origins, credentials = false, maxAgeSeconds = 3600 } = options;
  if (typeof credentials !== 'boolean') {
    throw new TypeError('cors: credentials must be true or false');
  }
  if (origins === '*' && credentials) {
    throw new TypeError(
      'cors: credentials need named origins: "*" would hand every page what its visitor may see',
    );
  }
  if (!Number.isInteger(maxAgeSeconds) || maxAgeSeconds < 0 || maxAgeSeconds > 86_400) {
    throw new TypeError('cors: maxAgeSeconds must be an integer from 0 to 86400');
  }
  const methods = tokens('methods', options.methods ?? ['GET', 'HEAD', 'POST']);
  if (methods.some((method) => forbiddenMethods.includes(method.toUpperCase()))) {
    throw new TypeError(`cors: methods must not contain ${forbiddenMethods.join(', ')}`);
  }
  // Browsers compare methods as they are written, and correct the letter case of a few only (Fetch §2.2.1).
  if (methods.some((method) => method !== method.toUpperCase())) {
    throw new TypeError('cors: methods must be in upper case');
  }
  const isAllowed = origins === '*' ? isOrigin : admission(origins);
  // Also with "*": `null` is told nothing.
  const vary: HeaderEntry = ['Vary', 'Origin'];
  const actual = entries({
    'Access-Control-Allow-Credentials': credentials ? 'true' : '',
    'Access-Control-Expose-Headers': tokens('exposeHeaders', options.exposeHeaders ?? []).join(
      ', ',
    ),
  });
  const preflight = entries({
    'Access-Control-Allow-Credentials': credentials ? 'true' : '',
    'Access-Control-Allow-Methods': methods.join(', '),
    'Access-Control-Allow-Headers': tokens('headers', options.headers ?? []).join(', '),
    'Access-Control-Max-Age': String(maxAgeSeconds),
  });
  // A preflight is never for caches, but one that stores OPTIONS anyway must tell requests apart.
  const preflightVary: HeaderEntry = [
    'Vary',
    'Origin, Access-Control-Request-Method, Access-Control-Request-Headers',
  ];

  const refused = decision('refused', [vary]);
  const refusedPreflight = decision('refused-preflight', [preflightVary]);
  const allowedTo = (origin: string): Allowed => {
    const allow: HeaderEntry = ['Access-Control-Allow-Origin', origin];
    return {
      actual: decision('allowed', [vary, allow, ...actual]),
      preflight: decision('preflight', [preflightVary, allow, ...preflight]),
    };
  };
  const exact = new Map<string, Allowed>();
  if (origins !== '*') {
    for (const origin of origins) {
      if (typeof origin === 'string') exact.set(origin, allowedTo(origin));
    }
  }

  const everyone = origins === '*' ? allowedTo('*') : undefined;
  const sameOrigin = decision('same-origin', everyone?.actual.headers ?? [vary]);

  return ({ method, origin, requestMethod }) => {
    if (origin === undefined) return sameOrigin;
    const isPreflight = method === 'OPTIONS' && requestMethod !== undefined;
    const prepared = exact.get(origin);
    if (!prepared && !isAllowed(origin)) return isPreflight ? refusedPreflight : refused;
    return (prepared ?? everyone ?? allowedTo(origin))[isPreflight ? 'preflight' : 'actual'];
  };
}

/** What an origin that is allowed gets. */
interface Allowed {
  readonly actual: CorsDecision;
  readonly preflight: CorsDecision;
}

/** Frozen, because most are the same for many requests. */
function decision(kind: CorsDecision['kind'], headers: readonly HeaderEntry[]): CorsDecision {
  return { kind, headers: frozen(headers) };
}

/** Whether a text is an origin as browsers serialise it: scheme, host and port, and nothing else. */
function isOrigin(text: string): boolean {
  return URL.canParse(text) && new URL(text).origin === text;
}

function admission(rules: readonly (string | SubdomainsOf)[]): (origin: string) => boolean {
  if (!Array.isArray(rules) || rules.length === 0) {
    throw new TypeError('cors: origins must be "*" or a list that is not empty');
  }
  const suffixes: {
    readonly scheme: string;
    readonly hostSuffix: string;
    readonly port: string;
  }[] = [];
  for (const rule of rules) {
    if (typeof rule === 'string') checkedOrigin(rule, 'origins');
    else {
      const { protocol, hostname, port } = new URL(
        checkedOrigin(rule?.subdomainsOf, 'origins.subdomainsOf'),
      );
      assertKnown('cors: origins', rule, ['subdomainsOf']);
      if (isIP(hostname.replace(/^\[|\]$/g, '')) !== 0) {
        throw new TypeError(
          `cors: origins.subdomainsOf: the address ${hostname} has no subdomains`,
        );
      }
      suffixes.push({ scheme: protocol, hostSuffix: `.${hostname}`, port });
    }
  }
  return (origin) => {
    if (suffixes.length === 0 || !isOrigin(origin)) return false;
    const { protocol, hostname, port } = new URL(origin);
    // A host with an empty label is nobody's subdomain, though some resolvers would look it up.
    if (hostname.split('.').includes('')) return false;
    return suffixes.some(
      (rule) =>
        rule.scheme === protocol && rule.port === port && hostname.endsWith(rule.hostSuffix),
    );
  };
}

function checkedOrigin(text: string, option: string): string {
  // A URL may have a host with an asterisk in it, and no page ever comes from there.
  if (typeof text !== 'string' || text === 'null' || text.includes('*') || !isOrigin(text)) {
    throw new TypeError(
      `cors: ${option}: ${JSON.stringify(text)} is not an origin such as "https://app.example.com"; for all hosts below one there is { subdomainsOf }`,
    );
  }
  return text;
}

function tokens(option: string, names: readonly string[]): readonly string[] {
  if (
    !Array.isArray(names) ||
    names.some((name) => typeof name !== 'string' || !token.test(name) || name === '*')
  ) {
    throw new TypeError(`cors: ${option} must be a list of names; "*" is not one`);
  }
  return names;
}

function entries(headers: Readonly<Record<string, string>>): readonly HeaderEntry[] {
  return Object.entries(headers).filter(([, value]) => value !== '');
}
