import { ruleOf, verifySignature } from './algorithms.ts';
import { checkBinding, type Presentation } from './binding.ts';
import { type TokenCache, tokenCache } from './cache.ts';
import type { AccessTokenClaims, GenericClaims, TokenHeader, VerifiedToken } from './claims.ts';
import { type Instant, steadyClock } from './clock.ts';
import { type CompactJws, parseCompact } from './compact.ts';
import { type DpopPolicy, dpopPolicy, type UsedProof } from './dpop.ts';
import { JwtError } from './errors.ts';
import { refused, storeFailed, verified } from './events.ts';
import { type TrustedIssuer, toleranceOf, trustedIssuers } from './issuers.ts';
import type { KeySet } from './key-set.ts';
import type { VerificationKey } from './keys.ts';
import { isLater, type MaybeLater } from './later.ts';
import { assertKnown, type DenylistCheck, type JwtVerifierOptions, positive } from './options.ts';
import { checkClaims, checkHeader, checkTimes, issuerClaim } from './rules.ts';

export interface JwtVerifier<C extends GenericClaims = AccessTokenClaims> {
  /**
   * @param presentation - what else came with the token, if it is bound to its holder
   * @throws JwtError (as a rejection) unless the token is to be accepted now; TypeError for a member of the presentation
   * that is not known, such as the options other libraries take here
   */
  readonly verify: (token: string, presentation?: Presentation) => Promise<VerifiedToken<C>>;
  /**
   * The same answer, without a promise when nothing has to be waited for: keys are at hand and the denylist answers at
   * once. Then it returns, or throws, directly.
   */
  readonly verifyNow: (
    token: string,
    presentation?: Presentation,
  ) => VerifiedToken<C> | Promise<VerifiedToken<C>>;
  /** How DPoP proofs are checked; `undefined` when they are not accepted. */
  readonly dpop: DpopPolicy | undefined;
  /** Stops refreshing keys. What is cached serves on until its keys age. */
  readonly close: () => void;
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

const MAX_HEADERS = 64;

const PRESENTATION_NAMES: readonly string[] = [
  'dpop',
  'clientCertificate',
] satisfies (keyof Presentation)[];

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
  readonly presentation: Presentation | undefined;
}

/** One use of a token that was found good, now or earlier. */
interface Use {
  readonly text: string;
  readonly presentation: Presentation | undefined;
  readonly at: Instant;
  readonly cached: boolean;
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
  // Keys, like tokens, come back to life by no step of the clock.
  const issuers = trustedIssuers(given, () => clock().latestMs);
  const maxTokenBytes = positive('maxTokenBytes', given.maxTokenBytes ?? 8192);
  const cache = cacheOf(given.cache);
  const headers = new Map<string, TokenHeader>();
  const { denylist } = given;
  const dpop = given.dpop === undefined ? undefined : dpopPolicy(given.dpop, given.now);
  const toleranceSeconds = toleranceOf(given);
  const clock = steadyClock({ now: given.now, toleranceMs: toleranceSeconds * 1000 });

  function attempt(text: string, presentation: Presentation | undefined): MaybeLater<Answer> {
    const at = clock();
    // From JavaScript anything may come.
    const entry = typeof text === 'string' ? cache?.get(text) : undefined;
    if (entry !== undefined) {
      if (entry.issuer.keys.current(at.latestMs) === entry.keys)
        return accept(entry, { text, presentation, at, cached: true });
      cache?.delete(text);
    }
    const jws = parseCompact(text, maxTokenBytes, headers);
    const issuer = issuers.get(issuerClaim(jws.payload));
    if (issuer === undefined) throw untrustedIssuer();
    const { header } = jws;
    checkHeader(header, issuer.rules);
    const candidate = { text, jws, header, issuer, presentation };
    const keys = issuer.keys.current(at.latestMs);
    if (keys !== undefined) return verifyWith(keys, candidate, at);
    return issuer.keys.load(at.latestMs).then((loaded) => verifyWith(loaded, candidate, clock()));
  }

