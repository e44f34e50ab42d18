import { egressAgent } from '@countersign/egress';
import { assertKnown, type OptionNames } from '@countersign/options';
import { type Backoff, exponentialBackoff } from '@countersign/retry';
import type { Dispatcher } from 'undici';
import type { AttemptPolicy } from './call.ts';
import { isToken } from './headers.ts';
import { type KeyPolicy, keyPolicy } from './idempotency-key.ts';
import type { ClientOptions, RetryOptions } from './options.ts';
import { type OriginPolicies, optionsOf } from './origin.ts';
import type { JournalStore } from './store.ts';

/** A client's options, checked and with their defaults. */
export interface Settings {
  readonly origin: string;
  /** Through the interceptors, or without any of them. */
  readonly dispatch: Dispatcher.Dispatch;
  readonly bareDispatch: Dispatcher.Dispatch;
  readonly close: () => Promise<void>;
  readonly deadlineMs: number;
  readonly headers: Readonly<Record<string, string>>;
  readonly traceparent: boolean;
  readonly deadlineHeader: string | undefined;
  readonly maxRedirects: number;
  readonly journal: JournalStore | undefined;
  readonly keyLifetimeMs: number;
  readonly keys: KeyPolicy;
  readonly attempts: AttemptPolicy;
  readonly policies: OriginPolicies;
}

const known: OptionNames<ClientOptions> = {
  origin: true,
  interceptors: true,
  deadlineMs: true,
  attemptTimeoutMs: true,
  retry: true,
  budget: true,
  breaker: true,
  concurrency: true,
  hedge: true,
  maxRedirects: true,
  journal: true,
  egress: true,
  maxResponseBytes: true,
  maxErrorBytes: true,
  idempotency: true,
  headers: true,
  deadlineHeader: true,
  traceparent: true,
  now: true,
};

/** A longer one would fire at once. */
export const LONGEST_TIMER_MS = 2_147_483_647;

/** @throws TypeError when an option is not what it must be, or there is no such option. */
export function readSettings(options: ClientOptions): Settings {
  assertKnown(options, known);
  const { interceptors = [], budget = {}, breaker = {}, concurrency = {} } = options;
  if (!Array.isArray(interceptors) || interceptors.some((each) => typeof each !== 'function')) {
    throw new TypeError('interceptors must be an array of functions');
  }
  if (options.now !== undefined && typeof options.now !== 'function') {
    throw new TypeError('now must be a function');
  }
  if (options.journal !== undefined && !isJournal(options.journal)) {
    throw new TypeError('journal must be a JournalStore, such as fileJournal(path)');
  }
  const idempotency = optionsOf('idempotency', options.idempotency ?? {});
  const maxResponseBytes = whole(options.maxResponseBytes, 10_485_760, 'maxResponseBytes');
  const attemptTimeoutMs = whole(
    options.attemptTimeoutMs,
    10_000,
    'attemptTimeoutMs',
    LONGEST_TIMER_MS,
  );
  const maxErrorBytes = whole(options.maxErrorBytes, 65_536, 'maxErrorBytes');
  const largestBytes = Math.max(maxResponseBytes, maxErrorBytes);
  const { dispatcher, close } = openDispatcher(options.egress, largestBytes, attemptTimeoutMs);
  const bareDispatch = dispatcher.dispatch.bind(dispatcher) as Dispatcher.Dispatch;
  return {
    origin: checkedOrigin(options.origin),
    bareDispatch,
    dispatch: interceptors.reduceRight<Dispatcher.Dispatch>(intercepted, bareDispatch),
    close,
    deadlineMs: whole(options.deadlineMs, 30_000, 'deadlineMs', LONGEST_TIMER_MS),
    headers: commonHeaders(options.headers),
    traceparent: options.traceparent ?? true,
    deadlineHeader: deadlineHeader(options.deadlineHeader),
    maxRedirects:
      (options.maxRedirects ?? 0) === 0 ? 0 : whole(options.maxRedirects, 0, 'maxRedirects', 20),
    journal: options.journal,
    keyLifetimeMs: whole(idempotency.keyLifetimeMs, 86_400_000, 'idempotency.keyLifetimeMs'),
    keys: keyPolicy(idempotency),
    attempts: {
      ...retrying(options.retry ?? {}),
      attemptTimeoutMs,
      maxResponseBytes,
      maxErrorBytes,
      hedgeAfterMs: options.hedge === undefined ? undefined : hedgeAfterMs(options.hedge),
      now: options.now ?? Date.now,
    },
    policies: { budget, breaker, concurrency },
  };
}

