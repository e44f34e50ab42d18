import type { JSONWebKeySet } from 'jose';
import { type Algorithm, ruleOf, verifySignature } from './algorithms.ts';
import { type TokenCache, tokenCache } from './cache.ts';
import type { AccessTokenClaims, GenericClaims, TokenHeader, VerifiedToken } from './claims.ts';
import { type Instant, steadyClock } from './clock.ts';
import { type CompactJws, parseCompact } from './compact.ts';
import { JwtError } from './errors.ts';
import { refused, verified } from './events.ts';
import { deepFreeze } from './freeze.ts';
import { type KeySet, type KeySource, staticKeys } from './key-set.ts';
import { importJwks, importKey, type VerificationKey } from './keys.ts';
import {
  algorithmsOf,
  assertKnown,
  audiencesOf,
  type DenylistCheck,
  type IssuerOptions,
  issuersOf,
  type JwtVerifierOptions,
  maxLifetimeOf,
  notNegative,
  positive,
  profileOf,
  requiredClaimsOf,
} from './options.ts';
import { remoteKeys } from './remote-keys.ts';
import { checkClaims, checkHeader, checkTimes, issuerClaim, type TokenRules } from './rules.ts';

export interface JwtVerifier<C extends GenericClaims = AccessTokenClaims> {
  /** @throws JwtError (as a rejection) unless the token is to be accepted now */
  verify(token: string): Promise<VerifiedToken<C>>;
  /**
   * The same answer, without a promise when nothing has to be waited for: keys are at hand and the denylist answers at
   * once. Then it returns, or throws, directly.
   */
  verifyNow(token: string): VerifiedToken<C> | Promise<VerifiedToken<C>>;
  /** Stops refreshing keys. What is cached serves on until its keys age. */
  close(): void;
}

/** The claims of a token accepted under these options. */
export type ClaimsOf<O extends JwtVerifierOptions> =
  'generic' extends ProfileIn<O> ? GenericClaims : AccessTokenClaims;

type ProfileIn<O> =
  | (O extends { readonly profile: infer P } ? P : never)
  | (O extends { readonly issuer: infer I } ? ProfileInIssuers<I> : never);

type ProfileInIssuers<I> = I extends readonly (infer One)[]
  ? ProfileInIssuers<One>
  : I extends { readonly profile: infer P }
    ? P
    : never;

interface TrustedIssuer {
  readonly rules: TokenRules;
  readonly keys: KeySource;
}

/** A token whose signature and lasting claims were found good, with these keys. */
interface Entry {
  readonly issuer: TrustedIssuer;
  readonly keys: KeySet;
  readonly token: VerifiedToken<GenericClaims>;
}

/** A token that was taken apart and whose header is in order. */
interface Candidate {
  readonly text: string;
  readonly jws: CompactJws;
  readonly header: TokenHeader;
  readonly issuer: TrustedIssuer;
}

type Answer = VerifiedToken<GenericClaims>;

/**
 * Makes a verifier of access tokens (RFC 9068; any JWT with `profile: 'generic'`), strict unless told otherwise.
 * @throws TypeError naming the option that is wrong
 */
