import type { JSONWebKeySet } from 'jose';
import { ALGORITHMS, type Algorithm } from './algorithms.ts';
import type { GenericClaims } from './claims.ts';
import type { DpopOptions } from './dpop.ts';
import type { FetchLike } from './fetch-json.ts';
import type { KeyInput } from './keys.ts';

/** Which tokens are expected: the JWT profile for access tokens (RFC 9068), or any JWT with the five claims. */
export type Profile = 'rfc9068' | 'generic';

/** What may differ from issuer to issuer. */
export interface TokenPolicy {
  /** What the token's `aud` must contain: this API's own identifier. Compared exactly; one of several suffices. */
  readonly audience?: string | readonly string[];
  /** Default `['RS256']`. Never taken from the token. HMAC algorithms cannot be mixed with others. */
  readonly algorithms?: readonly Algorithm[];
  /** Default `'rfc9068'`: `typ: at+jwt`, `client_id` and `jti` are required beside iss, aud, sub, exp and iat. */
  readonly profile?: Profile;
  /** The most `exp − iat` may be, in seconds. Default 900. `'unlimited'` leaves stolen tokens useful for as long as the issuer likes. */
  readonly maxLifetimeSeconds?: number | 'unlimited';
  /** Claims that must be there and not empty, beside those of the profile. */
  readonly requiredClaims?: readonly string[];
}

/** One trusted issuer. Without `jwksUri`, `jwks` or `key` its keys are found by discovery (RFC 8414, OpenID Connect). */
export interface IssuerOptions extends TokenPolicy {
  /** Compared exactly with `iss`. */
  readonly issuer: string;
  /** Where the key set is published, if discovery shall not say. */
  readonly jwksUri?: string;
  /** A key set that never changes. */
  readonly jwks?: JSONWebKeySet;
  /** One key that never changes. Serves tokens with any `kid`. */
  readonly key?: KeyInput;
}

/** How published keys are fetched and for how long they are trusted. */
export interface KeysOptions {
  /** Age in seconds at which keys should have been fetched again. Refreshing starts at 80 % of it. Default 600. */
  readonly maxAgeSeconds?: number;
  /** Age in seconds up to which keys serve while the issuer cannot be reached. Default 3600. */
  readonly maxStaleSeconds?: number;
  /** The least time in seconds between two requests caused by unknown `kid`s, and the longest pause after failures. Default 30. */
  readonly cooldownSeconds?: number;
  /** Time for one request, its redirects not followed, in milliseconds. Default 5000. */
  readonly timeoutMs?: number;
  /** The longest anybody waits for aged keys to be refreshed before they serve once more, in milliseconds. Default 500. */
  readonly maxWaitMs?: number;
  /** Default 262144. */
  readonly maxBytes?: number;
  /** Default the built-in `fetch`. */
  readonly fetch?: FetchLike;
  /** Allow `http:` for 127.0.0.0/8, [::1] and localhost: over http anybody on the path chooses the keys. Default false. */
  readonly allowInsecureLoopback?: boolean;
}

/** Whether this token has been revoked. Asked on every use, hits of the cache included. */
export type DenylistCheck = (claims: GenericClaims) => boolean | Promise<boolean>;

export interface JwtVerifierOptions extends TokenPolicy {
  /** The trusted issuer, or all of them. A string alone means discovery. */
  readonly issuer: string | IssuerOptions | readonly IssuerOptions[];
  /** This API's own identifier, or several; an issuer may have its own. Compared exactly with the token's `aud`. */
  readonly audience: string | readonly string[];
  /** How far clocks may be apart, in seconds. Default 5, at most 300. */
  readonly clockToleranceSeconds?: number;
  /** Default 8192. */
  readonly maxTokenBytes?: number;
  /** Verified tokens to remember; `false` for none. Default 10000 entries. */
  readonly cache?: { readonly maxEntries: number } | false;
  readonly denylist?: DenylistCheck;
  /** Accept DPoP proofs (RFC 9449). Default: they are not accepted, and neither are tokens bound to a DPoP key. */
  readonly dpop?: DpopOptions;
  readonly keys?: KeysOptions;
  /** Milliseconds since 1970. Default `Date.now`, which the monotonic clock then guards against steps backwards. */
  readonly now?: () => number;
}

/** More would make `exp` a suggestion, and let tokens outlive their place on a denylist. */
export const MAX_TOLERANCE_SECONDS = 300;

const POLICY_NAMES = [
  'audience',
  'algorithms',
  'profile',
  'maxLifetimeSeconds',
  'requiredClaims',
] as const satisfies (keyof TokenPolicy)[];

const ISSUER_NAMES: readonly string[] = [
  ...POLICY_NAMES,
  'issuer',
  'jwksUri',
  'jwks',
  'key',
] satisfies (keyof IssuerOptions)[];

const VERIFIER_NAMES: readonly string[] = [
  ...POLICY_NAMES,
  'issuer',
  'clockToleranceSeconds',
  'maxTokenBytes',
  'cache',
  'denylist',
  'dpop',
  'keys',
  'now',
] satisfies (keyof JwtVerifierOptions)[];

