import { assertKnown, type OptionNames } from '@countersign/options';
import type { Background } from './background.ts';
import { fingerprintOf, type KeyCache } from './cache.ts';
import { publish } from './events.ts';
import { allowsAddress } from './ip-allowlist.ts';
import { detached, type KeyFormat, type Misread } from './key-format.ts';
import { type Legacy, type LegacyClaim, legacyClaim } from './legacy.ts';
import { type PepperRing, sameDigest, sha256 } from './pepper.ts';
import type { KeyRecord, StoredKey } from './record.ts';
import { matchesResource } from './resource.ts';
import { covers } from './scope.ts';
import type { ApiKeyStore } from './store.ts';

/** What a presented key must be good for. */
export interface VerifyOptions {
  /** All of them are required. */
  readonly scopes?: readonly string[];
  /** What is acted on. A key with `resources` is refused where none is named. */
  readonly resource?: string;
  /** The caller's address. A key with `ipAllowlist` is refused where none is given. */
  readonly ip?: string;
}

/** The answer of `verify`. `id` is there once the secret has matched. */
export type VerifyResult =
  | { readonly status: 'valid'; readonly record: KeyRecord }
  | { readonly status: Misread | 'unknown' }
  | { readonly status: Refusal; readonly id: string }
  /** The store could not be asked: answer 503, this says nothing about the key. */
  | { readonly status: 'unavailable'; readonly error: unknown };

/** Why a genuine key is refused. */
export type Refusal = 'expired' | 'revoked' | 'insufficient_scope' | 'ip_denied';

/** What `verify` is made of. */
export interface VerifierParts {
  readonly format: KeyFormat;
  readonly store: ApiKeyStore;
  readonly peppers: PepperRing;
  readonly cache: KeyCache | undefined;
  readonly legacy: Legacy | undefined;
  readonly background: Background;
  readonly now: () => number;
  /** A clock for the cache, in ms from anywhere, that is never set back. */
  readonly ticks: () => number;
  /** Makes a record for a legacy key that is presented for the first time. */
  readonly adopt: (
    claim: Claim,
    lookup: NonNullable<LegacyClaim['lookup']>,
  ) => Promise<StoredKey | undefined>;
  /** Told of every valid use. */
  readonly used: (record: KeyRecord, nowMs: number, ip: string | undefined) => void;
  /** Told of every refusal of a genuine key. */
  readonly refused: (
    record: KeyRecord,
    status: Refusal,
    nowMs: number,
    ip: string | undefined,
  ) => void;
}

/** Who a presented text claims to be, and what proves it. */
export interface Claim {
  readonly id: string;
  readonly payload: string;
  readonly lookup?: LegacyClaim['lookup'];
}

/** The ways a presented key is looked at. */
export interface Verifier {
  readonly verify: (presented: string, options?: VerifyOptions) => Promise<VerifyResult>;
  /** The record of a genuine key, whatever its state. Rejects when the store cannot be asked. */
  readonly identify: (presented: string) => Promise<KeyRecord | undefined>;
}

const MAX_LEGACY_LENGTH = 512;
const KNOWN: OptionNames<VerifyOptions> = { scopes: true, resource: true, ip: true };
const NO_OPTIONS: VerifyOptions = Object.freeze({});
const MALFORMED = Object.freeze({ status: 'malformed' } as const);
const WRONG_ENVIRONMENT = Object.freeze({ status: 'wrong_environment' } as const);
const UNKNOWN = Object.freeze({ status: 'unknown' } as const);
// What an unknown id is compared with, so that it costs what a wrong secret does.
const DECOY_DIGEST = sha256('nobody has this key');

/**
 * Nothing in here is an `async` function: where the cache or an embedded store answers, the only promise is the
 * one returned. Awaiting on the way would cost as much as the cryptography.
 */
