import type { GenericClaims, TokenHeader } from './claims.ts';
import type { Instant } from './clock.ts';
import { JwtError } from './errors.ts';
import type { JsonObject } from './json.ts';

/**
 * What one issuer's tokens must satisfy. Every rule about a token's content is in this file, in the order of checking;
 * the signature is checked between the header and the claims, so that a claim error is about an authentic token.
 */
export interface TokenRules {
  readonly issuer: string;
  /** At least one of them must be among the token's. */
  readonly audiences: readonly string[];
  readonly algorithms: readonly string[];
  readonly profile: 'rfc9068' | 'generic';
  /** Infinity only if the user asked for `'unlimited'`. */
  readonly maxLifetimeSeconds: number;
  readonly toleranceSeconds: number;
  readonly requiredClaims: readonly string[];
}

/** The last second of the year 9999. Times in milliseconds lie beyond it. */
const LAST_NUMERIC_DATE = 253_402_300_799;

/** Header parameters that carry a key or say where to get one. Trusting them lets the attacker choose the key. */
const EMBEDDED_KEYS = ['jwk', 'jku', 'x5u', 'x5c'] as const;

const NON_EMPTY_STRINGS_OF_RFC_9068 = ['client_id', 'jti'] as const;

/** Says whose rules and keys are to be applied. Unproven until the signature is checked with that issuer's key. */
export function issuerClaim(claims: JsonObject): string {
  return checkString(claims, 'iss');
}

/** RFC 8725 §3.1, §3.2, §3.6, §3.10–3.12; RFC 7515 §4.1.11; RFC 9068 §2.1. */
export function checkHeader(header: JsonObject, rules: TokenRules): asserts header is TokenHeader {
  const { alg, kid, crit } = header;
  if (typeof alg !== 'string' || !rules.algorithms.includes(alg))
    throw new JwtError('ERR_JWT_ALGORITHM', 'The algorithm is not allowed', { member: 'alg' });
  if (crit !== undefined)
    throw new JwtError('ERR_JWT_CRITICAL_HEADER', 'No critical header parameter is understood', {
      member: 'crit',
    });
  for (const member of EMBEDDED_KEYS) {
    if (header[member] !== undefined)
      throw new JwtError('ERR_JWT_EMBEDDED_KEY', `The header brings its own key in ${member}`, {
        member,
      });
  }
  if (kid !== undefined && (typeof kid !== 'string' || kid === ''))
    throw new JwtError('ERR_JWT_HEADER', 'kid must be a string with something in it', {
      member: 'kid',
    });
  // An unencoded payload (RFC 7797) or a nested token (RFC 7519 §5.2) would have to be read in another way.
  if (header['b64'] !== undefined || header['zip'] !== undefined || header['cty'] !== undefined)
    throw new JwtError('ERR_JWT_HEADER', 'b64, zip and cty are not supported');
  if (!isAllowedType(header['typ'], rules.profile))
    throw new JwtError('ERR_JWT_TYPE', 'The type of the token is not allowed', { member: 'typ' });
}

