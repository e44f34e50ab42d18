import type { WebhookDispatcher } from './endpoint.ts';
import { WebhookError } from './errors.ts';

export interface ExchangeLimits {
  /** For everything from the connection to the response's last byte: what is left of `attemptTimeoutMs`. */
  readonly timeLimitMs: number;
  readonly attemptTimeoutMs: number;
  readonly maxResponseBytes: number;
  readonly excerptBytes: number;
  readonly signal?: AbortSignal;
}

export interface Exchanged {
  readonly status: number;
  readonly retryAfter: string | undefined;
  /** The beginning of the body. */
  readonly excerpt: Uint8Array;
}

export function attemptTimeout(attemptTimeoutMs: number): WebhookError {
  return new WebhookError(
    'ERR_WEBHOOKS_ATTEMPT_TIMEOUT',
    `the attempt took longer than ${attemptTimeoutMs} ms`,
  );
}

/**
 * One request and its whole response: a peer that never ends its response has not confirmed anything. Of a response
 * that is longer than the cap the rest is not read. On `dispatch` itself, because streams would cost as much as the
 * exchange.
 */
export function exchange(
  dispatcher: WebhookDispatcher,
  request: Parameters<WebhookDispatcher['dispatch']>[0],
  { timeLimitMs, attemptTimeoutMs, maxResponseBytes, excerptBytes, signal }: ExchangeLimits,
): Promise<Exchanged> {
  return new Promise((resolve, reject) => {
    let controller: { abort(reason: Error): void } | undefined;
    let over: Error | undefined;
    let status = 0;
    let retryAfter: string | undefined;
    let read = 0;
    const kept: Uint8Array[] = [];

    const end = (): void => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', aborted);
    };
    /** Nothing that comes later matters; a request that has not begun yet is aborted when it does. */
    const stop = (reason: Error): void => {
      end();
      over = reason;
      reject(reason);
      controller?.abort(reason);
    };
    const aborted = (): void => stop(new DOMException('aborted', 'AbortError'));
    const done = (): void => {
      end();
      resolve({
        status,
        retryAfter,
        excerpt: kept.length === 1 ? (kept[0] as Uint8Array) : Buffer.concat(kept),
      });
    };
    const timer = setTimeout(() => stop(attemptTimeout(attemptTimeoutMs)), timeLimitMs);
    if (signal?.aborted) {
      aborted();
      return;
    }
    signal?.addEventListener('abort', aborted, { once: true });

    try {
      dispatcher.dispatch(request, {
        onRequestStart(started) {
          controller = started;
          if (over) started.abort(over);
        },
        onResponseStart(_, statusCode, headers) {
          status = statusCode;
          const value = headers['retry-after'];
          retryAfter = typeof value === 'string' ? value : undefined;
        },
        onResponseData(current, chunk) {
          // The chunk belongs to the parser: what is kept must be a copy.
          if (read < excerptBytes) kept.push(Buffer.from(chunk.subarray(0, excerptBytes - read)));
          read += chunk.byteLength;
          if (read <= maxResponseBytes) return;
          done();
          // Who sends this much is not worth keeping the connection for.
          over = new Error('the response is longer than maxResponseBytes');
          current.abort(over);
        },
        onResponseEnd: done,
        onResponseError(_, error) {
          end();
          reject(error);
        },
      });
    } catch (error) {
      end();
      reject(error as Error);
    }
  });
}
