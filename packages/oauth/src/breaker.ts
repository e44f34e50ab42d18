import { exponentialBackoff } from '@countersign/retry';
import { OAuthError } from './errors.ts';
import { remainingMs } from './remaining.ts';

/** Keeps a failing endpoint from being asked by everybody all the time. Times are milliseconds since the epoch. */
export interface Breaker {
  /** 0 when a request may go out, else how long to wait. An open breaker lets one request through when its time is up. */
  waitMs(nowMs: number): number;
  succeeded(): void;
  failed(nowMs: number): void;
}

const THRESHOLD = 5;
const PROBE_MS = 30_000;
const backoff = exponentialBackoff({ baseMs: 1000, capMs: 30_000, jitter: 'decorrelated' });
const MAX_ENDPOINTS = 1000;
const breakers = new Map<string, Breaker>();

/** The breaker of an endpoint, shared by all that talk to it in this process. */
export function breakerOf(endpoint: string): Breaker {
  const breaker = breakers.get(endpoint) ?? createBreaker();
  breakers.delete(endpoint);
  breakers.set(endpoint, breaker);
  const oldest = breakers.size > MAX_ENDPOINTS ? breakers.keys().next().value : undefined;
  if (oldest !== undefined) breakers.delete(oldest);
  return breaker;
}

export function createBreaker(): Breaker {
  let failures = 0;
  let openUntilMs = 0;
  let pauseMs = 0;
  return {
    waitMs: (nowMs) => {
      if (failures < THRESHOLD) return 0;
      const leftMs = remainingMs(openUntilMs, nowMs, PROBE_MS);
      if (leftMs > 0) return leftMs;
      // This caller probes; the rest wait for what it finds, or for its being lost.
      openUntilMs = nowMs + PROBE_MS;
      return 0;
    },
    succeeded: () => {
      failures = 0;
      pauseMs = 0;
    },
    failed: (nowMs) => {
      failures += 1;
      if (failures < THRESHOLD) return;
      pauseMs = backoff(failures - THRESHOLD + 1, pauseMs || undefined);
      openUntilMs = nowMs + pauseMs;
    },
  };
}

/** @throws OAuthError `ERR_OAUTH_UNAVAILABLE` while it is open. */
export function assertClosed(breaker: Breaker, nowMs: number): void {
  const retryAfterMs = breaker.waitMs(nowMs);
  if (retryAfterMs === 0) return;
  const message = 'the authorization server kept failing and is left alone for a moment';
  throw new OAuthError('ERR_OAUTH_UNAVAILABLE', message, { retryAfterMs });
}

/** Whether an error only says that this process leaves the server alone. Others may not have to. */
export function isResting(error: unknown): error is OAuthError & { readonly retryAfterMs: number } {
  if (!(error instanceof OAuthError)) return false;
  const { code, status, retryAfterMs } = error;
  return code === 'ERR_OAUTH_UNAVAILABLE' && status === undefined && retryAfterMs !== undefined;
}
