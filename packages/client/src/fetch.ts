import { randomUUID } from 'node:crypto';
import { type Deadline, deadline } from '@countersign/retry';
import { Dispatcher, fetch as undiciFetch } from 'undici';
import { BoundedHandler, boundedResponse } from './bounded-response.ts';
import { ClientError } from './errors.ts';
import { interrupted } from './failure.ts';

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
  /** What is left for all requests of one fetch. */
  readonly deadlineMs: number;
}

/** What a fetch is bound to. */
export interface FetchPolicy {
  readonly origin: string;
  /** How many redirects are followed; `init.redirect` can only ask for less. */
  readonly maxRedirects: number;
  readonly maxResponseBytes: number;
  /** From the body of the request to the headers of the last response. */
  readonly deadlineMs: number;
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
    typeof input === 'string' || input instanceof URL ? locate(input, policy.origin) : input,
    init,
  );
  const { url, method, headers, redirect, signal } = request;
  const limit = deadline(policy.deadlineMs, signal);
  try {
    const body = request.body === null ? undefined : await bytesOf(request.body, limit, signal);
    const response = await undiciFetch(url, {
      method,
      headers: [...headers],
      redirect: redirect === 'follow' && policy.maxRedirects === 0 ? 'manual' : redirect,
      signal,
      ...(body === undefined ? {} : { body }),
      dispatcher: new PolicedDispatcher(policy, send, { body, signal, limit }),
    });
    // undici's Response and the built-in one are the same thing from two packages.
    return boundedResponse(response, policy.maxResponseBytes) as unknown as Response;
  } finally {
    limit.dispose();
  }
}

/** The errors of `URL` and `Request` repeat what they were given, credentials and all. */
function locate(input: string | URL, origin: string): URL {
  if (!URL.canParse(String(input), origin)) throw new TypeError('this is not a URL');
  const url = new URL(input, origin);
  if (url.username || url.password) throw new TypeError('a URL must not carry credentials');
  return url;
}

/** Reads a body for as long as the call may take; fails as fetch does, and lets go of the stream. */
async function bytesOf(
  stream: ReadableStream<Uint8Array<ArrayBuffer>>,
  limit: Deadline,
  signal: AbortSignal,
): Promise<Buffer<ArrayBuffer>> {
  const stoppable = stream.pipeThrough(new TransformStream(), { signal: limit.signal });
  try {
    return Buffer.from(await new Response(stoppable).arrayBuffer());
  } catch (error) {
    if (signal.aborted || !limit.signal.aborted) throw error;
    throw new TypeError('fetch failed', { cause: interrupted(error, signal, 0) });
  }
}

/** What all requests of one fetch share. */
interface Fetching {
  readonly body: Uint8Array | undefined;
  readonly signal: AbortSignal;
  readonly limit: Deadline;
}

class PolicedDispatcher extends Dispatcher {
  readonly #policy: FetchPolicy;
  readonly #send: SendFetch;
  readonly #fetching: Fetching;
  readonly #newKey = randomUUID();
  #requests = 0;

  constructor(policy: FetchPolicy, send: SendFetch, fetching: Fetching) {
    super();
    this.#policy = policy;
    this.#send = send;
    this.#fetching = fetching;
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
    const { body, signal, limit } = this.#fetching;
    const deadlineMs = Math.ceil(limit.remaining());
    if (deadlineMs === 0) {
      fail(interrupted(limit.signal.reason, signal, 0));
      return false;
    }
    const request: FetchRequest = {
      method: options.method,
      path: options.path,
      headers: options.headers as Record<string, string>,
      // fetch drops the body when a redirect turns a POST into a GET.
      body: options.body == null ? undefined : body,
      signal,
      newKey: this.#newKey,
      deadlineMs,
    };
    this.#send(request, new BoundedHandler(handler, maxResponseBytes)).catch(fail);
    return true;
  }
}
