import type { JSONWebKeySet } from 'jose';
import type { Algorithm } from './algorithms.ts';
import { assertFetchable, discoverJwksUri } from './discovery.ts';
import { JwtError } from './errors.ts';
import { type KeysRequestReason, keyIgnored, keysFailed, keysRefreshed } from './events.ts';
import { type FetchLike, fetchJson } from './fetch-json.ts';
import { type KeySet, type KeySource, keySet } from './key-set.ts';
import { importPublishedJwks, type VerificationKey } from './keys.ts';
import { assertFunction, type KeysOptions, positive, timerMs } from './options.ts';

export interface RemoteKeysOptions extends KeysOptions {
  readonly issuer: string;
  /** `undefined`: the issuer's metadata says. */
  readonly jwksUri: string | undefined;
  readonly algorithms: readonly Algorithm[];
  /** Milliseconds that never go back. */
  readonly now: () => number;
}

/** Keys beyond this many in a set are not looked at. */
const MAX_KEYS = 100;
const REFRESH_AHEAD = 0.8;
const FIRST_PAUSE_MS = 1000;

/** One reason's right to ask the issuer. Each has its own, so that a flood of bad `kid`s cannot use up the others'. */
interface Budget {
  failures: number;
  mayAskAtMs: number;
}

/**
 * An issuer's published keys. They are refreshed from 80 % of `maxAgeSeconds` on, beside the requests that use them.
 * While the issuer cannot be reached, or publishes no usable key, they serve on, up to `maxStaleSeconds`. A key the
 * issuer removed is therefore trusted for `maxAgeSeconds` at most while the issuer answers with keys, for
 * `maxStaleSeconds` at most if it does not.
 */