function isAllowedType(typ: unknown, profile: TokenRules['profile']): boolean {
  if (typ === 'at+jwt') return true;
  if (typ === undefined) return profile === 'generic';
  if (typeof typ !== 'string') return false;
  // A media type, without regard to case; "application/" may be left out (RFC 7515 §4.1.9).
  const type = typ.toLowerCase().replace(/^application\//, '');
  return type === 'at+jwt' || (profile === 'generic' && type === 'jwt');
}

/** Everything about the claims that stays true while the token lives. RFC 7519 §4.1, RFC 8725 §3.8–3.9, RFC 9068 §2.2, §4. */
export function checkClaims(
  claims: JsonObject,
  rules: TokenRules,
): asserts claims is JsonObject & GenericClaims {
  if (issuerClaim(claims) !== rules.issuer)
    throw new JwtError('ERR_JWT_ISSUER', 'The issuer is not trusted', { member: 'iss' });
  checkAudience(claims['aud'], rules.audiences);
  checkString(claims, 'sub');
  for (const claim of NON_EMPTY_STRINGS_OF_RFC_9068) {
    if (rules.profile === 'rfc9068' || claims[claim] !== undefined) checkString(claims, claim);
  }
  for (const claim of rules.requiredClaims) {
    if (!Object.hasOwn(claims, claim) || isEmpty(claims[claim])) missing(claim);
  }
  const exp = numericDate(claims, 'exp');
  const iat = numericDate(claims, 'iat');
  if (claims['nbf'] !== undefined) numericDate(claims, 'nbf');
  if (!(exp > iat))
    throw new JwtError('ERR_JWT_CLAIM_INVALID', 'exp is not after iat', { member: 'exp' });
  if (!(exp - iat <= rules.maxLifetimeSeconds))
    throw new JwtError(
      'ERR_JWT_LIFETIME',
      `The token lives longer than ${rules.maxLifetimeSeconds} s`,
      { member: 'exp' },
    );
}

/** Everything about the claims that changes with time: asked again on every hit of the cache. */
export function checkTimes(claims: GenericClaims, at: Instant, rules: TokenRules): void {
  // Written so that a NaN anywhere refuses.
  const nowSeconds = at.nowMs / 1000;
  if (!(at.latestMs / 1000 < claims.exp + rules.toleranceSeconds))
    throw new JwtError('ERR_JWT_EXPIRED', 'The token has expired', { member: 'exp' });
  if (!(claims.iat <= nowSeconds + rules.toleranceSeconds))
    throw new JwtError('ERR_JWT_ISSUED_IN_FUTURE', 'The token was issued in the future', {
      member: 'iat',
    });
  if (claims.nbf !== undefined && !(claims.nbf <= nowSeconds + rules.toleranceSeconds))
    throw new JwtError('ERR_JWT_NOT_YET_VALID', 'The token is not valid yet', { member: 'nbf' });
}

function checkAudience(aud: unknown, wanted: readonly string[]): void {
  if (aud === undefined) missing('aud');
  const audiences: readonly unknown[] = Array.isArray(aud) ? aud : [aud];
  if (
    audiences.length === 0 ||
    !audiences.every((entry) => typeof entry === 'string' && !isBlank(entry))
  )
    throw new JwtError('ERR_JWT_CLAIM_INVALID', 'aud must be a string or strings', {
      member: 'aud',
    });
  if (!audiences.some((entry) => wanted.includes(entry as string)))
    throw new JwtError('ERR_JWT_AUDIENCE', 'The token is meant for somebody else', {
      member: 'aud',
    });
}

function checkString(claims: JsonObject, claim: string): string {
  const value = claims[claim];
  if (value === undefined) missing(claim);
  if (typeof value !== 'string' || isBlank(value))
    throw new JwtError('ERR_JWT_CLAIM_INVALID', `${claim} must be a string with something in it`, {
      member: claim,
    });
  return value;
}

function isEmpty(value: unknown): boolean {
  if (typeof value === 'object') return value === null || Object.keys(value).length === 0;
  return typeof value === 'string' && isBlank(value);
}

/** Spaces name nobody. */
function isBlank(text: string): boolean {
  return text.trim() === '';
}

/** RFC 7519 §2: seconds, fractions allowed. */
function numericDate(claims: JsonObject, claim: string): number {
  const value = claims[claim];
  if (value === undefined) missing(claim);
  if (typeof value !== 'number' || !(value >= 0 && value <= LAST_NUMERIC_DATE))
    throw new JwtError('ERR_JWT_CLAIM_INVALID', `${claim} must be seconds since 1970`, {
      member: claim,
    });
  return value;
}

function missing(claim: string): never {
  throw new JwtError('ERR_JWT_CLAIM_MISSING', `${claim} is missing`, { member: claim });
}