export function createJwtVerifier<const O extends JwtVerifierOptions>(
  options: O,
): JwtVerifier<ClaimsOf<O>> {
  const given: JwtVerifierOptions = options;
  const issuers = new Map(
    issuersOf(given).map((issuer) => [issuer.issuer, trustedIssuer(issuer, given)]),
  );
  const maxTokenBytes = positive('maxTokenBytes', given.maxTokenBytes ?? 8192);
  const cache = cacheOf(given.cache);
  const { denylist } = given;
  const clock = steadyClock({ now: given.now, toleranceMs: toleranceOf(given) * 1000 });

  function attempt(text: string): Answer | Promise<Answer> {
    const at = clock();
    const entry = cache?.get(text);
    if (entry !== undefined) {
      if (entry.issuer.keys.current(at.nowMs) === entry.keys) return accept(entry, at, true);
      cache?.delete(text);
    }
    const jws = parseCompact(text, maxTokenBytes);
    const issuer = issuers.get(issuerClaim(jws.payload));
    if (issuer === undefined) throw untrustedIssuer();
    const { header } = jws;
    checkHeader(header, issuer.rules);
    const candidate = { text, jws, header, issuer };
    const keys = issuer.keys.current(at.nowMs);
    if (keys !== undefined) return verifyWith(keys, candidate, at);
    return issuer.keys.load(at.nowMs).then((loaded) => verifyWith(loaded, candidate, clock()));
  }

  function verifyWith(keys: KeySet, candidate: Candidate, at: Instant): Answer | Promise<Answer> {
    const { header, issuer } = candidate;
    const key = keys.find(header.alg, header.kid);
    if (key !== undefined) return accept(verifyFresh(candidate, keys, key), at, false);
    const reloading = issuer.keys.reload(at.nowMs);
    if (reloading === undefined) throw unknownKey();
    return reloading.then((reloaded) => {
      const found = reloaded.find(header.alg, header.kid);
      if (found === undefined) throw unknownKey();
      return accept(verifyFresh(candidate, reloaded, found), clock(), false);
    });
  }

  function verifyFresh(
    { text, jws, header, issuer }: Candidate,
    keys: KeySet,
    key: VerificationKey,
  ): Entry {
    const { payload, signingInput, signature } = jws;
    if (!verifySignature(ruleOf(key.algorithm), key.key, signingInput, signature))
      throw new JwtError('ERR_JWT_SIGNATURE', 'The signature does not match');
    checkClaims(payload, issuer.rules);
    const token = deepFreeze({ claims: payload, header });
    const entry = { issuer, keys, token };
    cache?.set(text, entry);
    return entry;
  }

  /** What must be asked on every use, however often the token has been seen. */
  function accept(
    { token, issuer }: Entry,
    at: Instant,
    cached: boolean,
  ): Answer | Promise<Answer> {
    checkTimes(token.claims, at, issuer.rules);
    if (token.claims.cnf !== undefined)
      throw new JwtError('ERR_JWT_BOUND', 'The token is bound to a key', { member: 'cnf' });
    const revoked = denylist === undefined ? false : askDenylist(denylist, token.claims);
    if (typeof revoked !== 'boolean')
      return revoked.then((answer) => conclude(answer, token, cached));
    return conclude(revoked, token, cached);
  }

  return {
    verifyNow(token) {
      try {
        const answer = attempt(token);
        return (answer instanceof Promise ? answer.catch(report) : answer) as VerifiedToken<
          ClaimsOf<O>
        >;
      } catch (error) {
        return report(error);
      }
    },
    async verify(token) {
      return this.verifyNow(token);
    },
    close() {
      for (const { keys } of issuers.values()) keys.close();
    },
  };
}

function trustedIssuer(issuer: IssuerOptions, options: JwtVerifierOptions): TrustedIssuer {
  const policy = { ...options, ...issuer };
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
  return { rules, keys: keySourceOf(issuer, algorithms, options) };
}

function keySourceOf(
  { issuer, key, jwks, jwksUri }: IssuerOptions,
  algorithms: readonly Algorithm[],
  { keys, now }: JwtVerifierOptions,
): KeySource {
  if (key !== undefined) return staticKeys([{ ...importKey(key, algorithms), kid: undefined }]);
  if (jwks !== undefined) return staticKeys(importStaticJwks(jwks, algorithms));
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

function toleranceOf({ clockToleranceSeconds = 5 }: JwtVerifierOptions): number {
  return notNegative('clockToleranceSeconds', clockToleranceSeconds);
}

function cacheOf(
  option: JwtVerifierOptions['cache'] = { maxEntries: 10_000 },
): TokenCache<Entry> | undefined {
  if (option === false) return undefined;
  assertKnown('cache option', option, ['maxEntries']);
  return tokenCache(positive('cache.maxEntries', option.maxEntries));
}

/** A denylist that fails has not said that the token is good. */
function askDenylist(denylist: DenylistCheck, claims: GenericClaims): boolean | Promise<boolean> {
  try {
    const answer = denylist(claims);
    return answer instanceof Promise ? answer.catch(denylistFailed) : answer;
  } catch (error) {
    return denylistFailed(error);
  }
}

function denylistFailed(cause: unknown): never {
  if (cause instanceof JwtError) throw cause;
  throw new JwtError('ERR_JWT_DENYLIST_UNAVAILABLE', 'The denylist cannot be asked', { cause });
}

function conclude(revoked: unknown, token: Answer, cached: boolean): Answer {
  // Anything but a plain "no" refuses.
  if (revoked !== false) throw new JwtError('ERR_JWT_REVOKED', 'The token has been revoked');
  if (verified.hasSubscribers) verified.publish({ issuer: token.claims.iss, cached });
  return token;
}

function report(error: unknown): never {
  if (refused.hasSubscribers && error instanceof JwtError) {
    const { code, message, member } = error;
    refused.publish({ code, message, ...(member === undefined ? {} : { member }) });
  }
  throw error;
}

function unknownKey(): JwtError {
  return new JwtError('ERR_JWT_KEY_UNKNOWN', 'The issuer has no such key');
}

function untrustedIssuer(): JwtError {
  return new JwtError('ERR_JWT_ISSUER', 'The issuer is not trusted', { member: 'iss' });
}
