import type { OptionNames } from '@countersign/options';
import { Agent, DecoratorHandler, type Dispatcher, request } from 'undici';
import { bound } from './bound.ts';
import type { TlsCredential } from './client-auth.ts';
import { OAuthError, type OAuthErrorCode } from './errors.ts';
import { inTime } from './in-time.ts';

/** How requests to the authorization server travel. */
export interface TransportOptions {
  /** Default: an agent of this package that follows no redirects. For a private CA, a proxy, an egress policy. */
  readonly dispatcher?: Dispatcher;
  /** For one attempt, connecting included; default 5,000. What works once is waited for longer once it was sent, until `timeoutMs`. */
  readonly attemptTimeoutMs?: number;
  /** For a response's body; default 1 MiB. */
  readonly maxResponseBytes?: number;
}

export const transportOptions: OptionNames<TransportOptions> = {
  dispatcher: true,
  attemptTimeoutMs: true,
  maxResponseBytes: true,
};

/** What stands in for `fetch`. */
export type Transport = (
  url: string,
  init: {
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body?: URLSearchParams | undefined;
    readonly signal?: AbortSignal | undefined;
    /** Once the request goes out, only `signal` ends the wait. */
    readonly patient?: boolean | undefined;
  },
) => Promise<Response>;

let shared: Agent | undefined;

function sharedAgent(): Agent {
  shared ??= new Agent();
  return shared;
}

export function transport(options: TransportOptions, tls?: TlsCredential): Transport {
  const attemptTimeoutMs = bound(options, 'attemptTimeoutMs', 5000);
  const maxResponseBytes = bound(options, 'maxResponseBytes', 1_048_576);
  if (options.dispatcher !== undefined && typeof options.dispatcher?.compose !== 'function') {
    throw new TypeError('dispatcher must be one of undici');
  }
  // A certificate belongs to connections: clients with different ones cannot share them.
  const own = tls && new Agent({ connect: { ...tls, minVersion: 'TLSv1.2' } });
  return async (url, init) => {
    const dispatcher = options.dispatcher ?? own ?? sharedAgent();
    const attempt = new AbortController();
    const timer = setTimeout(() => attempt.abort(), attemptTimeoutMs).unref();
    const signal = init.signal ? AbortSignal.any([init.signal, attempt.signal]) : attempt.signal;
    let sent = false;
    const watched = dispatcher.compose(
      onSending(() => {
        sent = true;
        if (init.patient) clearTimeout(timer);
      }),
    );
    const failure = (code: OAuthErrorCode, message: string, cause?: unknown): OAuthError => {
      const error = new OAuthError(code, message, cause ? { cause } : {});
      if (!sent) unsent.add(error);
      return error;
    };
    try {
      const answer = request(url, {
        dispatcher: watched,
        method: init.method as Dispatcher.HttpMethod,
        headers: init.headers,
        body: init.body?.toString() ?? null,
        signal,
        ...AS_IT_IS,
      });
      // Undici itself does not give up while it connects.
      const response = await inTime(answer, signal, 'ERR_OAUTH_TIMEOUT', 'the connection');
      const text = await readBounded(response.body, maxResponseBytes);
      return toResponse(response.statusCode, response.headers, text);
    } catch (cause) {
      if (signal.aborted) {
        throw failure('ERR_OAUTH_TIMEOUT', 'the authorization server did not answer in time');
      }
      if (cause instanceof OAuthError) throw cause;
      // Undici's parser keeps what it could not read, its error for a status what was answered: that may be a token.
      for (const part of ['data', 'body']) Reflect.deleteProperty(cause as Error, part);
      const { code } = cause as NodeJS.ErrnoException;
      const message = `the authorization server could not be reached${code ? ` (${code})` : ''}`;
      throw failure('ERR_OAUTH_NETWORK', message, cause);
    } finally {
      clearTimeout(timer);
    }
  };
}

/** Tells when a request begins to go out, on a connection that is there. */
function onSending(begins: () => void): Dispatcher.DispatcherComposeInterceptor {
  return (dispatch) => (options, handler) => {
    const watched: Dispatcher.DispatchHandler = new DecoratorHandler(handler);
    watched.onRequestStart = (controller, context) => {
      begins();
      handler.onRequestStart?.(controller, context);
    };
    return dispatch(options, watched);
  };
}

/** Undici's own interceptors do neither then: what is sent here is for this URL alone, and who sends it decides about repeating. */
const AS_IT_IS = { maxRedirections: 0, retryOptions: { maxRetries: 0 } };

async function readBounded(body: AsyncIterable<Buffer>, maxBytes: number): Promise<Buffer> {
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of body) {
    size += chunk.length;
    // Leaving the loop destroys the body, and with it the connection.
    if (size > maxBytes) {
      const message = `the authorization server sent more than ${maxBytes} bytes`;
      throw new OAuthError('ERR_OAUTH_RESPONSE_TOO_LARGE', message);
    }
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}

function toResponse(
  status: number,
  fields: Readonly<Record<string, string | string[] | undefined>>,
  body: Buffer,
): Response {
  const headers = new Headers();
  for (const [name, value] of Object.entries(fields)) {
    for (const one of [value ?? []].flat()) headers.append(name, one);
  }
  if (status < 200 || status > 599) {
    throw new OAuthError('ERR_OAUTH_RESPONSE', `the response has status ${status}`, { status });
  }
  const bodiless = status === 204 || status === 205 || status === 304;
  return new Response(bodiless ? null : new Uint8Array(body), { status, headers });
}

const unsent = new WeakSet<OAuthError>();

/** Whether a failure came before the request began to go out: nothing of it can have reached the server. */
export function neverSent(error: OAuthError): boolean {
  return unsent.has(error);
}
