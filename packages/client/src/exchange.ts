import type { Dispatcher } from 'undici';
import type { ResponseHeaders } from './headers.ts';

type Controller = Dispatcher.DispatchController;

/** A complete response, still encoded. */
export interface Answer {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly body: Buffer;
  /** The body of an error was longer than is kept of it. */
  readonly truncated: boolean;
  /** The receiver has it. */
  readonly received: boolean;
}

/** No complete response. */
export interface Failure {
  readonly kind: 'timeout' | 'aborted' | 'too_large' | 'error';
  readonly error: Error;
  /** With `error`: the request was on its way, so that it may have been done. */
  readonly begun?: boolean;
  /** With `timeout`: what was over was the time of the whole call. */
  readonly byDeadline?: boolean;
}

export type Outcome = Answer | Failure;

export function isAnswer(outcome: Outcome): outcome is Answer {
  return 'status' in outcome;
}

/** What bounds one exchange. */
export interface ExchangeLimits {
  readonly timeoutMs: number;
  /** Whether that is all that is left of the call. */
  readonly untilDeadline: boolean;
  readonly maxResponseBytes: number;
  readonly maxErrorBytes: number;
  readonly signal: AbortSignal | undefined;
  /** Who gets the response as it arrives instead of having it collected; asked when its headers are there. */
  readonly receiver?: (
    status: number,
    headers: ResponseHeaders,
  ) => Dispatcher.DispatchHandler | undefined;
}

/**
 * Sends one request and collects the response, on undici's dispatch port: `undici.request` would wrap every body into
 * a stream only for us to unwrap it. Never rejects; ends as soon as the time is up or the signal aborts, even while an
 * interceptor has not passed the request on yet.
 */
export function exchange(
  dispatch: Dispatcher.Dispatch,
  options: Dispatcher.DispatchOptions,
  limits: ExchangeLimits,
): Promise<Outcome> {
  return new Promise((resolve) => {
    const { signal, timeoutMs, untilDeadline } = limits;
    const collector = new Collector(limits, (outcome) => {
      clearTimeout(timer);
      signal?.removeEventListener('abort', onAbort);
      resolve(outcome);
    });
    const onAbort = (): void => collector.stop({ kind: 'aborted', error: asError(signal?.reason) });
    const timer = setTimeout(
      () =>
        collector.stop({
          kind: 'timeout',
          error: new Error(`no response in ${timeoutMs} ms`),
          byDeadline: untilDeadline,
        }),
      timeoutMs,
    );
    if (signal?.aborted) {
      onAbort();
      return;
    }
    signal?.addEventListener('abort', onAbort, { once: true });
    const failed = (error: unknown): void =>
      collector.stop({ kind: 'error', error: asError(error) });
    try {
      const sent: unknown = dispatch(options, collector);
      // An interceptor that is an async function: nobody else hears of its failure, and that would end the process.
      if (sent instanceof Promise) sent.catch(failed);
    } catch (error) {
      failed(error);
    }
  });
}

class Collector implements Dispatcher.DispatchHandler {
  readonly #limits: ExchangeLimits;
  readonly #settle: (outcome: Outcome) => void;
  #stopped: Error | undefined;
  #settled = false;
  #controller: Controller | undefined;
  #status = 0;
  #headers: ResponseHeaders = {};
  #chunks: Buffer[] = [];
  #bytes = 0;
  #receiver: Dispatcher.DispatchHandler | undefined;

  constructor(limits: ExchangeLimits, settle: (outcome: Outcome) => void) {
    this.#limits = limits;
    this.#settle = settle;
  }

  /** Ends the exchange from outside. */
  stop(failure: Failure): void {
    if (this.#settled) return;
    this.#end(failure);
    this.#stopped = failure.error;
    this.#controller?.abort(failure.error);
  }

  /** Called again when an interceptor sends the request once more. */
  onRequestStart(controller: Controller): void {
    if (this.#stopped) {
      controller.abort(this.#stopped);
      return;
    }
    this.#controller = controller;
    this.#chunks = [];
    this.#bytes = 0;
  }

  onRequestUpgrade(controller: Controller): void {
    controller.abort(new Error('the server changed the protocol'));
  }

  onResponseStart(
    controller: Controller,
    status: number,
    headers: ResponseHeaders,
    statusText?: string,
  ): void {
    if (status < 200 || this.#settled) return;
    this.#status = status;
    this.#headers = headers;
    this.#receiver = this.#limits.receiver?.(status, headers);
    if (!this.#receiver) return;
    this.#end(this.#answer(false));
    this.#receiver.onRequestStart?.(controller, null);
    this.#receiver.onResponseStart?.(controller, status, headers, statusText);
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    if (this.#receiver) this.#receiver.onResponseData?.(controller, chunk);
    if (this.#settled) return;
    this.#bytes += chunk.length;
    const { maxResponseBytes, maxErrorBytes } = this.#limits;
    if (this.#status < 400) {
      if (this.#bytes > maxResponseBytes) {
        const error = new Error(`the response body is larger than ${maxResponseBytes} bytes`);
        this.stop({ kind: 'too_large', error });
        return;
      }
      this.#chunks.push(chunk);
      return;
    }
    this.#chunks.push(chunk);
    if (this.#bytes <= maxErrorBytes) return;
    this.#end(this.#answer(true));
    this.#controller?.abort(new Error('enough of an error was read'));
  }

  onResponseEnd(controller: Controller, trailers: ResponseHeaders): void {
    this.#receiver?.onResponseEnd?.(controller, trailers);
    this.#end(this.#answer(false));
  }

  onResponseError(controller: Controller, reason: Error): void {
    // What an interceptor passes on may be anything that something was rejected with.
    const error = asError(reason);
    this.#receiver?.onResponseError?.(controller, error);
    // The egress agent has cut it off: its head, and the beginning of its body, say more than that.
    if (this.#status >= 400 && isTooLarge(error)) this.#end(this.#answer(true));
    else this.#end({ kind: 'error', error, begun: this.#controller !== undefined });
  }

  #answer(truncated: boolean): Answer {
    const [first] = this.#chunks;
    const whole = this.#chunks.length === 1 && first ? first : Buffer.concat(this.#chunks);
    const body = truncated ? whole.subarray(0, this.#limits.maxErrorBytes) : whole;
    const received = this.#receiver !== undefined;
    return { status: this.#status, headers: this.#headers, body, truncated, received };
  }

  #end(outcome: Outcome): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#chunks = [];
    this.#settle(outcome);
  }
}

/** Whether the egress agent refused to take more of a body. */
export function isTooLarge(error: Error): boolean {
  return (error as { code?: unknown }).code === 'ERR_EGRESS_RESPONSE_TOO_LARGE';
}

/** By its shape: in a test runner with realms of its own, Node.js's errors are no instances of `Error`. */
function asError(reason: unknown): Error {
  const isError = typeof reason === 'object' && reason !== null && 'message' in reason;
  return isError ? (reason as Error) : new Error('aborted', { cause: reason });
}
