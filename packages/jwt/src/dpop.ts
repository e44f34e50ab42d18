import { type Algorithm, ruleOf, verifySignature } from './algorithms.ts';
import type { Instant } from './clock.ts';
import { parseCompact } from './compact.ts';
import type { DpopNonces } from './dpop-nonces.ts';
import { JwtError } from './errors.ts';
import type { JsonObject } from './json.ts';
import { importJwk } from './keys.ts';
import { memoryDpopReplayStore } from './memory.ts';
import { algorithmsOf, assertKnown, assertMethods, positive } from './options.ts';
import type { DpopReplayStore } from './store.ts';
import { keyThumbprint, sha256 } from './thumbprint.ts';

export interface DpopOptions {
  /** Refuse tokens that are not bound to a DPoP key. Default false. */
  readonly required?: boolean;
  /** For proofs; asymmetric ones only. Default ES256, EdDSA, Ed25519, RS256 and PS256. */
  readonly algorithms?: readonly Algorithm[];
  /** How old a proof may be, in seconds, beside the clock tolerance. Default 60. */
  readonly maxAgeSeconds?: number;
  /** Demand a nonce in every proof (RFC 9449 §9). Default: none is demanded. */
  readonly nonces?: DpopNonces;
  /** Default: in memory, which stops replays against this process only. */
  readonly replayStore?: DpopReplayStore;
}

/** A request's proof and what it must be a proof for. */
export interface DpopPresentation {
  /** The value of the `DPoP` header, or of all of them: there must be exactly one. */
  readonly proof: string | readonly string[];
  readonly method: string;
  /** The URL the caller used: scheme, host and path as seen from outside. Query and fragment do not matter. */
  readonly url: string;
}

/** What the proof must fit, beside the request. */
export interface ProofContext {
  readonly token: string;
  /** Thumbprint of the key the token is bound to. */
  readonly jkt: string;
  readonly at: Instant;
  readonly toleranceSeconds: number;
}

/** The mark a proof leaves in the replay store. */
export interface UsedProof {
  readonly id: string;
  readonly ttlMs: number;
}

/** The settled options, and the check. */
export interface DpopPolicy {
  readonly required: boolean;
  readonly algorithms: readonly Algorithm[];
  readonly nonces: DpopNonces | undefined;
  readonly replayStore: DpopReplayStore;
  /** All of RFC 9449 §4.3 but the single use, which is up to the replay store. @throws JwtError */
  check(presentation: DpopPresentation, context: ProofContext): UsedProof;
}

const MAX_PROOF_BYTES = 8192;
const MAX_JTI_CHARACTERS = 1024;

/** @throws TypeError naming the option that is wrong */
export function dpopPolicy(options: DpopOptions, now: (() => number) | undefined): DpopPolicy {
  assertKnown('dpop option', options, [
    'required',
    'algorithms',
    'maxAgeSeconds',
    'nonces',
    'replayStore',
  ]);
  const algorithms = algorithmsOf(
    options.algorithms ?? ['ES256', 'EdDSA', 'Ed25519', 'RS256', 'PS256'],
  );
  if (algorithms.some((name) => ruleOf(name).family === 'oct'))
    throw new TypeError('dpop.algorithms must be asymmetric');
  const maxAgeSeconds = positive('dpop.maxAgeSeconds', options.maxAgeSeconds ?? 60);
  const { nonces } = options;
  assertMethods('dpop.nonces', nonces, ['issue', 'accepts']);
  assertMethods('dpop.replayStore', options.replayStore, ['claim']);
  return {
    required: options.required ?? false,
    algorithms,
    nonces,
    replayStore: options.replayStore ?? memoryDpopReplayStore(now ? { now } : {}),
    check(presentation, context) {
      const proof = soleProof(presentation.proof);
      const claims = openProof(proof, algorithms, context.jkt);
      const jti = checkRequest(claims, presentation);
      checkNonce(claims, nonces);
      const iat = checkAge(claims, context, maxAgeSeconds);
      if (claims['ath'] !== sha256(context.token)) throw badProof('ath is not of this token');
      // Twice: once for the proof's own time, once for another process, sharing the store, whose clock is behind this one's.
      const expiresAtSeconds = iat + maxAgeSeconds + 2 * context.toleranceSeconds;
      return {
        // With the key: nobody can use up somebody else's identifiers.
        id: sha256(`${context.jkt}.${jti}`),
        ttlMs: Math.ceil(expiresAtSeconds * 1000 - context.at.nowMs) + 1000,
      };
    },
  };
}

