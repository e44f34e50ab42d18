import { randomBytes } from 'node:crypto';
import type { IdempotencyErrorCode } from './errors.ts';
import { channels } from './events.ts';
import { Lease } from './lease.ts';
import type { Settings } from './settings.ts';
import type { Begun, Claim } from './store.ts';

/** What is to be done about a request whose outcome nobody knows: nothing, run it again, or store this outcome. */
export type Recovery = 'refuse' | 'rerun' | { readonly payload: Uint8Array };

/** One request that wants to run once. */
export interface Attempt {
  readonly id: string;
  readonly fingerprint: string;
  /** A function decides while it holds the record, so that nobody else decides or runs at the same time. */
  readonly onUnknown: 'refuse' | 'rerun' | ((fence: number) => Promise<Recovery>);
  /** Nobody waits for the outcome any more. Asked for after the store was. */
  readonly signal?: () => AbortSignal | undefined;
}

/** What came of the attempt. */
export type Acquired =
  | { readonly state: 'acquired'; readonly lease: Lease }
  /** `payload` is undefined when the store had no room for it. */
  | {
      readonly state: 'completed';
      readonly payload: Uint8Array | undefined;
      readonly expiresInMs: number;
    }
  | { readonly state: 'processing' | 'unknown' | 'mismatch' }
  /** `store-failed`: nothing is known of the request. `unreadable`: there is a record, and it must not be run over. */
  | { readonly state: 'store-failed' | 'unreadable'; readonly error: unknown };

const firstPauseMs = 20;
const longestPauseMs = 500;

let processName: string | undefined;
let attempts = 0;

/**
 * Need be unique, not secret: one random name per process and a counter spare every request the random bytes. The name is
 * made late, and the time is in it, because processes that were started from one snapshot have all else in common.
 */
function ownerAt(ms: number): string {
  processName ??= randomBytes(9).toString('base64url');
  attempts += 1;
  return processName + Math.floor(ms).toString(36) + attempts.toString(36);
}

/** Takes the request's record, or says why not. Asks the store once, unless it waits for another owner. */
export function acquire(settings: Settings, attempt: Attempt): Promise<Acquired> {
  return settings.waitMs > 0 ? keepTrying(settings, attempt) : tryToAcquire(settings, attempt);
}

async function keepTrying(settings: Settings, attempt: Attempt): Promise<Acquired> {
  // By a clock that nobody sets.
  const deadline = performance.now() + settings.waitMs;
  for (let pauseMs = firstPauseMs; ; pauseMs = Math.min(pauseMs * 1.5, longestPauseMs)) {
    const acquired = await tryToAcquire(settings, attempt);
    const leftMs = deadline - performance.now();
    if (acquired.state !== 'processing' || leftMs <= 0) return acquired;
    const signal = attempt.signal?.();
    await sleep(Math.ceil(Math.min(pauseMs, leftMs)), signal);
    // Who does not wait for the outcome any more must not be the one to make it.
    if (signal?.aborted) return acquired;
  }
}

/** Ends early when the signal fires. */
function sleep(ms: number, signal: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve) => {
    const wake = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', wake);
      resolve();
    };
    const timer = setTimeout(wake, ms);
    if (signal?.aborted) wake();
    else signal?.addEventListener('abort', wake);
  });
}

