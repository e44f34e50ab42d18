import type { JSONWebKeySet } from 'jose';
import { type Algorithm, ruleOf } from './algorithms.ts';
import { type KeySource, keySet, staticKeys } from './key-set.ts';
import { importJwks, importKey, type VerificationKey } from './keys.ts';
import {
  algorithmsOf,
  assertOneFamily,
  audiencesOf,
  type IssuerOptions,
  issuersOf,
  type JwtVerifierOptions,
  type KeysOptions,
  MAX_TOLERANCE_SECONDS,
  maxLifetimeOf,
  notNegative,
  profileOf,
  requiredClaimsOf,
  type TokenPolicy,
} from './options.ts';
import { remoteKeys } from './remote-keys.ts';
import type { TokenRules } from './rules.ts';

/** An issuer, what its tokens must satisfy, and its own keys: never another issuer's. */
export interface TrustedIssuer {
  readonly rules: TokenRules;
  readonly keys: KeySource;
}

/**
 * The trusted issuers by name.
 * @param now - milliseconds that never go back, by which keys age
 * @throws TypeError naming the option that is wrong
 */
export function trustedIssuers(
  options: JwtVerifierOptions,
  now: () => number,
): ReadonlyMap<string, TrustedIssuer> {
  const issuers = new Map(
    issuersOf(options).map((issuer) => [issuer.issuer, trustedIssuer(issuer, options, now)]),
  );
  assertOneFamily([...issuers.values()].flatMap(({ rules }) => rules.algorithms));
  return issuers;
}

function trustedIssuer(
  issuer: IssuerOptions,
  options: JwtVerifierOptions,
  now: () => number,
): TrustedIssuer {
  // One that is there but undefined, as from JavaScript, must not switch off what the verifier demands.
  const own = Object.entries(issuer).filter(([, value]) => value !== undefined);
  const policy: TokenPolicy = { ...options, ...Object.fromEntries(own) };
  const algorithms = algorithmsOf(policy.algorithms);
  const rules: TokenRules = {
    issuer: issuer.issuer,
    audiences: audiencesOf(policy.audience),
    algorithms,
    profile: profileOf(policy.profile),
    maxLifetimeSeconds: maxLifetimeOf(policy.maxLifetimeSeconds),
    toleranceSeconds: toleranceOf(options),
    requiredClaims: requiredClaimsOf(policy.requiredClaims),
  };
  return { rules, keys: keySourceOf(issuer, algorithms, options.keys, now) };
}

function keySourceOf(
  { issuer, key, jwks, jwksUri }: IssuerOptions,
  algorithms: readonly Algorithm[],
  keys: KeysOptions | undefined,
  now: () => number,
): KeySource {
  if (key !== undefined) return staticKeys(keySet([importKey(key, algorithms)], true));
  if (jwks !== undefined) return staticKeys(keySet(importStaticJwks(jwks, algorithms)));
  if (algorithms.some((name) => ruleOf(name).family === 'oct'))
    throw new TypeError('an HMAC secret cannot be fetched: pass it as key');
  return remoteKeys({ ...keys, issuer, jwksUri, algorithms, now });
}

function importStaticJwks(
  jwks: JSONWebKeySet,
  algorithms: readonly Algorithm[],
): VerificationKey[] {
  if (!Array.isArray(jwks?.keys)) throw new TypeError('jwks must be a JWK set');
  const ignored: string[] = [];
  const keys = importJwks(jwks, algorithms, (reason) => ignored.push(reason));
  if (keys.length === 0)
    throw new TypeError(`jwks holds no usable key: ${ignored.join('; ') || 'it is empty'}`);
  return keys;
}

export function toleranceOf({ clockToleranceSeconds = 5 }: JwtVerifierOptions): number {
  if (notNegative('clockToleranceSeconds', clockToleranceSeconds) > MAX_TOLERANCE_SECONDS)
    throw new TypeError(`clockToleranceSeconds must be at most ${MAX_TOLERANCE_SECONDS}`);
  return clockToleranceSeconds;
}