/** Check 1. */
function soleProof(proof: string | readonly string[]): string {
  // A header that did not come is `undefined` where nobody checks types.
  const [first, another] = [proof].flat();
  if (first === undefined || another !== undefined) throw badProof('There must be one DPoP header');
  return first;
}

/** Checks 2, 4, 5, 6 and 7, and of check 12 that the key is the one the token is bound to. */
function openProof(proof: string, algorithms: readonly Algorithm[], jkt: string): JsonObject {
  let jws: ReturnType<typeof parseCompact>;
  try {
    jws = parseCompact(proof, MAX_PROOF_BYTES);
  } catch (cause) {
    throw badProof('The proof cannot be read', cause);
  }
  const { typ, alg, jwk, crit } = jws.header;
  if (typeof typ !== 'string' || typ.toLowerCase() !== 'dpop+jwt')
    throw badProof('typ is not dpop+jwt');
  const algorithm = algorithms.find((name) => name === alg);
  if (algorithm === undefined) throw badProof('The algorithm is not allowed');
  if (crit !== undefined) throw badProof('No critical header parameter is understood');
  if (typeof jwk !== 'object' || jwk === null) throw badProof('jwk is missing');
  let key: ReturnType<typeof importJwk>['key'];
  try {
    key = importJwk(jwk, [algorithm]).key;
  } catch (cause) {
    throw badProof('jwk is not a public key for the algorithm', cause);
  }
  // Before the signature: a key of the caller's making can cost two hundred times the work of an ordinary one.
  if (keyThumbprint(key) !== jkt)
    throw new JwtError('ERR_JWT_DPOP_BINDING', 'The token is bound to another key');
  if (!verifySignature(ruleOf(algorithm), key, jws.signingInput, jws.signature))
    throw badProof('The signature does not match');
  return jws.payload;
}

/** Checks 3, 8 and 9. */
function checkRequest(claims: JsonObject, { method, url }: DpopPresentation): string {
  const { jti, htm, htu } = claims;
  if (typeof jti !== 'string' || jti === '' || jti.length > MAX_JTI_CHARACTERS)
    throw badProof('jti is missing');
  if (typeof htm !== 'string' || htm !== method)
    throw badProof('htm is not the method of the request');
  const target = typeof htu === 'string' ? normalizedUrl(htu) : undefined;
  if (target === undefined || AMBIGUOUS_PATH.test(url) || target !== normalizedUrl(url))
    throw badProof('htu is not the URL of the request');
  return jti;
}

/** Check 10. */
function checkNonce(claims: JsonObject, nonces: DpopNonces | undefined): void {
  if (nonces === undefined) return;
  const { nonce } = claims;
  // Anything but a plain "yes" refuses.
  if (typeof nonce !== 'string' || nonces.accepts(nonce) !== true)
    throw new JwtError('ERR_JWT_DPOP_NONCE', 'The proof needs a nonce, or a newer one');
}

/** Check 11. */
function checkAge(
  claims: JsonObject,
  { at, toleranceSeconds }: ProofContext,
  maxAgeSeconds: number,
): number {
  const { iat } = claims;
  if (
    typeof iat !== 'number' ||
    !(iat <= at.nowMs / 1000 + toleranceSeconds) ||
    !(iat >= at.latestMs / 1000 - maxAgeSeconds - toleranceSeconds)
  )
    throw badProof('The proof was not made just now');
  return iat;
}

/**
 * Of a request: what resolving dots would turn into another path. Clients send none of it, and routers do not resolve it:
 * `/admin/../orders` may reach the handler of `/admin/*` with a proof for `/orders`.
 */
const AMBIGUOUS_PATH = /^[^?#]*(?:\\|\/(?:\.|%2e){1,2}(?:[/?#]|$))/i;

/** RFC 9449 §4.3: without query and fragment, normalized as in RFC 3986 §6.2.2 and §6.2.3. */
function normalizedUrl(text: string): string | undefined {
  if (!URL.canParse(text)) return undefined;
  const { protocol, origin, pathname, username, password } = new URL(text);
  if (!/^https?:$/.test(protocol) || username !== '' || password !== '') return undefined;
  return origin + pathname.replace(/%[0-9a-f]{2}/gi, normalizedEscape);
}

function normalizedEscape(triplet: string): string {
  const character = String.fromCharCode(Number.parseInt(triplet.slice(1), 16));
  return /[A-Za-z0-9._~-]/.test(character) ? character : triplet.toUpperCase();
}

function badProof(message: string, cause?: unknown): JwtError {
  return new JwtError('ERR_JWT_DPOP_PROOF', message, cause === undefined ? {} : { cause });
}
