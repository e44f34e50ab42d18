import type { Dispatcher } from 'undici';
import { EgressError } from './errors.ts';

type Handler = Dispatcher.DispatchHandler;
type Controller = Dispatcher.DispatchController;

/** Passes everything on, and ends the response when its body has more bytes than it may have. */
export class CappedHandler implements Handler {
  readonly #inner: Handler;
  readonly #maxBytes: number;
  #bytes = 0;

  constructor(inner: Handler, maxBytes: number) {
    this.#inner = inner;
    this.#maxBytes = maxBytes;
  }

  onRequestStart(controller: Controller, context: unknown): void {
    this.#bytes = 0;
    this.#inner.onRequestStart?.(controller, context);
  }

  onRequestUpgrade(...args: Parameters<NonNullable<Handler['onRequestUpgrade']>>): void {
    this.#inner.onRequestUpgrade?.(...args);
  }

  onResponseStart(...args: Parameters<NonNullable<Handler['onResponseStart']>>): void {
    this.#inner.onResponseStart?.(...args);
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes > this.#maxBytes) {
      controller.abort(
        new EgressError(
          'ERR_EGRESS_RESPONSE_TOO_LARGE',
          `the response body is larger than ${this.#maxBytes} bytes`,
        ),
      );
      return;
    }
    this.#inner.onResponseData?.(controller, chunk);
  }

  onResponseEnd(...args: Parameters<NonNullable<Handler['onResponseEnd']>>): void {
    this.#inner.onResponseEnd?.(...args);
  }

  onResponseError(...args: Parameters<NonNullable<Handler['onResponseError']>>): void {
    this.#inner.onResponseError?.(...args);
  }

  onBodySent(chunk: Buffer): void {
    this.#inner.onBodySent?.(chunk);
  }

  onRequestSent(): void {
    this.#inner.onRequestSent?.();
  }
}