const KEYS_NAMES: readonly string[] = [
  'maxAgeSeconds',
  'maxStaleSeconds',
  'cooldownSeconds',
  'timeoutMs',
  'maxWaitMs',
  'maxBytes',
  'fetch',
  'allowInsecureLoopback',
] satisfies (keyof KeysOptions)[];

/** The issuers as a list, each checked. @throws TypeError naming the option and what was expected */
export function issuersOf(options: JwtVerifierOptions): readonly IssuerOptions[] {
  assertKnown('option', options, VERIFIER_NAMES);
  assertFunction('denylist', options.denylist);
  assertFunction('now', options.now);
  if (options.keys) assertKnown('keys option', options.keys, KEYS_NAMES);
  const given =
    typeof options.issuer === 'string' ? [{ issuer: options.issuer }] : [options.issuer].flat();
  if (given.length === 0) throw new TypeError('issuer must name at least one issuer');
  for (const issuer of given) {
    assertKnown('issuer option', issuer, ISSUER_NAMES);
    if (typeof issuer.issuer !== 'string' || issuer.issuer === '')
      throw new TypeError('issuer must be a string with something in it');
    const sources = [issuer.jwksUri, issuer.jwks, issuer.key].filter((one) => one !== undefined);
    if (sources.length > 1) throw new TypeError('give one of jwksUri, jwks and key, not several');
  }
  if (new Set(given.map(({ issuer }) => issuer)).size < given.length)
    throw new TypeError('issuer must not name an issuer twice');
  return given;
}

export function audiencesOf(value: TokenPolicy['audience']): readonly string[] {
  const audiences = value === undefined ? [] : [value].flat();
  if (audiences.length === 0 || !audiences.every((one) => typeof one === 'string' && one !== ''))
    throw new TypeError('audience must be a string with something in it, or several');
  return audiences;
}

export function algorithmsOf(value: readonly Algorithm[] = ['RS256']): readonly Algorithm[] {
  if (!Array.isArray(value) || value.length === 0)
    throw new TypeError('algorithms must name at least one algorithm');
  for (const name of value) {
    if (!ALGORITHMS.has(name))
      throw new TypeError(
        `algorithms must be among ${[...ALGORITHMS.keys()].join(', ')}; got ${JSON.stringify(name)}`,
      );
  }
  assertOneFamily(value);
  return [...new Set(value)];
}

/** Whoever can verify an HMAC can also make one. One verifier, all its issuers together, must not treat both as equal. */
export function assertOneFamily(algorithms: readonly string[]): void {
  const hmac = algorithms.filter((name) => name.startsWith('HS'));
  if (hmac.length > 0 && hmac.length < algorithms.length)
    throw new TypeError(
      'algorithms must not mix HMAC with signatures in one verifier: a public key is no secret',
    );
}

export function profileOf(value: Profile = 'rfc9068'): Profile {
  if (value !== 'rfc9068' && value !== 'generic')
    throw new TypeError("profile must be 'rfc9068' or 'generic'");
  return value;
}

export function maxLifetimeOf(value: TokenPolicy['maxLifetimeSeconds'] = 900): number {
  if (value === 'unlimited') return Number.POSITIVE_INFINITY;
  return positive('maxLifetimeSeconds', value);
}

export function requiredClaimsOf(value: readonly string[] = []): readonly string[] {
  if (!Array.isArray(value) || !value.every((name) => typeof name === 'string' && name !== ''))
    throw new TypeError('requiredClaims must be names of claims');
  return value;
}

/** A finite number above 0. */
export function positive(name: string, value: number): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value <= 0)
    throw new TypeError(`${name} must be a finite number above 0`);
  return value;
}

/** A finite number, 0 or above. */
export function notNegative(name: string, value: number): number {
  if (typeof value !== 'number' || !Number.isFinite(value) || value < 0)
    throw new TypeError(`${name} must be a finite number, 0 or above`);
  return value;
}

const LONGEST_TIMER_MS = 2_147_483_647;

/** Milliseconds that Node's timers keep, in whole ones: asked to wait longer, they do not wait at all. */
export function timerMs(name: string, value: number): number {
  if (positive(name, value) > LONGEST_TIMER_MS)
    throw new TypeError(`${name} must be at most ${LONGEST_TIMER_MS}`);
  return Math.ceil(value);
}

/** Refuses what is there and cannot be called: with the first token it would be an outage. */
export function assertFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== 'function')
    throw new TypeError(`${name} must be a function`);
}

/** The same for what has to have methods. */
export function assertMethods<T extends object>(
  name: string,
  value: T | undefined,
  methods: readonly (keyof T & string)[],
): void {
  const has = (method: keyof T): boolean => typeof value?.[method] === 'function';
  if (value !== undefined && !methods.every(has))
    throw new TypeError(`${name} must have ${methods.join(' and ')}`);
}

/** Refuses misspelt options: a `denylst` that is silently ignored protects nobody. */
export function assertKnown(what: string, options: object, names: readonly string[]): void {
  if (typeof options !== 'object' || options === null)
    throw new TypeError(`${what}s must be an object`);
  for (const name of Object.keys(options)) {
    if (!names.includes(name)) throw new TypeError(`unknown ${what} ${JSON.stringify(name)}`);
  }
}