  function verifyWith(keys: KeySet, candidate: Candidate, at: Instant): MaybeLater<Answer> {
    const { text, header, issuer, presentation } = candidate;
    const key = keys.find(header.alg, header.kid);
    if (key !== undefined)
      return accept(verifyFresh(candidate, keys, key), { text, presentation, at, cached: false });
    const reloading = issuer.keys.reload(at.latestMs);
    if (reloading === undefined) throw unknownKey();
    return reloading.then((reloaded) => {
      const found = reloaded.find(header.alg, header.kid);
      if (found === undefined) throw unknownKey();
      const entry = verifyFresh(candidate, reloaded, found);
      return accept(entry, { text, presentation, at: clock(), cached: false });
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
    const entry = { issuer, keys, token: Object.freeze({ claims: payload, header }) };
    remember(headers, jws.headerText, header);
    cache?.set(text, entry);
    return entry;
  }

  /** What must be asked on every use, however often the token has been seen. */
  function accept({ token, issuer }: Entry, use: Use): MaybeLater<Answer> {
    const { claims } = token;
    checkTimes(claims, use.at, issuer.rules);
    const proof = isPlain(claims, use) ? undefined : bindingOf(claims, use);
    const revoked = denylist === undefined ? false : askDenylist(denylist, claims);
    if (isLater(revoked)) return revoked.then((answer) => conclude(token, use, answer, proof));
    return conclude(token, use, revoked, proof);
  }

  function isPlain(claims: GenericClaims, { presentation }: Use): boolean {
    return claims.cnf === undefined && presentation === undefined && !dpop?.required;
  }

  function bindingOf(
    claims: GenericClaims,
    { text, presentation, at }: Use,
  ): UsedProof | undefined {
    if (presentation !== undefined)
      assertKnown('presentation member', presentation, PRESENTATION_NAMES);
    return checkBinding(claims, { token: text, presentation, dpop, at, toleranceSeconds });
  }

  function conclude(
    token: Answer,
    { cached }: Use,
    revoked: unknown,
    proof: UsedProof | undefined,
  ): MaybeLater<Answer> {
    // Anything but a plain "no" refuses.
    if (revoked !== false) throw new JwtError('ERR_JWT_REVOKED', 'The token has been revoked');
    // Last of all, so that only a request that will be served uses its proof up.
    const fresh = proof === undefined || dpop === undefined ? true : claimProof(dpop, proof);
    if (isLater(fresh)) return fresh.then((answer) => admit(token, cached, answer));
    return admit(token, cached, fresh);
  }

  function verifyNow(token: string, presentation?: Presentation): MaybeLater<Answer> {
    try {
      const answer = attempt(token, presentation);
      return answer instanceof Promise ? answer.catch(report) : answer;
    } catch (error) {
      return report(error);
    }
  }

  const verifier: JwtVerifier<GenericClaims> = {
    dpop,
    verifyNow,
    // Not an async function: most calls have their answer already, and are made a promise at the least cost.
    verify(token, presentation) {
      try {
        return Promise.resolve(verifyNow(token, presentation));
      } catch (error) {
        return Promise.reject(error);
      }
    },
    close() {
      for (const { keys } of issuers.values()) keys.close();
    },
  };
  // The rules that were applied are what makes the claims of this type.
  return verifier as JwtVerifier<ClaimsOf<O>>;
}

/** Only headers of authentic tokens, so that an issuer has to go out of its way to fill this up. */
function remember(headers: Map<string, TokenHeader>, text: string, header: TokenHeader): void {
  if (headers.has(text)) return;
  if (headers.size >= MAX_HEADERS) headers.clear();
  headers.set(Buffer.from(text, 'latin1').toString('latin1'), header);
}

function admit(token: Answer, cached: boolean, fresh: unknown): Answer {
  if (fresh !== true)
    throw new JwtError('ERR_JWT_DPOP_REPLAYED', 'The DPoP proof has been used before');
  if (verified.hasSubscribers) verified.publish({ issuer: token.claims.iss, cached });
  return token;
}

function cacheOf(
  option: JwtVerifierOptions['cache'] = { maxEntries: 10_000 },
): TokenCache<Entry> | undefined {
  if (option === false) return undefined;
  assertKnown('cache option', option, ['maxEntries']);
  return tokenCache(Math.ceil(positive('cache.maxEntries', option.maxEntries)));
}

/** A denylist that fails has not said that the token is good. */
function askDenylist(denylist: DenylistCheck, claims: GenericClaims): MaybeLater<boolean> {
  try {
    const answer = denylist(claims);
    return isLater(answer) ? Promise.resolve(answer).catch(denylistFailed) : answer;
  } catch (error) {
    return denylistFailed(error);
  }
}

function denylistFailed(cause: unknown): never {
  if (cause instanceof JwtError) throw cause;
  throw new JwtError('ERR_JWT_DENYLIST_UNAVAILABLE', 'The denylist cannot be asked', { cause });
}

/** A store that fails has not said that the proof is new. */
function claimProof(dpop: DpopPolicy, { id, ttlMs }: UsedProof): MaybeLater<boolean> {
  try {
    const answer = dpop.replayStore.claim(id, ttlMs);
    return isLater(answer) ? Promise.resolve(answer).catch(replayStoreFailed) : answer;
  } catch (error) {
    return replayStoreFailed(error);
  }
}

function replayStoreFailed(cause: unknown): never {
  if (storeFailed.hasSubscribers) storeFailed.publish({ store: 'dpop-replays', error: cause });
  if (cause instanceof JwtError) throw cause;
  throw new JwtError(
    'ERR_JWT_REPLAY_STORE_UNAVAILABLE',
    'The DPoP proof cannot be marked as used',
    {
      cause,
    },
  );
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
