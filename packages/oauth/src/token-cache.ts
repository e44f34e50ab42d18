import type { AccessToken } from './access-token.ts';
import { isResting } from './breaker.ts';
import { OAuthError } from './errors.ts';
import { cacheHits, renewals, reportFailure } from './events.ts';
import type { TokenRequest, TokenSource } from './source.ts';

/** What a token is for: scopes and resources in their canonical form. */
export interface Variant {
  readonly scope?: string;
  readonly resource: readonly string[];
}

export interface TokenCacheOptions {
  readonly issuer: string;
  readonly clientId: string;
  readonly defaults: Variant;
  /** Gets a token newer than `generation`, from wherever. Callers share the call. */
  readonly renew: (variant: Variant, generation: number) => Promise<AccessToken>;
  readonly renewBeforeSeconds: number;
  readonly now: () => number;
}

interface Slot {
  readonly id: string;
  readonly variant: Variant;
  current?: AccessToken;
  /** Resolved with `current`: handing out the same promise is what makes the common case cheap. */
  promise?: Promise<AccessToken>;
  freshUntilMs: number;
  validUntilMs: number;
  flight?: Promise<AccessToken>;
  /** No renewal before this, while `current` is still valid. */
  nextAttemptMs: number;
  failure?: { readonly error: OAuthError; readonly pauseMs: number; readonly untilMs: number };
}

const MAX_SLOTS = 1000;
/** Of a token's remaining life, at most this is given up to clocks that differ and requests that take time. */
const SKEW_MS = 5000;
const BACKGROUND_PAUSE_MS = 5000;
/** How long a refusal that a repetition will not change is remembered. */
export const REFUSAL_MS = 10_000;
/** A server may ask to be left alone longer, by mistake no doubt; it is asked again after this. */
export const LONGEST_PAUSE_MS = 3_600_000;
const LASTING: ReadonlySet<string> = new Set([
  'invalid_client',
  'unauthorized_client',
  'invalid_scope',
]);

/** Whether an error says that asking again soon would be refused again. */
export function isLasting(error: unknown): error is OAuthError & { readonly error: string } {
  return error instanceof OAuthError && error.error !== undefined && LASTING.has(error.error);
}

