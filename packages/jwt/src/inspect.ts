import { createHmac, timingSafeEqual } from 'node:crypto';
import { ALGORITHMS } from './algorithms.ts';
import { parseCompact } from './compact.ts';
import { JwtError, type JwtErrorCode } from './errors.ts';
import { type Finding, type FindingCode, finding } from './findings.ts';
import type { JsonObject } from './json.ts';
import { assertFunction, assertKnown } from './options.ts';
import { sensitivePaths } from './sensitive-claims.ts';
import { kindOf } from './token-kind.ts';
import { COMMON_SECRETS } from './wordlist.ts';

export interface InspectOptions {
  /** Secrets to try on HMAC tokens. Default: some two hundred common ones. */
  readonly wordlist?: Iterable<string>;
  /** Milliseconds since 1970. Default `Date.now`. */
  readonly now?: () => number;
}

interface Parts {
  readonly header: JsonObject;
  readonly payload: JsonObject;
  readonly signingInput: string;
  readonly signature: Buffer;
}

const MAX_BYTES = 1024 * 1024;
const MAX_KID_CHARACTERS = 1024;
const MAX_LIFETIME_SECONDS = 900;
const FAR_SECONDS = 24 * 60 * 60;
const LAST_NUMERIC_DATE = 253_402_300_799;

/**
 * Points out what is risky about a token, for audits and tests. Never throws, whatever the token, and never verifies: a
 * token without findings may still be forged, and only `createJwtVerifier` says whether to accept one.
 * @throws TypeError naming the option that is wrong
 */
export function inspectToken(token: string, options: InspectOptions = {}): Finding[] {
  assertKnown('inspect option', options, ['wordlist', 'now']);
  const { wordlist = COMMON_SECRETS, now = Date.now } = options;
  assertFunction('now', now);
  // Its letters would be tried for words, and nothing found.
  if (typeof wordlist === 'string') throw new TypeError('wordlist must be a list of words');
  const findings: Finding[] = [];
  const found = (code: FindingCode, detail: string): void => {
    findings.push(finding(code, detail));
  };
  const parts = takeApart(token, found);
  if (parts === undefined) return findings;
  inspectAlgorithm(parts, wordlist, found);
  inspectHeader(parts.header, found);
  inspectClaims(parts, now() / 1000, found);
  return findings;
}

type Found = (code: FindingCode, detail: string) => void;

/** Strictly if possible, so that what a strict verifier would refuse is pointed out; else as leniently as others would. */
function takeApart(token: unknown, found: Found): Parts | undefined {
  try {
    const { header, payload, signature, signingInput } = parseCompact(token, MAX_BYTES);
    return { header, payload, signature, signingInput: signingInput.toString('latin1') };
  } catch (error) {
    if (!(error instanceof JwtError)) throw error;
    const { code, message } = error;
    found(PARSE_FINDINGS[code] ?? 'JWT_MALFORMED', message);
    if (code === 'ERR_JWT_ENCRYPTED' || code === 'ERR_JWT_TOO_LARGE') return undefined;
    return typeof token === 'string' ? takeApartLeniently(token) : undefined;
  }
}

const PARSE_FINDINGS: { readonly [code in JwtErrorCode]?: FindingCode } = {
  ERR_JWT_ENCRYPTED: 'JWT_ENCRYPTED',
  ERR_JWT_DUPLICATE_MEMBER: 'JWT_DUPLICATE_MEMBER',
};

function takeApartLeniently(token: string): Parts | undefined {
  const [head = '', body = '', signature = ''] = token.trim().split('.');
  const header = parseLeniently(head);
  const payload = parseLeniently(body);
  if (header === undefined || payload === undefined) return undefined;
  const signingInput = `${head}.${body}`;
  return { header, payload, signingInput, signature: Buffer.from(signature, 'base64url') };
}

function parseLeniently(part: string): JsonObject | undefined {
  try {
    const value: unknown = JSON.parse(Buffer.from(part, 'base64url').toString());
    return typeof value === 'object' && value !== null ? (value as JsonObject) : undefined;
  } catch {
    return undefined;
  }
}

function inspectAlgorithm(parts: Parts, wordlist: Iterable<string>, found: Found): void {
  const { alg } = parts.header;
  if (typeof alg === 'string' && alg.toLowerCase() === 'none') {
    found('JWT_ALG_NONE', 'alg is none.');
    return;
  }
  if (parts.signature.length === 0) {
    found('JWT_NO_SIGNATURE', 'The third part is empty.');
    return;
  }
  const rule = typeof alg === 'string' ? ALGORITHMS.get(alg) : undefined;
  if (rule === undefined) {
    found('JWT_MALFORMED', 'alg is no signature algorithm known here.');
    return;
  }
  if (rule.family !== 'oct') return;
  const position = guess(parts, rule.hash, wordlist);
  if (position === undefined) found('JWT_SYMMETRIC', 'alg is an HMAC algorithm.');
  else found('JWT_WEAK_SECRET', `The secret is number ${position} of the word list.`);
}

