import { channel } from 'node:diagnostics_channel';

/** A diagnostics channel that takes one kind of event. */
export interface EventChannel<E> {
  readonly hasSubscribers: boolean;
  publish(event: E): void;
}

interface Common {
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
}

/** Published on `countersign:oauth:renewal`: a new token is in use. */
export interface RenewalEvent extends Common {
  readonly generation: number;
  readonly expiresAtMs: number;
  readonly durationMs: number;
}

/** Published on `countersign:oauth:retry`: a request failed and is made again after a wait. */
export interface RetryEvent extends Common {
  readonly grantType: string;
  /** 1 for the first retry. */
  readonly retry: number;
  readonly waitMs: number;
  readonly code: string;
}

/** Published on `countersign:oauth:failure`: something failed; what callers noticed of it depends on `phase`. */
export interface FailureEvent extends Common {
  /** `renewal`: no token was obtained. `store`: the store was bypassed. */
  readonly phase: 'renewal' | 'store';
  readonly code: string;
  readonly durationMs: number;
}

export const requests: EventChannel<RequestEvent> = channel('countersign:oauth:request');
export const cacheHits: EventChannel<CacheHitEvent> = channel('countersign:oauth:cache-hit');
export const renewals: EventChannel<RenewalEvent> = channel('countersign:oauth:renewal');
export const retries: EventChannel<RetryEvent> = channel('countersign:oauth:retry');
export const failures: EventChannel<FailureEvent> = channel('countersign:oauth:failure');
