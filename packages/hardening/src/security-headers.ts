import {
  type ContentSecurityPolicy,
  serialiseContentSecurityPolicy,
} from './content-security-policy.ts';
import { type PermissionsPolicy, serialisePermissionsPolicy } from './permissions-policy.ts';

/** One header field line. */
export type HeaderEntry = readonly [name: string, value: string];

/** Options of `Strict-Transport-Security` (RFC 6797 §6.1). */
export interface StrictTransportSecurity {
  /** Default 31,536,000 (one year). */
  readonly maxAgeSeconds?: number;
  /** Default true: every subdomain must then speak TLS too. */
  readonly includeSubDomains?: boolean;
  /** Default false. Asks browsers to build the rule in; taking it back takes months. */
  readonly preload?: boolean;
}

/** `api` for machines, `html` for pages. */
export type SecurityHeadersProfile = 'api' | 'html';

/** Referrer Policy §3. */
export type ReferrerPolicy =
  | 'no-referrer'
  | 'no-referrer-when-downgrade'
  | 'origin'
  | 'origin-when-cross-origin'
  | 'same-origin'
  | 'strict-origin'
  | 'strict-origin-when-cross-origin'
  | 'unsafe-url';

/** What may be said for some paths, too. Each header is `false` (not sent) or its options. */
export interface SecurityHeadersOverrides {
  /** `api` for machines (nothing may be loaded or framed), `html` for pages of the same origin. */
  readonly profile?: SecurityHeadersProfile;
  /** Sent on secure requests only (RFC 6797 §7.2). */
  readonly strictTransportSecurity?: false | StrictTransportSecurity;
  /** Directives that replace those of the profile, or the whole policy as text. */
  readonly contentSecurityPolicy?: false | string | ContentSecurityPolicy;
  /** `X-Content-Type-Options: nosniff`. */
  readonly contentTypeOptions?: false;
  /** `X-Frame-Options`, for browsers without `frame-ancestors`. Default `DENY`. */
  readonly frameOptions?: false | 'DENY' | 'SAMEORIGIN';
  /** `X-XSS-Protection: 0`. */
  readonly xssProtection?: false;
  /** Default `no-referrer`. */
  readonly referrerPolicy?: false | ReferrerPolicy;
  /** Features that replace those turned off by default. */
  readonly permissionsPolicy?: false | PermissionsPolicy;
  /** Default `same-origin`. */
  readonly crossOriginOpenerPolicy?:
    | false
    | 'same-origin'
    | 'same-origin-allow-popups'
    | 'noopener-allow-popups'
    | 'unsafe-none';
  /** Default `require-corp`: a page loads from elsewhere only what says that it may be. */
  readonly crossOriginEmbedderPolicy?: false | 'require-corp' | 'credentialless' | 'unsafe-none';
  /** Default `same-origin`. Does not concern what `cors` allows: it is about what pages embed without asking. */
  readonly crossOriginResourcePolicy?: false | 'same-origin' | 'same-site' | 'cross-origin';
  /** `X-Permitted-Cross-Domain-Policies`. Default `none`. */
  readonly permittedCrossDomainPolicies?: false | 'none' | 'master-only';
  /**
   * Default `no-store, max-age=0`: answers of a guarded service are not for caches (RFC 9111 §5.2.2.5). With `no-store` comes `Pragma: no-cache`, for
   * caches that know HTTP/1.0 only.
   */
  readonly cacheControl?: false | string;
}

/** What `securityHeaders` takes. */
export interface SecurityHeadersOptions extends SecurityHeadersOverrides {
  readonly profile: SecurityHeadersProfile;
  /**
   * What is different for some paths: `/docs` that path alone, `/docs/*` all below it. The longest that fits counts. Paths are compared as they are
   * written: one that a router might read in another way (dot segments, `//`, an encoded slash) gets no override.
   */
  readonly routes?: Readonly<Record<string, SecurityHeadersOverrides>>;
}

/** The header lines of a response, computed once. */
export interface HeaderSet {
  /** For a request that came over TLS. */
  readonly secure: readonly HeaderEntry[];
  /** For a request that did not: the same without `Strict-Transport-Security`. */
  readonly insecure: readonly HeaderEntry[];
}

/** The header lines of all responses. */
export interface SecurityHeaders extends HeaderSet {
  /** Those of a path, as received and without the query. */
  at(path: string): HeaderSet;
}