export function verifier(parts: VerifierParts): Verifier {
  const { format, store, peppers, cache, now, ticks } = parts;

  function read(presented: string): Claim | Misread {
    const misread = format.misread(presented);
    if (misread === undefined) return { id: format.idIn(presented) as string, payload: presented };
    if (misread !== 'malformed' || !parts.legacy || presented.length > MAX_LEGACY_LENGTH)
      return misread;
    const claim = parts.legacy(presented);
    return claim ? { ...legacyClaim(presented, claim), lookup: claim.lookup } : 'malformed';
  }

  function answer(presented: string, options: VerifyOptions): VerifyResult | Promise<VerifyResult> {
    if (!cache) {
      const claim = read(presented);
      return typeof claim === 'string'
        ? refuseMisread(claim, options)
        : ask(claim, options, undefined, 0);
    }
    const tick = ticks();
    const id = format.idIn(presented);
    // Before the text is even read: what is cached under its fingerprint was read then.
    const known = id === undefined ? undefined : cache.get(id, tick);
    let fingerprint = known && fingerprintOf(presented);
    if (known && known.fingerprint === fingerprint) return decide(known.record, options, now());
    const claim = read(presented);
    if (typeof claim === 'string') return refuseMisread(claim, options);
    // Once, whether or not the id is cached: the time it takes must not tell.
    fingerprint ??= fingerprintOf(presented);
    const adopted = claim.id === id ? undefined : cache.get(claim.id, tick);
    if (adopted?.fingerprint === fingerprint) return decide(adopted.record, options, now());
    if (cache.isUnknown(fingerprint, tick)) return refuseUnknown(claim.id, options);
    return ask(claim, options, fingerprint, tick);
  }

  function ask(
    claim: Claim,
    options: VerifyOptions,
    fingerprint: string | undefined,
    sinceTick: number,
  ): VerifyResult | Promise<VerifyResult> {
    const fence = cache?.fence() ?? 0;
    const conclude = (stored: StoredKey | undefined): VerifyResult => {
      if (fingerprint !== undefined) cache?.fill(fence, fingerprint, stored?.record, sinceTick);
      return stored ? decide(stored.record, options, now()) : refuseUnknown(claim.id, options);
    };
    const stored = lookUp(claim);
    // A store that had to be waited for may have taken its time: the key is judged by the clock as it is then.
    if (stored instanceof Promise) return stored.then(conclude);
    return conclude(stored);
  }

  /** The stored key that the claim proves to be. */
  function lookUp(claim: Claim): StoredKey | undefined | Promise<StoredKey | undefined> {
    if (!peppers.loaded) return peppers.load().then(() => lookUp(claim));
    const found = store.find(claim.id);
    if (found instanceof Promise) return found.then((stored) => settle(claim, stored));
    return settle(claim, found);
  }

  function settle(
    claim: Claim,
    found: StoredKey | undefined,
  ): StoredKey | undefined | Promise<StoredKey | undefined> {
    if (!found && claim.lookup) return parts.adopt(claim, claim.lookup);
    if (!proves(claim.payload, found)) return undefined;
    if (found && found.record.pepperId !== peppers.currentId) rehash(claim.payload, found);
    return found;
  }

  function proves(payload: string, found: StoredKey | undefined): boolean {
    const pepperId = found ? found.record.pepperId : peppers.currentId;
    // Where peppers are in use a plain digest would be the cheaper one, and tell.
    if (pepperId !== peppers.currentId && pepperId === undefined) current(payload);
    const digest = peppers.digest(payload, pepperId) ?? current(payload) ?? '';
    return sameDigest(digest, found ? found.digest : DECOY_DIGEST) && found !== undefined;
  }

  function current(payload: string): string | undefined {
    return peppers.digest(payload, peppers.currentId);
  }

  function rehash(payload: string, { record, digest: from }: StoredKey): void {
    const pepperId = peppers.currentId;
    const digest = current(payload);
    if (digest === undefined) return;
    parts.background.run('rehash', async () => {
      const to = pepperId === undefined ? { digest } : { digest, pepperId };
      if (!(await store.rehash(record.id, from, to))) return;
      publish('rehashed', () => ({ id: record.id, ...(pepperId !== undefined && { pepperId }) }));
    });
  }

  function decide(record: KeyRecord, options: VerifyOptions, nowMs: number): VerifyResult {
    // The digest of a key of ours covers its environment; a legacy key's does not, and stores are shared.
    if (record.environment !== format.environment)
      return refuseMisread('wrong_environment', options);
    const refusal = refusalOf(record, options, nowMs);
    if (refusal === undefined) {
      parts.used(record, nowMs, options.ip);
      return { status: 'valid', record };
    }
    parts.refused(record, refusal, nowMs, options.ip);
    publishDenied(refusal, options, record.id, true);
    return { status: refusal, id: record.id };
  }

  return {
    verify(presented, options = NO_OPTIONS) {
      if (typeof presented !== 'string') return Promise.resolve(MALFORMED);
      try {
        assertKnown(options, KNOWN); // a misspelt requirement must not be taken for none
        const result = answer(presented, options);
        return result instanceof Promise ? result.catch(unavailable) : Promise.resolve(result);
      } catch (error) {
        return Promise.resolve(unavailable(error));
      }
    },
    async identify(presented) {
      if (typeof presented !== 'string') return undefined;
      const claim = read(presented);
      return typeof claim === 'string' ? undefined : (await lookUp(claim))?.record;
    },
  };
}

function refusalOf(record: KeyRecord, options: VerifyOptions, nowMs: number): Refusal | undefined {
  if (record.revokedAtMs !== undefined) return 'revoked';
  if (record.expiresAtMs !== undefined && nowMs >= record.expiresAtMs) return 'expired';
  if (record.ipAllowlist && !allowsAddress(record.ipAllowlist, options.ip ?? ''))
    return 'ip_denied';
  if (options.scopes && !options.scopes.every((scope) => covers(record.scopes, scope))) {
    return 'insufficient_scope';
  }
  if (record.resources && !matchesResource(record.resources, options.resource ?? '')) {
    return 'insufficient_scope';
  }
  return undefined;
}

function refuseMisread(status: Misread, options: VerifyOptions): VerifyResult {
  publishDenied(status, options, undefined, false);
  return status === 'malformed' ? MALFORMED : WRONG_ENVIRONMENT;
}

function refuseUnknown(id: string, options: VerifyOptions): VerifyResult {
  publishDenied('unknown', options, id, false);
  return UNKNOWN;
}

/** The answer where the store fails; reported as an event. */
export function unavailable(error: unknown): VerifyResult {
  publish('store-error', () => ({ operation: 'verify', error }));
  return { status: 'unavailable', error };
}

function publishDenied(
  status: string,
  { ip }: VerifyOptions,
  id: string | undefined,
  proved: boolean,
): void {
  publish('denied', () => ({
    status,
    proved,
    ...(id !== undefined && { id: detached(id) }),
    ...(ip !== undefined && { ip }),
  }));
}