/** Without any of these a call would fail when the server has done it already. */
function isJournal(journal: JournalStore | null): boolean {
  return [journal?.begin, journal?.settle, journal?.claim].every(
    (method) => typeof method === 'function',
  );
}

/**
 * undici's own rule for interceptors. It also finds one that was not made yet: `apiKey` for `apiKey(key)` would take the
 * next layer for its key, and nothing would ever be sent.
 */
function intercepted(
  inner: Dispatcher.Dispatch,
  interceptor: Dispatcher.DispatcherComposeInterceptor,
): Dispatcher.Dispatch {
  const dispatch: unknown = interceptor(inner);
  if (typeof dispatch === 'function' && dispatch.length === 2) {
    return dispatch as Dispatcher.Dispatch;
  }
  throw new TypeError('interceptors: each must return a function of a request and a handler');
}

function commonHeaders(headers: ClientOptions['headers']): Record<string, string> {
  const lower = lowerCased(headers);
  if ('idempotency-key' in lower) {
    throw new TypeError('headers must have no Idempotency-Key: every call has its own');
  }
  for (const [name, value] of Object.entries(lower)) {
    if (!isToken(name) || !/^[\t\x20-\x7e\x80-\xff]*$/.test(value)) {
      throw new TypeError(
        `headers: ${JSON.stringify(name)} is no header, or has no value that one can have`,
      );
    }
  }
  return lower;
}

/** Header names in lower case, so that what is given twice in different cases is one header. */
export function lowerCased(
  headers: Readonly<Record<string, string>> | undefined,
): Record<string, string> {
  const lower: Record<string, string> = {};
  if (headers === undefined) return lower;
  // A Headers or a Map has no properties: all of its headers, a key of the caller's own among them, would be lost.
  if (typeof headers !== 'object' || headers === null || Symbol.iterator in headers) {
    throw new TypeError('headers must be an object of names and values');
  }
  for (const [name, value] of Object.entries(headers)) lower[name.toLowerCase()] = value;
  return lower;
}

/** @throws TypeError when it is not a whole number from 1 to `most`. */
export function whole(
  value: number | undefined,
  otherwise: number,
  name: string,
  most: number = Number.MAX_SAFE_INTEGER,
): number {
  const number = value ?? otherwise;
  if (!(Number.isInteger(number) && number >= 1 && number <= most)) {
    throw new TypeError(`${name} must be a whole number from 1 to ${most}`);
  }
  return number;
}

function checkedOrigin(origin: string): string {
  const url = URL.canParse(origin) ? new URL(origin) : undefined;
  const plain =
    url && /^https?:$/.test(url.protocol) && url.pathname === '/' && !url.search && !url.hash;
  if (!plain || url.username || url.password) {
    throw new TypeError('origin must be scheme, host and port, such as https://api.example.com');
  }
  return url.origin;
}

function openDispatcher(
  egress: ClientOptions['egress'] = {},
  maxResponseBytes: number,
  attemptTimeoutMs: number,
): { dispatcher: Dispatcher; close: () => Promise<void> } {
  if ('dispatch' in egress) return { dispatcher: egress, close: async () => {} };
  // An attempt that may take long must not be cut short by the agent.
  const patienceMs = Math.max(30_000, attemptTimeoutMs);
  const agent = egressAgent({
    maxResponseBytes,
    headersTimeoutMs: patienceMs,
    bodyTimeoutMs: patienceMs,
    ...egress,
  });
  return { dispatcher: agent, close: () => agent.close() };
}

/** @throws TypeError when an option is not what it must be. */
export function retrying(options: RetryOptions | false): { maxAttempts: number; backoff: Backoff } {
  const { maxAttempts, ...backoff } = optionsOf('retry', options) || { maxAttempts: 1 };
  return {
    maxAttempts: whole(maxAttempts, 4, 'retry.maxAttempts'),
    backoff: exponentialBackoff({ baseMs: 100, capMs: 10_000, ...backoff }),
  };
}

function hedgeAfterMs(hedge: NonNullable<ClientOptions['hedge']>): number {
  assertKnown(hedge ?? {}, { afterMs: true }, 'hedge.');
  return whole(hedge?.afterMs, 0, 'hedge.afterMs', LONGEST_TIMER_MS);
}

function deadlineHeader(name: string | false | undefined): string | undefined {
  if (name === false) return undefined;
  const header = name ?? 'request-timeout-ms';
  if (!isToken(header)) throw new TypeError('deadlineHeader must be a header name or false');
  return header.toLowerCase();
}