const policies: Readonly<Record<SecurityHeadersProfile, ContentSecurityPolicy>> = {
  api: {
    'default-src': ["'none'"],
    'frame-ancestors': ["'none'"],
    'base-uri': ["'none'"],
    'form-action': ["'none'"],
  },
  html: {
    'default-src': ["'self'"],
    'script-src': ["'self'"],
    'style-src': ["'self'"],
    'object-src': ["'none'"],
    'frame-ancestors': ["'none'"],
    'base-uri': ["'self'"],
    'form-action': ["'self'"],
  },
};

/** The values a header may have, its default first. */
const choices = {
  contentTypeOptions: ['X-Content-Type-Options', ['nosniff']],
  frameOptions: ['X-Frame-Options', ['DENY', 'SAMEORIGIN']],
  // The filter of old browsers could be turned against the page it guarded: 0 turns it off.
  xssProtection: ['X-XSS-Protection', ['0']],
  referrerPolicy: [
    'Referrer-Policy',
    [
      'no-referrer',
      'no-referrer-when-downgrade',
      'origin',
      'origin-when-cross-origin',
      'same-origin',
      'strict-origin',
      'strict-origin-when-cross-origin',
      'unsafe-url',
    ],
  ],
  crossOriginOpenerPolicy: [
    'Cross-Origin-Opener-Policy',
    ['same-origin', 'same-origin-allow-popups', 'noopener-allow-popups', 'unsafe-none'],
  ],
  crossOriginEmbedderPolicy: [
    'Cross-Origin-Embedder-Policy',
    ['require-corp', 'credentialless', 'unsafe-none'],
  ],
  crossOriginResourcePolicy: [
    'Cross-Origin-Resource-Policy',
    ['same-origin', 'same-site', 'cross-origin'],
  ],
  permittedCrossDomainPolicies: ['X-Permitted-Cross-Domain-Policies', ['none', 'master-only']],
} as const satisfies Readonly<Record<string, readonly [string, readonly string[]]>>;

type Choice = keyof typeof choices;

/** What a response may say (RFC 9111 §5.2.2, RFC 8246, RFC 5861): caches ignore a directive that they do not know. */
const cacheDirective =
  /^(?:(?:max-age|s-maxage|stale-while-revalidate|stale-if-error)=\d{1,10}|immutable|must-revalidate|must-understand|no-cache|no-store|no-transform|private|proxy-revalidate|public)$/;

const overridable: readonly string[] = [
  ...(Object.keys(choices) as Choice[]),
  'profile',
  'strictTransportSecurity',
  'contentSecurityPolicy',
  'permissionsPolicy',
  'cacheControl',
] satisfies readonly (keyof SecurityHeadersOverrides)[];

/**
 * The security headers of every response, validated and serialised once.
 * @throws TypeError for an unknown option, or a value that browsers would ignore or that cannot stand in a header.
 */
export function securityHeaders(options: SecurityHeadersOptions): SecurityHeaders {
  const { routes = {}, ...base } = options;
  if (!isRecord(routes) || !Object.values(routes).every(isRecord)) {
    throw new TypeError('securityHeaders: routes must be an object of paths and their options');
  }
  const everywhere = headerSet(base);
  const overrides = Object.entries(routes)
    .map(([pattern, override]) => ({
      fits: pathMatch(pattern),
      // What the asterisk stands for has not been said: one character that has, counts more.
      length: pattern.replace(/\/\*$/, '').length,
      headers: headerSet({ ...base, ...override }),
    }))
    .sort((one, other) => other.length - one.length);
  const at = (path: string): HeaderSet =>
    (isPlain(path) && overrides.find(({ fits }) => fits(path))?.headers) || everywhere;
  return { ...everywhere, at: overrides.length === 0 ? () => everywhere : at };
}

function headerSet(options: Omit<SecurityHeadersOptions, 'routes'>): HeaderSet {
  for (const name of Object.keys(options)) {
    if (!overridable.includes(name)) {
      throw new TypeError(`securityHeaders: unknown option "${name}"`);
    }
  }
  if (!Object.hasOwn(policies, options.profile)) {
    throw new TypeError('securityHeaders: profile must be "api" or "html"');
  }
  const { contentSecurityPolicy: csp = {}, permissionsPolicy } = options;
  const insecure: readonly HeaderEntry[] = [
    ...(Object.keys(choices) as Choice[]).flatMap((name) => chosen(name, options[name])),
    ...line('Content-Security-Policy', csp, (policy) =>
      serialiseContentSecurityPolicy(policy, policies[options.profile]),
    ),
    ...line('Permissions-Policy', permissionsPolicy ?? {}, serialisePermissionsPolicy),
    ...cacheControl(options.cacheControl),
  ];
  const { strictTransportSecurity: hsts = {} } = options;
  return {
    insecure: frozen(insecure),
    secure: frozen([
      ...insecure,
      ...line('Strict-Transport-Security', hsts, serialiseStrictTransportSecurity),
    ]),
  };
}