async function tryToAcquire(settings: Settings, attempt: Attempt): Promise<Acquired> {
  const { id, fingerprint, onUnknown } = attempt;
  const { store, seal, heartbeat, leaseMs, ttlMs, now } = settings;
  try {
    const getting = seal.ready();
    if (getting) await getting;
  } catch (error) {
    channels.storeError.publish({ id, operation: 'encrypt', error });
    return { state: 'store-failed', error };
  }
  const askedAt = now();
  const owner = ownerAt(askedAt);
  const claim: Claim = { id, owner, fingerprint, leaseMs, ttlMs };
  let begun: Begun;
  try {
    begun = await store.begin(claim, { takeover: onUnknown !== 'refuse' });
  } catch (error) {
    channels.storeError.publish({ id, operation: 'begin', error });
    if (isUnreadable(error)) return { state: 'unreadable', error };
    // The store may have granted what it could not say. Nothing was run, so give it back, even if that takes a while.
    if (mayHaveRun(error)) {
      const options = { store, heartbeat, now, askedAt, recovered: false };
      new Lease({ ...claim, fence: 0 }, options).release().catch(() => {});
    }
    return { state: 'store-failed', error };
  }
  if (begun.state === 'completed') return await opened(settings, id, begun);
  if (begun.state !== 'acquired') return { state: begun.state };
  const { fence, recovered } = begun;
  const held = { id, owner, fingerprint, leaseMs, ttlMs, fence };
  const lease = new Lease(held, { store, heartbeat, now, askedAt, recovered });
  if (attempt.signal?.()?.aborted) return await leave(lease);
  if (!recovered || typeof onUnknown !== 'function') return { state: 'acquired', lease };
  const acquired = await recover(settings, lease, onUnknown);
  const hasLeft = acquired.state === 'acquired' && attempt.signal?.()?.aborted;
  return hasLeft ? await leave(lease) : acquired;
}

/** Nothing has begun, and who handles the request would not get its body from a caller that has left. */
async function leave(lease: Lease): Promise<Acquired> {
  await lease.release().catch(() => {});
  return { state: 'processing' };
}

async function recover(
  settings: Settings,
  lease: Lease,
  decide: (fence: number) => Promise<Recovery>,
): Promise<Acquired> {
  const { id, fence } = lease.claim;
  let recovery: Recovery;
  try {
    recovery = await decide(fence);
  } catch (error) {
    await giveUp(lease);
    throw error;
  }
  if (recovery === 'rerun') return await confirm(lease);
  if (recovery === 'refuse') {
    await giveUp(lease);
    return { state: 'unknown' };
  }
  const { payload } = recovery;
  try {
    return (await lease.complete(settings.seal.seal(payload, id)))
      ? { state: 'completed', payload, expiresInMs: settings.ttlMs }
      : { state: 'processing' };
  } catch (error) {
    return { state: 'unreadable', error };
  }
}

/** Deciding may have taken longer than the lease: who was overtaken meanwhile must not run the request as well. */
async function confirm(lease: Lease): Promise<Acquired> {
  try {
    return (await lease.renew()) ? { state: 'acquired', lease } : { state: 'processing' };
  } catch (error) {
    await giveUp(lease);
    return { state: 'unreadable', error };
  }
}

/** The record is unknown again, at once or, when the store fails, as soon as the lease is over. */
async function giveUp(lease: Lease): Promise<void> {
  await lease.abandon().catch(() => {});
}

async function opened(
  { seal }: Settings,
  id: string,
  { payload, expiresInMs }: Extract<Begun, { state: 'completed' }>,
): Promise<Acquired> {
  if (payload.byteLength === 0) return { state: 'completed', payload: undefined, expiresInMs };
  try {
    return { state: 'completed', payload: await seal.open(payload, id), expiresInMs };
  } catch (error) {
    channels.storeError.publish({ id, operation: 'decrypt', error });
    return { state: 'unreadable', error };
  }
}

/** By its code: a store may have its errors from another copy of this package. */
function isUnreadable(error: unknown): boolean {
  const unreadable: IdempotencyErrorCode = 'ERR_IDEMPOTENCY_RECORD_UNREADABLE';
  return (error as { readonly code?: unknown } | undefined)?.code === unreadable;
}

/** Whether the store may have done what it failed to confirm: it says `outcome: 'not-run'` when it has not. */
function mayHaveRun(error: unknown): boolean {
  return (error as { readonly outcome?: unknown } | undefined)?.outcome !== 'not-run';
}