export function remoteKeys(options: RemoteKeysOptions): KeySource {
  const { issuer, jwksUri, algorithms, now, allowInsecureLoopback = false } = options;
  const maxAgeMs = positive('maxAgeSeconds', options.maxAgeSeconds ?? 600) * 1000;
  const maxStaleMs = positive('maxStaleSeconds', options.maxStaleSeconds ?? 3600) * 1000;
  const cooldownMs = positive('cooldownSeconds', options.cooldownSeconds ?? 30) * 1000;
  const timeoutMs = timerMs('timeoutMs', options.timeoutMs ?? 5000);
  const maxWaitMs = timerMs('maxWaitMs', options.maxWaitMs ?? 500);
  const maxBytes = positive('maxBytes', options.maxBytes ?? 256 * 1024);
  assertFunction('keys.fetch', options.fetch);
  const fetch = options.fetch ?? (globalThis.fetch as unknown as FetchLike);
  if (maxStaleMs < maxAgeMs) throw new TypeError('maxStaleSeconds must not be below maxAgeSeconds');
  assertFetchable(
    jwksUri === undefined ? 'issuer' : 'jwksUri',
    jwksUri ?? issuer,
    allowInsecureLoopback ? 'loopback' : 'refused',
  );

  const closing = new AbortController();
  const known: Budget = { failures: 0, mayAskAtMs: 0 };
  const unknown: Budget = { failures: 0, mayAskAtMs: 0 };
  let set: KeySet | undefined;
  let fetchedAtMs = Number.NEGATIVE_INFINITY;
  let lastFailure: unknown;
  let flight: Promise<KeySet> | undefined;
  /** Ends when those who wait for the flight have waited long enough. */
  let patience: Promise<void> | undefined;
  let waitedOut = false;

  function request(budget: Budget, reason: KeysRequestReason): Promise<KeySet> {
    patience = undefined;
    waitedOut = false;
    flight = fetchSet()
      .then(
        (keys) => {
          fetchedAtMs = now();
          // The issuer is back, whoever found out.
          known.failures = 0;
          unknown.failures = 0;
          known.mayAskAtMs = 0;
          if (budget === unknown) unknown.mayAskAtMs = fetchedAtMs + cooldownMs;
          return accept(keys, reason);
        },
        (error: unknown) => {
          // 1 s, 2 s, 4 s … up to the cooldown: a blip is over soon, an outage is not made worse.
          const pauseMs = Math.min(cooldownMs, FIRST_PAUSE_MS * 2 ** budget.failures);
          budget.failures += 1;
          budget.mayAskAtMs = now() + pauseMs;
          lastFailure = error;
          if (keysFailed.hasSubscribers)
            keysFailed.publish({ issuer, error, reason, retryAtMs: budget.mayAskAtMs });
          throw unavailable();
        },
      )
      .finally(() => {
        flight = undefined;
      });
    // Whoever waits sees the rejection; a refresh in the background has nobody waiting.
    flight.catch(() => undefined);
    return flight;
  }

  function fetchSet(): Promise<VerificationKey[]> {
    const signal = AbortSignal.any([closing.signal, AbortSignal.timeout(timeoutMs)]);
    // Not every `fetch` heeds its signal, and as long as one is on its way no other starts.
    return Promise.race([fetchKeys(signal), abortionOf(signal)]);
  }

  async function fetchKeys(signal: AbortSignal): Promise<VerificationKey[]> {
    const transport = { fetch, maxBytes, signal };
    // Discovery is repeated each time: an issuer that moves its keys away must not be stuck with the old place.
    const uri = jwksUri ?? (await discoverJwksUri(issuer, transport));
    assertFetchable('jwks_uri', uri, allowInsecureLoopback ? 'loopback' : 'refused');
    const document = await fetchJson(uri, transport);
    if (!Array.isArray(document['keys'])) throw new Error(`${uri} is not a JWK set`);
    const jwks = { keys: document['keys'].slice(0, MAX_KEYS) } as JSONWebKeySet;
    const keys = await importPublishedJwks(jwks, algorithms, (reason) => {
      if (keyIgnored.hasSubscribers) keyIgnored.publish({ issuer, reason });
    });
    // More likely a deployment gone wrong than the wish to refuse all tokens: good keys are not given up for it.
    if (keys.length === 0) throw new Error(`${uri} holds no usable key`);
    return keys;
  }

  /** The same object as before if nothing changed, because cached tokens hang on it. */
  function accept(keys: VerificationKey[], reason: KeysRequestReason): KeySet {
    const changed = set === undefined || !sameKeys(set.keys, keys);
    const accepted = changed || set === undefined ? keySet(keys) : set;
    set = accepted;
    if (keysRefreshed.hasSubscribers)
      keysRefreshed.publish({ issuer, keys: keys.length, changed, reason });
    return accepted;
  }

  function unavailable(): JwtError {
    return new JwtError('ERR_JWT_KEYS_UNAVAILABLE', 'The keys of the issuer cannot be fetched', {
      cause: lastFailure,
    });
  }

  /** Starts a refresh if one is due, allowed and not on its way. */
  function refreshIfDue(nowMs: number): void {
    if (flight || closing.signal.aborted || nowMs < known.mayAskAtMs) return;
    if (nowMs - fetchedAtMs >= maxAgeMs * REFRESH_AHEAD) void request(known, 'age');
  }

  return {
    current(nowMs) {
      if (set === undefined) return undefined;
      refreshIfDue(nowMs);
      const ageMs = nowMs - fetchedAtMs;
      if (ageMs < maxAgeMs) return set;
      if (ageMs >= maxStaleMs) return undefined;
      // Aged keys serve on only once the issuer has been given its chance to say that they changed.
      const answerMayCome = flight !== undefined && !waitedOut && !closing.signal.aborted;
      return answerMayCome && known.failures === 0 ? undefined : set;
    },

    async load(nowMs) {
      if (closing.signal.aborted)
        throw new JwtError('ERR_JWT_KEYS_UNAVAILABLE', 'The verifier has been closed');
      const usable = this.current(nowMs);
      if (usable) return usable;
      if (flight === undefined) {
        if (nowMs < known.mayAskAtMs) throw unavailable();
        void request(known, set ? 'age' : 'initial');
      }
      if (flight === undefined) throw unavailable();
      if (set === undefined || nowMs - fetchedAtMs >= maxStaleMs) return flight;
      const stale = set;
      patience ??= delay(maxWaitMs).then(() => {
        waitedOut = true;
      });
      return Promise.race([flight.catch(() => stale), patience.then(() => stale)]);
    },

    reload(nowMs) {
      if (closing.signal.aborted) return undefined;
      if (flight) return flight;
      if (nowMs < unknown.mayAskAtMs) return undefined;
      return request(unknown, 'unknown-kid');
    },

    close() {
      closing.abort(new Error('The verifier has been closed'));
    },
  };
}

function sameKeys(before: readonly VerificationKey[], after: readonly VerificationKey[]): boolean {
  return (
    before.length === after.length &&
    before.every((key, index) => {
      const other = after[index];
      return (
        other !== undefined &&
        other.kid === key.kid &&
        other.algorithm === key.algorithm &&
        other.key.equals(key.key)
      );
    })
  );
}

function abortionOf(signal: AbortSignal): Promise<never> {
  return new Promise((_, reject) => {
    signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

function delay(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms).unref();
  });
}