/** Which word signed the token, counted from 1. */
function guess(parts: Parts, hash: string, wordlist: Iterable<string>): number | undefined {
  let position = 0;
  for (const word of wordlist) {
    position += 1;
    const tag = createHmac(hash, word).update(parts.signingInput).digest();
    if (tag.length === parts.signature.length && timingSafeEqual(tag, parts.signature))
      return position;
  }
  return undefined;
}

const PATH_LIKE =
  /^(\/|\\|~|[a-z]:\\|file:|https?:)|\.\.[\\/]|%2e%2e|\0|\/(etc|dev|proc|var|tmp)\/|\.(pem|key|crt|json|jwk)$/i;
const INJECTION_LIKE =
  /['";`|]|--|\$\(|&&|\b(union\s+(all\s+)?select|select\s.+\sfrom|drop\s+table|insert\s+into|or\s+1\s*=\s*1)\b/i;

function inspectHeader(header: JsonObject, found: Found): void {
  for (const name of ['jwk', 'x5c'])
    if (header[name] !== undefined) found('JWT_EMBEDDED_KEY', `The header has ${name}.`);
  for (const name of ['jku', 'x5u'])
    if (header[name] !== undefined) found('JWT_KEY_URL', `The header has ${name}.`);
  if (header['crit'] !== undefined) found('JWT_CRITICAL_HEADER', 'The header has crit.');
  // The beginning will do: on very long texts these patterns take very long.
  const kid = typeof header['kid'] === 'string' ? header['kid'].slice(0, MAX_KID_CHARACTERS) : '';
  if (PATH_LIKE.test(kid)) found('JWT_KID_PATH', 'kid reads like the place of a file or a page.');
  if (INJECTION_LIKE.test(kid))
    found(
      'JWT_KID_INJECTION',
      'kid has characters or words that mean something to a database or a shell.',
    );
  if (header['typ'] === undefined) found('JWT_TYPE_MISSING', 'The header has no typ.');
}

function inspectClaims({ header, payload }: Parts, nowSeconds: number, found: Found): void {
  const kind = kindOf(header, payload);
  if (kind === 'id') found('JWT_IS_ID_TOKEN', 'It has the marks of one (OpenID Connect Core §2).');
  if (kind === 'refresh') found('JWT_IS_REFRESH_TOKEN', 'It has the marks of one.');
  if (isEmpty(payload['iss'])) found('JWT_ISS_MISSING', 'iss is missing or empty.');
  if (isEmpty(payload['aud'])) found('JWT_AUD_MISSING', 'aud is missing or empty.');
  if (isEmpty(payload['sub'])) found('JWT_SUB_MISSING', 'sub is missing or empty.');
  if (payload['iat'] === undefined) found('JWT_IAT_MISSING', 'iat is missing.');
  inspectTimes(payload, kind === 'refresh', nowSeconds, found);
  const paths = sensitivePaths(payload);
  if (paths.length > 0) found('JWT_SENSITIVE_CLAIM', `The payload has ${paths.join(', ')}.`);
}

function isEmpty(value: unknown): boolean {
  return (
    value === undefined || value === null || value === '' || (Array.isArray(value) && !value[0])
  );
}

function inspectTimes(
  payload: JsonObject,
  longLived: boolean,
  nowSeconds: number,
  found: Found,
): void {
  for (const claim of ['exp', 'iat', 'nbf']) {
    const value = payload[claim];
    if (value !== undefined && !isNumericDate(value))
      found('JWT_TIME_INVALID', `${claim} is not a number of seconds.`);
  }
  const { exp, iat } = payload;
  if (exp === undefined || exp === null) {
    found('JWT_EXP_MISSING', 'exp is missing.');
    return;
  }
  if (!isNumericDate(exp)) return;
  if (exp <= nowSeconds) found('JWT_EXPIRED', `exp passed ${duration(nowSeconds - exp)} ago.`);
  // A refresh token may live long; what is wrong is to find it where access tokens belong.
  if (longLived) return;
  if (exp > nowSeconds + FAR_SECONDS)
    found('JWT_EXP_FAR', `exp is ${duration(exp - nowSeconds)} away.`);
  // Without iat, what is left of it is the least it can live.
  const [from, since] = isNumericDate(iat) ? ['iat', iat] : ['now', nowSeconds];
  if (exp - since > MAX_LIFETIME_SECONDS)
    found('JWT_LIFETIME', `From ${from} to exp it is ${duration(exp - since)}.`);
}

function isNumericDate(value: unknown): value is number {
  return typeof value === 'number' && value >= 0 && value <= LAST_NUMERIC_DATE;
}

function duration(seconds: number): string {
  if (seconds < 120) return `${Math.round(seconds)} s`;
  if (seconds < 7200) return `${Math.round(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.round(seconds / 3600)} h`;
  return `${Math.round(seconds / 86_400)} days`;
}
