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

/** What `securityHeaders` takes. Each header is `false` (not sent) or its options. */
export interface SecurityHeadersOptions {
  /** `api` for machines (nothing may be loaded or framed), `html` for pages of the same origin. */
  readonly profile: 'api' | 'html';
  /** Sent on secure requests only (RFC 6797 §7.2). */
  readonly strictTransportSecurity?: false | StrictTransportSecurity;
  /** The policy as text; default by profile. */
  readonly contentSecurityPolicy?: false | string;
  /** Default `DENY`. */
  readonly frameOptions?: false | 'DENY' | 'SAMEORIGIN';
  /** Default `no-referrer`. */
  readonly referrerPolicy?: false | string;
  /** The policy as text; default turns off what neither an API nor a plain page needs. */
  readonly permissionsPolicy?: false | string;
  /** Default `no-store`: answers of a guarded service are not for caches (RFC 9111 §5.2.2.5). */
  readonly cacheControl?: false | string;
}

/** The header lines of a response, computed once. */
export interface SecurityHeaders {
  /** For a request that came over TLS. */
  readonly secure: readonly HeaderEntry[];
  /** For a request that did not: the same without `Strict-Transport-Security`. */
  readonly insecure: readonly HeaderEntry[];
}

const policies: Readonly<Record<SecurityHeadersOptions['profile'], string>> = {
  api: "default-src 'none'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'",
  html: "default-src 'self'; script-src 'self'; style-src 'self'; object-src 'none'; frame-ancestors 'none'; base-uri 'self'; form-action 'self'",
};

const unneededFeatures = ['camera', 'geolocation', 'microphone', 'payment', 'usb']
  .map((feature) => `${feature}=()`)
  .join(', ');

const known: readonly string[] = [
  'profile',
  'strictTransportSecurity',
  'contentSecurityPolicy',
  'frameOptions',
  'referrerPolicy',
  'permissionsPolicy',
  'cacheControl',
] satisfies readonly (keyof SecurityHeadersOptions)[];

/**
 * The security headers of every response, validated and serialised once.
 * @throws TypeError for an unknown option or profile, or a value that cannot stand in a header.
 */
export function securityHeaders(options: SecurityHeadersOptions): SecurityHeaders {
  for (const name of Object.keys(options)) {
    if (!known.includes(name)) throw new TypeError(`securityHeaders: unknown option "${name}"`);
  }
  if (!Object.hasOwn(policies, options.profile)) {
    throw new TypeError('securityHeaders: profile must be "api" or "html"');
  }
  const insecure = [
    entry('X-Content-Type-Options', 'nosniff'),
    entry('X-Frame-Options', options.frameOptions, 'DENY'),
    // The filter of old browsers could be turned against the page it guarded: 0 turns it off.
    entry('X-XSS-Protection', '0'),
    entry('Content-Security-Policy', options.contentSecurityPolicy, policies[options.profile]),
    entry('Referrer-Policy', options.referrerPolicy, 'no-referrer'),
    entry('Permissions-Policy', options.permissionsPolicy, unneededFeatures),
    entry('Cache-Control', options.cacheControl, 'no-store'),
  ].flat();
  return {
    insecure,
    secure: [...insecure, ...strictTransportSecurity(options.strictTransportSecurity ?? {})],
  };
}

function entry(
  name: string,
  value: false | string | undefined,
  byDefault = '',
): readonly HeaderEntry[] {
  if (value === false) return [];
  const text = value ?? byDefault;
  if (!/^[\x20-\x7e]+$/.test(text)) {
    throw new TypeError(`securityHeaders: ${name} must be printable ASCII, not empty`);
  }
  return [[name, text]];
}

function strictTransportSecurity(options: false | StrictTransportSecurity): readonly HeaderEntry[] {
  if (options === false) return [];
  const { maxAgeSeconds = 31_536_000, includeSubDomains = true, preload = false } = options;
  if (!Number.isSafeInteger(maxAgeSeconds) || maxAgeSeconds < 0) {
    throw new TypeError(
      'securityHeaders: strictTransportSecurity.maxAgeSeconds must be an integer of 0 or more',
    );
  }
  if (preload && (maxAgeSeconds < 31_536_000 || !includeSubDomains)) {
    throw new TypeError(
      'securityHeaders: strictTransportSecurity.preload needs maxAgeSeconds of 31536000 or more and includeSubDomains',
    );
  }
  const value = `max-age=${maxAgeSeconds}${includeSubDomains ? '; includeSubDomains' : ''}${preload ? '; preload' : ''}`;
  return [['Strict-Transport-Security', value]];
}