/** Lines that are the same on every response, which guards may then serialise once. */
export function frozen(lines: readonly HeaderEntry[]): readonly HeaderEntry[] {
  for (const entry of lines) Object.freeze(entry);
  return Object.freeze(lines);
}

function line<T>(
  name: string,
  options: false | T,
  serialise: (options: T) => string,
): readonly HeaderEntry[] {
  return options === false ? [] : [[name, serialise(options)]];
}

function chosen(option: Choice, value: false | string | undefined): readonly HeaderEntry[] {
  const [name, values] = choices[option];
  if (value === false) return [];
  if (value === undefined) return [[name, values[0]]];
  if ((values as readonly string[]).includes(value)) return [[name, value]];
  throw new TypeError(
    `securityHeaders: ${option} must be false or ${values.map((known) => `"${known}"`).join(', ')}`,
  );
}

function cacheControl(value: false | string = 'no-store, max-age=0'): readonly HeaderEntry[] {
  if (value === false) return [];
  const directives = typeof value === 'string' ? value.split(/ *, */) : [];
  const names = directives.map((directive) => directive.replace(/=.*/s, ''));
  if (
    directives.length === 0 ||
    !directives.every((directive) => cacheDirective.test(directive)) ||
    new Set(names).size < names.length
  ) {
    throw new TypeError(
      'securityHeaders: cacheControl must be false or directives such as "private, max-age=60", each known and there once',
    );
  }
  const pragma: readonly HeaderEntry[] = [['Pragma', 'no-cache']];
  return [['Cache-Control', value], ...(directives.includes('no-store') ? pragma : [])];
}

/** Compares literally: an override may take protection away, so whatever might not be meant does not fit. */
function pathMatch(pattern: string): (path: string) => boolean {
  const open = pattern.endsWith('/*');
  const literal = open ? pattern.slice(0, -1) : pattern;
  if (!/^\/[\w\-./~!$&'()+,=:@%]*$/.test(literal) || !isPlain(literal)) {
    throw new TypeError(
      `securityHeaders: routes: expected a path such as /docs or /docs/*, got ${JSON.stringify(pattern)}`,
    );
  }
  return (path) => (open ? path.startsWith(literal) : path === literal);
}

/** Whether all routers read a path as it is written. */
function isPlain(path: string): boolean {
  return (
    path.startsWith('/') && !/\/\/|\/\.{1,2}(?:\/|$)|[\\;]|%(?:[01]|25|2e|2f|3b|5c)/i.test(path)
  );
}

function isRecord(value: unknown): boolean {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function serialiseStrictTransportSecurity(options: StrictTransportSecurity): string {
  if (!isRecord(options)) {
    throw new TypeError(
      'securityHeaders: strictTransportSecurity must be false or an object of options',
    );
  }
  for (const name of Object.keys(options)) {
    if (!['maxAgeSeconds', 'includeSubDomains', 'preload'].includes(name)) {
      throw new TypeError(`securityHeaders: unknown option "strictTransportSecurity.${name}"`);
    }
  }
  const { maxAgeSeconds = 31_536_000, includeSubDomains = true, preload = false } = options;
  if (!Number.isSafeInteger(maxAgeSeconds) || maxAgeSeconds < 0) {
    throw new TypeError(
      'securityHeaders: strictTransportSecurity.maxAgeSeconds must be an integer of 0 or more',
    );
  }
  for (const [name, value] of Object.entries({ includeSubDomains, preload })) {
    if (typeof value !== 'boolean') {
      throw new TypeError(`securityHeaders: strictTransportSecurity.${name} must be true or false`);
    }
  }
  if (preload && (maxAgeSeconds < 31_536_000 || !includeSubDomains)) {
    throw new TypeError(
      'securityHeaders: strictTransportSecurity.preload needs maxAgeSeconds of 31536000 or more and includeSubDomains',
    );
  }
  return `max-age=${maxAgeSeconds}${includeSubDomains ? '; includeSubDomains' : ''}${preload ? '; preload' : ''}`;
}
