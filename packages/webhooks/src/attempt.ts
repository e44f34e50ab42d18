import { parseRetryAfter } from '@countersign/retry';
import type { PreparedTarget, WebhookDispatcher } from './endpoint.ts';
import type { PreparedEvent } from './event.ts';
import { attemptChannel } from './events.ts';
import { exchange } from './exchange.ts';
import type { AsyncSigner, Signer } from './signer.ts';

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
  /** For everything from the connection to the response's last byte. */
  readonly attemptTimeoutMs: number;
  readonly maxResponseBytes: number;
  readonly excerptBytes: number;
  readonly isPermanent: (status: number) => boolean;
  readonly now: () => number;
  readonly signal?: AbortSignal;
}

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
  const signed = await signer.sign({ id, body, timestampMs: startedAtMs });
  let found: Omit<AttemptOutcome, 'attempt' | 'startedAtMs' | 'durationMs'>;
  try {
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
          ...signed,
        },
        body,
      },
      { attemptTimeoutMs, maxResponseBytes, excerptBytes, ...(signal && { signal }) },
    );
    found = judge(status, retryAfter, options, now());
    const text = printable(excerpt);
    if (text) found = { ...found, excerpt: text };
  } catch (error) {
    found = signal?.aborted ? { verdict: 'aborted' } : failure(error);
  }
  const durationMs = Math.round(performance.now() - startedAt);
  const outcome: AttemptOutcome = { attempt, startedAtMs, durationMs, ...found };
  if (attemptChannel.hasSubscribers) {
    attemptChannel.publish({ ...outcome, eventId: id, endpoint: target.label });
  }
  return outcome;
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
