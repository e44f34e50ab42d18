import { parseRetryAfter } from '@countersign/retry';
import type { PreparedTarget, WebhookDispatcher } from './endpoint.ts';
import type { PreparedEvent } from './event.ts';
import { attemptChannel } from './events.ts';
import { attemptTimeout, exchange } from './exchange.ts';
import type { AsyncSigner, SignedHeaders, Signer } from './signer.ts';

/** What one attempt came to. */
export interface AttemptOutcome {
  /** From 1. */
  readonly attempt: number;
  /**
   * `delivered`: a 2xx, read to its end. `failed`: worth another attempt. `rejected`: it would fail again in the same
   * way. `gone`: 410, the endpoint wants no more events. `aborted`: the sender was told to stop.
   */
  readonly verdict: 'delivered' | 'failed' | 'rejected' | 'gone' | 'aborted';
  readonly startedAtMs: number;
  readonly durationMs: number;
  /** Absent when there was no response. */
  readonly status?: number;
  /** The code of what went wrong on the way, such as `ECONNREFUSED` or `ERR_EGRESS_…`. */
  readonly error?: string;
  /** How long the endpoint asked to be left alone (`Retry-After`), in milliseconds. */
  readonly retryAfterMs?: number;
  /** The beginning of the response, as printable text. */
  readonly excerpt?: string;
}

export interface AttemptOptions {
  readonly egress: WebhookDispatcher;
  readonly signer: Signer | AsyncSigner;
  /** For everything from asking for the secrets to the response's last byte. */
  readonly attemptTimeoutMs: number;
  readonly maxResponseBytes: number;
  readonly excerptBytes: number;
  readonly isPermanent: (status: number) => boolean;
  readonly now: () => number;
  readonly signal?: AbortSignal;
}

type Found = Omit<AttemptOutcome, 'attempt' | 'startedAtMs' | 'durationMs'>;

/** Makes one attempt, freshly signed. Rejects only when the event cannot be signed. */
export async function makeAttempt(
  event: PreparedEvent,
  target: PreparedTarget,
  attempt: number,
  options: AttemptOptions,
): Promise<AttemptOutcome> {
  const { egress, signer, attemptTimeoutMs, maxResponseBytes, excerptBytes, now, signal } = options;
  const startedAtMs = now();
  const startedAt = performance.now();
  const { id, body, contentType } = event;
  let found: Found;
  let signed: SignedHeaders | undefined;
  try {
    signed = await within(signer.sign({ id, body, timestampMs: startedAtMs }), options);
    const { status, retryAfter, excerpt } = await exchange(
      egress,
      {
        origin: target.origin,
        path: target.path,
        method: 'POST',
        headers: {
          'user-agent': 'countersign-webhooks',
          ...target.headers,
          'content-type': contentType,
          ...lowerCased(signed),
        },
        body,
      },
      {
        timeLimitMs: attemptTimeoutMs - (performance.now() - startedAt),
        attemptTimeoutMs,
        maxResponseBytes,
        excerptBytes,
        ...(signal && { signal }),
      },
    );
    found = judge(status, retryAfter, options, now());
    const text = printable(excerpt);
    if (text) found = { ...found, excerpt: text };
  } catch (error) {
    found = signal?.aborted ? { verdict: 'aborted' } : failure(error);
    // That it cannot be signed is not the endpoint's failure; that it took too long is one like any other.
    const isTimeout = found.error === 'ERR_WEBHOOKS_ATTEMPT_TIMEOUT';
    if (!signed && !isTimeout && found.verdict !== 'aborted') throw error;
  }
  const durationMs = Math.round(performance.now() - startedAt);
  const outcome: AttemptOutcome = { attempt, startedAtMs, durationMs, ...found };
  if (attemptChannel.hasSubscribers) {
    attemptChannel.publish({ ...outcome, eventId: id, endpoint: target.label });
  }
  return outcome;
}

/** Whoever keeps the secrets may hang as well as the endpoint. */
async function within<T>(
  work: T | Promise<T>,
  { attemptTimeoutMs, signal }: AttemptOptions,
): Promise<T> {
  if (!(work instanceof Promise)) return work;
  const over = Promise.withResolvers<never>();
  const aborted = (): void => over.reject(new DOMException('aborted', 'AbortError'));
  const timer = setTimeout(() => over.reject(attemptTimeout(attemptTimeoutMs)), attemptTimeoutMs);
  signal?.addEventListener('abort', aborted, { once: true });
  if (signal?.aborted) aborted();
  try {
    return await Promise.race([work, over.promise]);
  } finally {
    clearTimeout(timer);
    signal?.removeEventListener('abort', aborted);
  }
}

/** A signer of the user's own may write names as it likes; two spellings of one name would both be sent. */
function lowerCased(headers: SignedHeaders): Record<string, string> {
  const entries = Object.entries(headers);
  return Object.fromEntries(entries.map(([name, value]) => [name.toLowerCase(), value]));
}

function judge(
  status: number,
  retryAfter: string | undefined,
  { isPermanent }: AttemptOptions,
  nowMs: number,
): { verdict: AttemptOutcome['verdict']; status: number; retryAfterMs?: number } {
  if (status >= 200 && status < 300) return { verdict: 'delivered', status };
  if (status === 410) return { verdict: 'gone', status };
  if (isPermanent(status)) return { verdict: 'rejected', status };
  const retryAfterMs = parseRetryAfter(retryAfter, nowMs);
  return { verdict: 'failed', status, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}

/** Control characters could forge lines of a log, or move a terminal's cursor. */
function printable(bytes: Uint8Array): string {
  if (bytes.byteLength === 0) return '';
  return Buffer.from(bytes)
    .toString('utf8')
    .replace(/\p{Cc}+/gu, ' ')
    .trim();
}

function failure(error: unknown): { verdict: 'failed' | 'rejected'; error: string } {
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    const { code } = cause as { code?: unknown };
    if (typeof code !== 'string') continue;
    return { verdict: DETERMINISTIC.has(code) ? 'rejected' : 'failed', error: code };
  }
  return { verdict: 'failed', error: error instanceof Error ? error.name : 'Error' };
}

/** What the next attempt would meet again: our own rules on addresses and on TLS versions. */
const DETERMINISTIC = new Set([
  'ERR_EGRESS_DENIED',
  'ERR_SSL_NO_PROTOCOLS_AVAILABLE',
  'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION',
  'ERR_SSL_UNSUPPORTED_PROTOCOL',
]);
