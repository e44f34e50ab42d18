import { randomUUID } from 'node:crypto';
import { Dispatcher, fetch as undiciFetch } from 'undici';
import { BoundedHandler, boundedResponse } from './bounded-response.ts';
import { ClientError } from './errors.ts';

type Handler = Dispatcher.DispatchHandler;

/** One request of a fetch: the first, or a redirect that fetch follows. */
export interface FetchRequest {
  readonly method: string;
  readonly path: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly body: Uint8Array | undefined;
  readonly signal: AbortSignal;
  /** For all requests of one fetch: a POST that is redirected is still the same call. */
  readonly newKey: string;
}

/** What a fetch is bound to. */
export interface FetchPolicy {
  readonly origin: string;
  /** How many redirects are followed; `init.redirect` can only ask for less. */
  readonly maxRedirects: number;
  readonly maxResponseBytes: number;
}

/** Makes the call and gives the response to the handler as it arrives. @throws what the call ends with otherwise. */
export type SendFetch = (request: FetchRequest, handler: Handler) => Promise<void>;

/**
 * undici's own `fetch`, sent by the client's rules. What is fetched is read with the built-in `Request`, so that the
 * built-in `FormData`, `Blob` and `Request` work; the body is held in memory, so that it can be sent again.
 */
export async function policedFetch(
  policy: FetchPolicy,
  send: SendFetch,
  input: string | URL | Request,
  init: RequestInit | undefined,
): Promise<Response> {
  const request = new Request(
    typeof input === 'string' ? new URL(input, policy.origin) : input,
    init,
  );
  const body = request.body === null ? undefined : Buffer.from(await request.arrayBuffer());
  const { url, method, headers, redirect, signal } = request;
  const response = await undiciFetch(url, {
    method,
    headers: [...headers],
    redirect: redirect === 'follow' && policy.maxRedirects === 0 ? 'manual' : redirect,
    signal,
    ...(body === undefined ? {} : { body }),
    dispatcher: new PolicedDispatcher(policy, send, body, signal),
  });
  // undici's Response and the built-in one are the same thing from two packages.
  return boundedResponse(response, policy.maxResponseBytes) as unknown as Response;
}

class PolicedDispatcher extends Dispatcher {
  readonly #policy: FetchPolicy;
  readonly #send: SendFetch;
  readonly #body: Uint8Array | undefined;
  readonly #signal: AbortSignal;
  readonly #newKey = randomUUID();
  #requests = 0;

  constructor(
    policy: FetchPolicy,
    send: SendFetch,
    body: Uint8Array | undefined,
    signal: AbortSignal,
  ) {
    super();
    this.#policy = policy;
    this.#send = send;
    this.#body = body;
    this.#signal = signal;
  }

  override dispatch(options: Dispatcher.DispatchOptions, handler: Handler): boolean {
    const fail = (error: Error): void =>
      handler.onResponseError?.(null as unknown as Dispatcher.DispatchController, error);
    const { origin, maxRedirects, maxResponseBytes } = this.#policy;
    if (String(options.origin) !== origin) {
      const message = `this client calls ${origin} and nothing else`;
      fail(new ClientError('ERR_CLIENT_NOT_SENT', message, { attempts: 0, stopped: 'final' }));
      return false;
    }
    this.#requests += 1;
    if (maxRedirects > 0 && this.#requests > maxRedirects + 1) {
      fail(new ClientError('ERR_CLIENT_REDIRECT', 'there were too many redirects'));
      return false;
    }
    const request: FetchRequest = {
      method: options.method,
      path: options.path,
      headers: options.headers as Record<string, string>,
      // fetch drops the body when a redirect turns a POST into a GET.
      body: options.body == null ? undefined : this.#body,
      signal: this.#signal,
      newKey: this.#newKey,
    };
    this.#send(request, new BoundedHandler(handler, maxResponseBytes)).catch(fail);
    return true;
  }
}