/** The in-process half of every source: one token and at most one renewal under way for each variant. */
export function tokenCache(options: TokenCacheOptions): TokenSource {
  const { issuer, clientId, defaults, renew, renewBeforeSeconds, now } = options;
  const slots = new Map<string, Slot>();
  const aliases = new Map<string, Slot>();
  const main = newSlot(defaults);
  // Instances that got the same token do not all renew it at the same moment.
  const jitter = 1 + Math.random() * 0.2;

  // Who asks twice mostly asks for the same.
  let latest: { scope: string | undefined; resource: string | undefined; slot: Slot } | undefined;

  const slotFor = ({ scope, resource }: TokenRequest): Slot => {
    if (scope === undefined && resource === undefined) return main;
    if (latest && scope === latest.scope && resource === latest.resource) return latest.slot;
    // As the caller wrote it, which is how it comes again; what it means is worked out once.
    const written = JSON.stringify([scope, resource]);
    let slot = aliases.get(written);
    if (!slot) {
      const fresh = newSlot(variantOf(scope ?? defaults.scope, resource ?? defaults.resource));
      slot = slots.get(fresh.id) ?? fresh;
    }
    remember(slots, slot.id, slot);
    remember(aliases, written, slot);
    // Not a list: the same one may say something else the next time.
    latest = typeof resource === 'object' ? undefined : { scope, resource, slot };
    return slot;
  };

  const install = (slot: Slot, token: AccessToken) => {
    const remainingMs = token.expiresAtMs - now();
    const windowMs = Math.min(renewBeforeSeconds * 1000 * jitter, remainingMs / 2);
    slot.current = token;
    slot.promise = Promise.resolve(token);
    slot.freshUntilMs = token.expiresAtMs - windowMs;
    slot.validUntilMs = token.expiresAtMs - Math.min(SKEW_MS, remainingMs / 10);
    slot.nextAttemptMs = 0;
    delete slot.failure;
  };

  const remind = (slot: Slot, error: OAuthError, pauseMs: number) => {
    slot.failure = { error, pauseMs, untilMs: now() + pauseMs };
  };

  const failed = (slot: Slot, error: unknown, startedAt: number) => {
    const retryAfterMs = error instanceof OAuthError ? error.retryAfterMs : undefined;
    const pauseMs = Math.min(LONGEST_PAUSE_MS, retryAfterMs ?? 0);
    slot.nextAttemptMs = now() + Math.max(pauseMs, BACKGROUND_PAUSE_MS * jitter);
    if (isLasting(error)) remind(slot, error, REFUSAL_MS);
    else if (pauseMs > 0 && !isResting(error)) remind(slot, error as OAuthError, pauseMs);
    reportFailure({ issuer, clientId }, 'renewal', error, startedAt);
  };

  const fly = async (slot: Slot, atLeast: number): Promise<AccessToken> => {
    const startedAt = performance.now();
    try {
      const known = Math.max(slot.current?.generation ?? 0, atLeast);
      const token = await renew(slot.variant, known);
      install(slot, token);
      if (renewals.hasSubscribers) {
        const { generation, expiresAtMs } = token;
        const durationMs = performance.now() - startedAt;
        renewals.publish({ issuer, clientId, generation, expiresAtMs, durationMs });
      }
      return token;
    } catch (error) {
      failed(slot, error, startedAt);
      throw error;
    } finally {
      delete slot.flight;
    }
  };

  const join = (slot: Slot, atLeast = 0): Promise<AccessToken> => {
    if (!slot.flight) {
      slot.flight = fly(slot, atLeast);
      // The flight may outlive everybody who waits for it.
      slot.flight.catch(() => {});
    }
    return slot.flight;
  };

  const hit = (slot: Slot, startedAt: number): Promise<AccessToken> => {
    const { current, promise } = slot as Required<Slot>;
    if (cacheHits.hasSubscribers) {
      const { generation } = current;
      const durationMs = performance.now() - startedAt;
      cacheHits.publish({ issuer, clientId, from: 'memory', generation, durationMs });
    }
    return promise;
  };

  return {
    getToken: (request) => {
      const startedAt = cacheHits.hasSubscribers ? performance.now() : 0;
      let slot = main;
      try {
        if (request !== undefined) slot = slotFor(request);
      } catch (error) {
        return Promise.reject(error);
      }
      const force = request?.forceRenewal;
      if (force === undefined || force === false) {
        const nowMs = now();
        if (nowMs < slot.freshUntilMs) return hit(slot, startedAt);
        if (nowMs < slot.validUntilMs) {
          if (nowMs >= slot.nextAttemptMs) void join(slot);
          return hit(slot, startedAt);
        }
      } else if (force !== true && slot.current && slot.current.generation > force) {
        if (now() < slot.validUntilMs) return hit(slot, startedAt);
      }
      const { failure } = slot;
      const leftMs = failure ? failure.untilMs - now() : 0;
      // If more is left, the clock was set back.
      if (failure && leftMs > 0 && leftMs <= failure.pauseMs) return Promise.reject(failure.error);
      const atLeast = typeof force === 'number' ? force : 0;
      return abortable(join(slot, atLeast), request?.signal);
    },
  };
}

/**
 * Scopes and resources are sets: order and repetition make no other token.
 * @throws TypeError for what is neither. An empty resource would be none, and the token good for all of them.
 */
export function variantOf(
  scope: string | undefined,
  resource: string | readonly string[] | undefined,
): Variant {
  const canonical = (values: readonly string[]) => [...new Set(values)].filter(Boolean).sort();
  if (scope !== undefined && typeof scope !== 'string') {
    throw new TypeError('scope must be a string, space separated');
  }
  const wanted = [resource ?? []].flat();
  if (wanted.some((one) => typeof one !== 'string' || one === '')) {
    throw new TypeError('resource must be a URI, or a list of them');
  }
  const scopes = canonical(scope?.split(' ') ?? []);
  const resources = canonical(wanted);
  return { ...(scopes.length > 0 ? { scope: scopes.join(' ') } : {}), resource: resources };
}

/** As the one used last; the one used longest ago makes room. */
function remember(slots: Map<string, Slot>, id: string, slot: Slot): void {
  slots.delete(id);
  slots.set(id, slot);
  const oldest = slots.size > MAX_SLOTS ? slots.keys().next().value : undefined;
  if (oldest !== undefined) slots.delete(oldest);
}

function newSlot(variant: Variant): Slot {
  const id = JSON.stringify(variant);
  return { id, variant, freshUntilMs: 0, validUntilMs: 0, nextAttemptMs: 0 };
}

/** Ends one caller's wait; the work goes on for the others. */
function abortable<T>(work: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return work;
  return new Promise((resolve, reject) => {
    const stop = () => reject(signal.reason as Error);
    if (signal.aborted) return stop();
    signal.addEventListener('abort', stop, { once: true });
    const done = () => signal.removeEventListener('abort', stop);
    work.then(resolve, reject).finally(done);
  });
}
