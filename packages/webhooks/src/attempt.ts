import { deadline, parseRetryAfter } from '@countersign/retry';
import type { PreparedTarget, WebhookDispatcher } from './endpoint.ts';
import type { PreparedEvent } from './event.ts';
import { attemptChannel } from './events.ts';
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
  const { egress, signer, attemptTimeoutMs, now, signal } = options;
  const startedAtMs = now();
  const startedAt = performance.now();
  const { id, body, contentType } = event;
  const signed = await signer.sign({ id, body, timestampMs: startedAtMs });
  const limit = deadline(attemptTimeoutMs, signal);
  let found: Omit<AttemptOutcome, 'attempt' | 'startedAtMs' | 'durationMs'>;
  try {
    const response = await egress.request({
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
      signal: limit.signal,
    });
    const excerpt = await readExcerpt(response.body, options);
    found = judge(response.statusCode, response.headers['retry-after'], options, now());
    if (excerpt) found = { ...found, excerpt };
  } catch (error) {
    found = signal?.aborted ? { verdict: 'aborted' } : failure(error);
  } finally {
    limit.dispose();
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
  retryAfter: string | string[] | undefined,
  { isPermanent }: AttemptOptions,
  nowMs: number,
): { verdict: AttemptOutcome['verdict']; status: number; retryAfterMs?: number } {
  if (status >= 200 && status < 300) return { verdict: 'delivered', status };
  if (status === 410) return { verdict: 'gone', status };
  if (isPermanent(status)) return { verdict: 'rejected', status };
  const retryAfterMs = parseRetryAfter(
    typeof retryAfter === 'string' ? retryAfter : undefined,
    nowMs,
  );
  return { verdict: 'failed', status, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}

/** Reads the whole response, up to the cap: a peer that never ends its response has not confirmed anything. */
async function readExcerpt(
  body: AsyncIterable<Uint8Array>,
  { maxResponseBytes, excerptBytes }: AttemptOptions,
): Promise<string> {
  const kept: Uint8Array[] = [];
  let read = 0;
  for await (const chunk of body) {
    if (read < excerptBytes) kept.push(chunk.subarray(0, excerptBytes - read));
    read += chunk.byteLength;
    // Leaving the loop closes the connection: who sends this much is not worth keeping alive.
    if (read > maxResponseBytes) break;
  }
  // Control characters could forge lines of a log, or move a terminal's cursor.
  return Buffer.concat(kept)
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
