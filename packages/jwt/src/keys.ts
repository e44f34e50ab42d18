import {
  createPublicKey,
  createSecretKey,
  type JsonWebKey,
  KeyObject,
  type webcrypto,
} from 'node:crypto';
import { types } from 'node:util';
import { importJWK, type JSONWebKeySet, type JWK } from 'jose';
import { type Algorithm, ruleOf } from './algorithms.ts';
import { isOfSmallOrder } from './ed25519.ts';

/** A key the user holds: PEM (SPKI or X.509 certificate), a JWK, a `KeyObject`, a `CryptoKey`; bytes for HMAC only. */
export type KeyInput = string | JWK | KeyObject | webcrypto.CryptoKey | Uint8Array;

/** A key that may verify, and the one algorithm it may verify with (RFC 8725 §3.1). */
export interface VerificationKey {
  readonly kid: string | undefined;
  readonly algorithm: Algorithm;
  readonly key: KeyObject;
}

const MIN_RSA_BITS = 2048;
/** A check with a key beyond these takes a hundred times as long, and keys of proofs are of the caller's making. */
const MAX_RSA_BITS = 8192;
const MIN_RSA_EXPONENT = 65537n;
/** FIPS 186-5 §A.1.1: below 2²⁵⁶. */
const RSA_EXPONENT_LIMIT = 2n ** 256n;
const PRIVATE_MEMBERS = ['d', 'p', 'q', 'dp', 'dq', 'qi', 'oth', 'priv'];

/** Imports a key the user configured. @throws TypeError when it is unusable or would serve two algorithms. */
export function importKey(input: KeyInput, algorithms: readonly Algorithm[]): VerificationKey {
  if (isJwk(input)) return importJwk(input, algorithms);
  const key = toKeyObject(input);
  const candidates = types.isCryptoKey(input)
    ? algorithms.filter((name) => isMeantFor(input, name))
    : algorithms;
  return { kid: undefined, algorithm: soleAlgorithm(key, candidates), key };
}

const WEB_CRYPTO_NAMES: Readonly<Record<string, string>> = {
  RS: 'RSASSA-PKCS1-v1_5',
  PS: 'RSA-PSS',
  ES: 'ECDSA',
  Ed: 'Ed25519',
  HS: 'HMAC',
};

/** A Web Crypto key says what it is for, as a JWK does with `alg` and `key_ops`. */
function isMeantFor({ algorithm, usages }: webcrypto.CryptoKey, name: Algorithm): boolean {
  const { hash } = algorithm as { readonly hash?: { readonly name: string } };
  return (
    usages.includes('verify') &&
    algorithm.name === WEB_CRYPTO_NAMES[name.slice(0, 2)] &&
    (hash === undefined || hash.name === `SHA-${name.slice(2)}`)
  );
}

/** Imports one JWK (RFC 7517). @throws TypeError saying why it may not verify. */
export function importJwk(jwk: JWK, algorithms: readonly Algorithm[]): VerificationKey {
  if (typeof jwk !== 'object' || jwk === null) throw new TypeError('a key is a JSON object');
  if (jwk.use !== undefined && jwk.use !== 'sig') throw new TypeError('"use" is not "sig"');
  if (jwk.key_ops !== undefined && !(Array.isArray(jwk.key_ops) && jwk.key_ops.includes('verify')))
    throw new TypeError('"key_ops" does not include "verify"');
  if (jwk.kid !== undefined && (typeof jwk.kid !== 'string' || jwk.kid === ''))
    throw new TypeError('"kid" is not a string with something in it');
  const key = jwkToKeyObject(jwk);
  const declared = jwk.alg as Algorithm | undefined;
  const candidates =
    declared === undefined ? algorithms : algorithms.filter((name) => name === declared);
  return { kid: jwk.kid, algorithm: soleAlgorithm(key, candidates), key };
}

/** The usable keys of a set, and why each of the others is not. A set holds keys for other purposes too. */
export function importJwks(
  jwks: JSONWebKeySet,
  algorithms: readonly Algorithm[],
  onIgnored: (reason: string) => void,
): VerificationKey[] {
  const imported: VerificationKey[] = [];
  for (const jwk of jwks.keys) {
    try {
      imported.push(importJwk(jwk, algorithms));
    } catch (error) {
      onIgnored(reasonOf(error));
    }
  }
  return imported;
}

/**
 * The same for a set that was fetched. Its keys are imported by jose and serve as jose imported them, once our own rules
 * found them fit: what comes over the network has to satisfy two readers. jose waits, so keys the user passes, which must
 * be refused when the verifier is made, cannot take this way.
 */
export async function importPublishedJwks(
  jwks: JSONWebKeySet,
  algorithms: readonly Algorithm[],
  onIgnored: (reason: string) => void,
): Promise<VerificationKey[]> {
  const imported: VerificationKey[] = [];
  for (const jwk of jwks.keys) {
    try {
      const fit = importJwk(jwk, algorithms);
      imported.push({ ...fit, key: await importByJose(jwk, fit.algorithm) });
    } catch (error) {
      onIgnored(reasonOf(error));
    }
  }
  return imported;
}

