import { Agent, type Dispatcher, request } from 'undici';
import { bound } from './bound.ts';
import type { TlsCredential } from './client-auth.ts';
import { OAuthError } from './errors.ts';

/** How requests to the authorization server travel. */
export interface TransportOptions {
  /** Default: an agent of this package that follows no redirects. For a private CA, a proxy, an egress policy. */
  readonly dispatcher?: Dispatcher;
  /** For one attempt, connecting included; default 5,000. */
  readonly attemptTimeoutMs?: number;
  /** For a response's body; default 1 MiB. */
  readonly maxResponseBytes?: number;
}

/** What stands in for `fetch`. */
export type Transport = (
  url: string,
  init: {
    readonly method: string;
    readonly headers: Readonly<Record<string, string>>;
    readonly body?: URLSearchParams | undefined;
    readonly signal?: AbortSignal | undefined;
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
  // A certificate belongs to connections: clients with different ones cannot share them.
  const own = tls && new Agent({ connect: { ...tls, minVersion: 'TLSv1.2' } });
  return async (url, init) => {
    const dispatcher = options.dispatcher ?? own ?? sharedAgent();
    const timeout = AbortSignal.timeout(attemptTimeoutMs);
    const signal = init.signal ? AbortSignal.any([init.signal, timeout]) : timeout;
    try {
      const response = await request(url, {
        dispatcher,
        method: init.method as Dispatcher.HttpMethod,
        headers: init.headers,
        body: init.body?.toString() ?? null,
        signal,
      });
      const text = await readBounded(response.body, maxResponseBytes);
      return toResponse(response.statusCode, response.headers, text);
    } catch (cause) {
      if (cause instanceof OAuthError) throw cause;
      if (signal.aborted) {
        throw new OAuthError(
          'ERR_OAUTH_TIMEOUT',
          'the authorization server did not answer in time',
        );
      }
      // Undici's parser keeps what it could not read, and that may be a token.
      Reflect.deleteProperty(cause as Error, 'data');
      const { code } = cause as NodeJS.ErrnoException;
      const message = `the authorization server could not be reached${code ? ` (${code})` : ''}`;
      throw new OAuthError('ERR_OAUTH_NETWORK', message, { cause });
    }
  };
}

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

/** Whether an error says that the request cannot have reached the server. */
export function neverSent(error: unknown): boolean {
  const code = ((error as Error).cause as NodeJS.ErrnoException | undefined)?.code;
  return code !== undefined && BEFORE_SENDING.has(code);
}

const BEFORE_SENDING: ReadonlySet<string> = new Set([
  'EAI_AGAIN',
  'ECONNREFUSED',
  'EHOSTUNREACH',
  'ENETUNREACH',
  'ENOTFOUND',
  'UND_ERR_CONNECT_TIMEOUT',
  'CERT_HAS_EXPIRED',
  'DEPTH_ZERO_SELF_SIGNED_CERT',
  'ERR_TLS_CERT_ALTNAME_INVALID',
  'SELF_SIGNED_CERT_IN_CHAIN',
  'UNABLE_TO_VERIFY_LEAF_SIGNATURE',
]);
