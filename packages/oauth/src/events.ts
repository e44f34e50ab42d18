import { channel } from 'node:diagnostics_channel';

/** A diagnostics channel that takes one kind of event. */
export interface EventChannel<E> {
  readonly hasSubscribers: boolean;
  publish(event: E): void;
}

/** Who asks whom. */
export interface Common {
  readonly issuer: string;
  readonly clientId: string;
}

/** Published on `countersign:oauth:request`: one request to the authorization server was answered, or was not. */
export interface RequestEvent extends Common {
  readonly grantType: string;
  /** 0 when no response came. */
  readonly status: number;
  readonly durationMs: number;
}

/** Published on `countersign:oauth:cache-hit`: a token came from this process's memory or from the shared store. */
export interface CacheHitEvent extends Common {
  readonly from: 'memory' | 'store';
  readonly generation: number;
  /** From the call to the token; of a token that was waited for in the store, with the wait. */
  readonly durationMs: number;
}

/** Published on `countersign:oauth:renewal`: a new token is in use. */
export interface RenewalEvent extends Common {
  readonly generation: number;
  readonly expiresAtMs: number;
  readonly durationMs: number;
}

/**
 * A request to the authorization server failed and is made again after a wait; or, with `ERR_OAUTH_DPOP`, at once, with
 * the nonce that it lacked.
 */
export interface TokenRetryEvent extends Common {
  readonly at: 'authorization-server';
  readonly grantType: string;
  /** 1 for the first retry. What a nonce is repeated for does not count. */
  readonly retry: number;
  readonly waitMs: number;
  readonly code: string;
  /** Of the attempt that failed. */
  readonly durationMs: number;
}

/** A request to a resource server was refused with 401 and is made again. */
export interface ResourceRetryEvent {
  readonly at: 'resource-server';
  readonly origin: string;
  /** What the repetition has that the refused request had not. */
  readonly remedy: 'token' | 'nonce';
  /** Of the token that was refused. */
  readonly generation: number;
  /** From the request's start to its refusal, its token and earlier repetition included. */
  readonly durationMs: number;
}

/** Published on `countersign:oauth:retry`. */
export type RetryEvent = TokenRetryEvent | ResourceRetryEvent;

/** Published on `countersign:oauth:failure`: something failed; what callers noticed of it depends on `phase`. */
export interface FailureEvent extends Common {
  /** `renewal`: no token was obtained. `store`: the store was bypassed. The rest: the function of that name rejected. */
  readonly phase: 'renewal' | 'store' | 'authorization_code' | 'revocation' | 'introspection';
  readonly code: string;
  readonly durationMs: number;
}

export const requests: EventChannel<RequestEvent> = channel('countersign:oauth:request');
export const cacheHits: EventChannel<CacheHitEvent> = channel('countersign:oauth:cache-hit');
export const renewals: EventChannel<RenewalEvent> = channel('countersign:oauth:renewal');
export const retries: EventChannel<RetryEvent> = channel('countersign:oauth:retry');
export const failures: EventChannel<FailureEvent> = channel('countersign:oauth:failure');

/** Tells of a failure. Its code, and nothing else of it, is sure to hold no secret. */
export function reportFailure(
  { issuer, clientId }: Common,
  phase: FailureEvent['phase'],
  error: unknown,
  startedAt: number,
): void {
  if (!failures.hasSubscribers) return;
  const { code = 'unknown' } = error as NodeJS.ErrnoException;
  failures.publish({ issuer, clientId, phase, code, durationMs: performance.now() - startedAt });
}

/** Does some work, and tells when it fails. */
export async function reporting<T>(
  who: Common,
  phase: FailureEvent['phase'],
  work: () => Promise<T>,
): Promise<T> {
  const startedAt = performance.now();
  try {
    return await work();
  } catch (error) {
    reportFailure(who, phase, error, startedAt);
    throw error;
  }
}