/** Without `key_ops`: sets in the wild say `["sign", "verify"]` of public keys, which Web Crypto takes for a mistake. */
async function importByJose(
  { kty, crv, x, y, n, e }: JWK,
  algorithm: Algorithm,
): Promise<KeyObject> {
  const members = Object.entries({ kty, crv, x, y, n, e }).filter(
    ([, value]) => value !== undefined,
  );
  const key = await importJWK(Object.fromEntries(members) as JWK, algorithm);
  if (key instanceof Uint8Array) throw new TypeError('an HMAC secret cannot be fetched');
  return KeyObject.from(key);
}

function reasonOf(error: unknown): string {
  return error instanceof TypeError ? error.message : 'the key cannot be imported';
}

function isJwk(input: KeyInput): input is JWK {
  return typeof input === 'object' && input !== null && 'kty' in input;
}

function jwkToKeyObject(jwk: JWK): KeyObject {
  if (jwk.kty === 'oct') {
    if (typeof jwk.k !== 'string') throw new TypeError('"k" is missing');
    const secret = Buffer.from(jwk.k, 'base64url');
    // Node's decoder would take a sentence for a secret.
    if (secret.toString('base64url') !== jwk.k) throw new TypeError('"k" is not base64url');
    return assertUsable(createSecretKey(secret));
  }
  // Whoever publishes the private half has lost the key: nothing signed with it proves anything.
  if (PRIVATE_MEMBERS.some((name) => name in jwk))
    throw new TypeError('the key is private: a verifier needs the public half only');
  try {
    return createPublicKey({ key: jwk as JsonWebKey, format: 'jwk' });
  } catch {
    // Without a cause: Node quotes what it choked on, and a proof's key comes from the caller.
    throw new TypeError('the key cannot be imported');
  }
}

function toKeyObject(input: Exclude<KeyInput, JWK>): KeyObject {
  if (input instanceof KeyObject) return assertUsable(input);
  if (input instanceof Uint8Array) return assertUsable(createSecretKey(input));
  if (typeof input === 'string') {
    if (!input.includes('-----BEGIN'))
      throw new TypeError('a key given as a string must be PEM; an HMAC secret must be bytes');
    if (input.includes('PRIVATE KEY-----'))
      throw new TypeError('the key is private: a verifier needs the public half only');
    try {
      return createPublicKey(input);
    } catch (cause) {
      throw new TypeError('the PEM key cannot be imported', { cause });
    }
  }
  if (types.isCryptoKey(input)) return assertUsable(KeyObject.from(input));
  throw new TypeError('a key must be PEM, a JWK, a KeyObject, a CryptoKey or, for HMAC, bytes');
}

function assertUsable(key: KeyObject): KeyObject {
  if (key.type === 'private')
    throw new TypeError('the key is private: a verifier needs the public half only');
  // Everybody knows a public key: as a secret it would let everybody sign (RFC 8725 §2.1).
  if (key.type === 'secret' && key.export().includes('-----BEGIN'))
    throw new TypeError('an HMAC secret must not be a PEM text: pass a PEM key as a string');
  return key;
}

function soleAlgorithm(key: KeyObject, algorithms: readonly Algorithm[]): Algorithm {
  const [algorithm, another] = algorithms.filter((name) => fits(key, name));
  if (algorithm === undefined) throw new TypeError(`the key serves none of the allowed algorithms`);
  if (another !== undefined)
    throw new TypeError(
      `the key would serve both ${algorithm} and ${another}: name its "alg" in a JWK, or allow one of them`,
    );
  assertStrong(key, algorithm);
  return algorithm;
}

function fits(key: KeyObject, algorithm: Algorithm): boolean {
  const rule = ruleOf(algorithm);
  switch (rule.family) {
    case 'RSA':
      return key.asymmetricKeyType === 'rsa';
    case 'EC':
      return key.asymmetricKeyDetails?.namedCurve === rule.curve;
    case 'OKP':
      return key.asymmetricKeyType === 'ed25519';
    case 'oct':
      return key.type === 'secret';
  }
}

function assertStrong(key: KeyObject, algorithm: Algorithm): void {
  const rule = ruleOf(algorithm);
  if (rule.family === 'oct' && (key.symmetricKeySize ?? 0) < rule.minSecretBytes)
    throw new TypeError(
      `a secret for ${algorithm} must have at least ${rule.minSecretBytes} bytes (RFC 7518 §3.2)`,
    );
  if (rule.family === 'OKP' && isOfSmallOrder(key))
    throw new TypeError('the key is a point of small order, which proves nothing');
  if (rule.family !== 'RSA') return;
  const { modulusLength = 0, publicExponent = 0n } = key.asymmetricKeyDetails ?? {};
  if (modulusLength < MIN_RSA_BITS)
    throw new TypeError(`an RSA key must have at least ${MIN_RSA_BITS} bits (RFC 7518 §3.3)`);
  if (modulusLength > MAX_RSA_BITS)
    throw new TypeError(`an RSA key must have at most ${MAX_RSA_BITS} bits`);
  if (publicExponent < MIN_RSA_EXPONENT || publicExponent >= RSA_EXPONENT_LIMIT)
    throw new TypeError(`an RSA exponent must be from ${MIN_RSA_EXPONENT} to below 2²⁵⁶`);
  if (publicExponent % 2n === 0n) throw new TypeError('an RSA exponent must be odd');
}
