import { type Dispatcher, Response } from 'undici';
import { ClientError } from './errors.ts';
import { isTooLarge } from './exchange.ts';
import type { ResponseHeaders } from './headers.ts';

type Handler = Dispatcher.DispatchHandler;
type Controller = Dispatcher.DispatchController;

/** Passes everything on, and ends the response when its body has more bytes on the wire than it may have. */
export class BoundedHandler implements Handler {
  readonly #inner: Handler;
  readonly #maxBytes: number;
  #status = 0;
  #bytes = 0;

  constructor(inner: Handler, maxBytes: number) {
    this.#inner = inner;
    this.#maxBytes = maxBytes;
  }

  onRequestStart(controller: Controller, context: unknown): void {
    this.#bytes = 0;
    this.#inner.onRequestStart?.(controller, context);
  }

  onResponseStart(...args: Parameters<NonNullable<Handler['onResponseStart']>>): void {
    [, this.#status] = args;
    this.#inner.onResponseStart?.(...args);
  }

  onResponseData(controller: Controller, chunk: Buffer): void {
    this.#bytes += chunk.length;
    if (this.#bytes <= this.#maxBytes) this.#inner.onResponseData?.(controller, chunk);
    else controller.abort(tooLarge(this.#maxBytes, this.#status));
  }

  onResponseEnd(controller: Controller, trailers: ResponseHeaders): void {
    // A dispatcher that had all of it already, such as undici's MockAgent, does not heed the abort.
    if (this.#bytes > this.#maxBytes) {
      this.#inner.onResponseError?.(controller, tooLarge(this.#maxBytes, this.#status));
    } else this.#inner.onResponseEnd?.(controller, trailers);
  }

  onResponseError(controller: Controller, error: Error): void {
    // The egress agent counts, too, and is nearer to the wire.
    const said = isTooLarge(error) ? tooLarge(this.#maxBytes, this.#status, error) : error;
    this.#inner.onResponseError?.(controller, said);
  }
}

/** The same response, whose body fails when it is larger after decompression than it may be. */
export function boundedResponse(response: Response, maxBytes: number): Response {
  const { body, status, headers } = response;
  // What is not coded is as large as it was on the wire.
  if (body === null || !headers.has('content-encoding')) return response;
  let bytes = 0;
  const count = new TransformStream<Uint8Array, Uint8Array>({
    transform(chunk, controller) {
      bytes += chunk.length;
      if (bytes > maxBytes) controller.error(tooLarge(maxBytes, status));
      else controller.enqueue(chunk);
    },
  });
  return likened(new Response(body.pipeThrough(count), { headers }), response);
}

/** What the constructor cannot be given, or refuses: servers answer 999, and have reason phrases in UTF-8. */
function likened(made: Response, original: Response): Response {
  const { url, redirected, type, status, statusText, ok } = original;
  const clone = (): Response => likened(Response.prototype.clone.call(made), original);
  return Object.defineProperties(made, {
    url: { value: url },
    redirected: { value: redirected },
    type: { value: type },
    status: { value: status },
    statusText: { value: statusText },
    ok: { value: ok },
    clone: { value: clone },
  });
}

function tooLarge(maxBytes: number, status: number, cause?: Error): ClientError {
  return new ClientError(
    'ERR_CLIENT_RESPONSE_TOO_LARGE',
    `the response body is larger than ${maxBytes} bytes`,
    { status },
    cause && { cause },
  );
}
