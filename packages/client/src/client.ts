import { randomUUID } from 'node:crypto';
import { deadline as startDeadline } from '@countersign/retry';
import { encodeBody } from './body.ts';
import { balanceOf, type Ending, interrupted, type Order, perform } from './call.ts';
import { newRequestId, newTraceparent } from './correlation.ts';
import { ClientError, type ClientErrorDetails, type Problem } from './errors.ts';
import { type CallEvent, type CallIdentity, callChannel } from './events.ts';
import type { ResponseHeaders } from './headers.ts';
import type { ClientOptions, RequestOptions } from './options.ts';
import { type OriginState, originState } from './origin.ts';
import {
  ACCEPT_ENCODING,
  decompress,
  isProblem,
  parseBody,
  type ReadAs,
  TooLargeError,
} from './response.ts';
import { single } from './retry-policy.ts';
import { lowerCased, readSettings, type Settings, whole } from './settings.ts';
import type { StandardSchema } from './standard-schema.ts';

/** An acceptable response: its status is below 400. */
export interface ClientResponse<T = unknown> {
  readonly status: number;
  /** Names in lower case. */
  readonly headers: ResponseHeaders;
  /** JSON parsed, text as a string, everything else as bytes; `undefined` when there is none. */
  readonly body: T;
  /** Attempts that were made, this one included. */
  readonly attempts: number;
  /** The key that was sent. */
  readonly idempotencyKey?: string;
  /** Whether the server answered with a response it had given before under this key. */
  readonly replayed: boolean;
  readonly requestId: string;
}

/** Calls one origin. */
export interface Client {
  request<T = unknown>(
    method: string,
    path: string,
    options?: RequestOptions<T>,
  ): Promise<ClientResponse<T>>;
  get<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  post<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  put<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  patch<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  delete<T = unknown>(path: string, options?: RequestOptions<T>): Promise<ClientResponse<T>>;
  /** Waits for the calls that are under way; later calls fail with `ERR_CLIENT_CLOSED`. */
  close(): Promise<void>;
}

const IDEMPOTENT_METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'PUT',
  'DELETE',
  'OPTIONS',
  'TRACE',
]);

/**
 * Creates a client for one origin. Every call has one effect at most, ends in time, and stays within the origin's
 * retry budget.
 * @throws TypeError when an option is not what it must be.
 */
export function createClient(options: ClientOptions): Client {
  const settings = readSettings(options);
  const state = originState(settings.origin, settings.policies);
  let closing: Promise<void> | undefined;

  async function request<T>(
    method: string,
    path: string,
    requestOptions: RequestOptions<T> = {},
  ): Promise<ClientResponse<T>> {
    if (closing) throw new ClientError('ERR_CLIENT_CLOSED', 'the client has been closed');
    const order = prepare(settings, method.toUpperCase(), path, requestOptions);
    const startedAt = performance.now();
    try {
      const ending = await bounded(order, state, () => perform(order, state, settings.attempts));
      const response = await accept<T>(ending, order, settings, state, requestOptions);
      announce(order.identity, startedAt, { attempts: ending.attempts, status: response.status });
      return response;
    } catch (error) {
      if (!(error instanceof ClientError)) throw error;
      const { idempotencyKey } = order.identity;
      if (idempotencyKey !== undefined) Object.assign(error, { idempotencyKey });
      const { code, attempts = 0, status, stopped } = error;
      announce(order.identity, startedAt, {
        attempts,
        error: code,
        ...(status === undefined ? {} : { status }),
        ...(stopped === undefined ? {} : { stopped }),
      });
      throw error;
    } finally {
      order.deadline.dispose();
    }
  }

  return {
    request,
    get: (path, requestOptions) => request('GET', path, requestOptions),
    post: (path, requestOptions) => request('POST', path, requestOptions),
    put: (path, requestOptions) => request('PUT', path, requestOptions),
    patch: (path, requestOptions) => request('PATCH', path, requestOptions),
    delete: (path, requestOptions) => request('DELETE', path, requestOptions),
    close: async () => {
      closing ??= settings.close();
      await closing;
    },
  };
}

/** @throws TypeError when the call is not one that can be made. */
function prepare(settings: Settings, method: string, path: string, options: RequestOptions): Order {
  const { payload, contentType, repeatable } = encodeBody(options.json, options.body);
  const target = { origin: settings.origin, path: withQuery(path, options.query) };
  const headers: Record<string, string> = {
    accept: 'application/json, */*;q=0.5',
    'accept-encoding': ACCEPT_ENCODING,
    ...settings.headers,
    ...(contentType === undefined ? {} : { 'content-type': contentType }),
    ...lowerCased(options.headers),
  };
  const requestId = headers['x-request-id'] ?? newRequestId();
  headers['x-request-id'] = requestId;
  if (settings.traceparent) headers['traceparent'] ??= newTraceparent();
  const key =
    options.idempotencyKey ?? (settings.keys.methods.has(method) ? randomUUID() : undefined);
  if (key !== undefined) headers['idempotency-key'] = settings.keys.serialize(key);
  const deadlineMs = whole(options.deadlineMs, settings.deadlineMs, 'deadlineMs', 2_147_483_647);
  return {
    identity: {
      requestId,
      method,
      origin: target.origin,
      path: target.path.split('?', 1)[0] ?? '/',
      ...(key === undefined ? {} : { idempotencyKey: key }),
    },
    dispatch: settings.dispatch,
    target,
    headers,
    payload,
    repeatable: repeatable && (key !== undefined || IDEMPOTENT_METHODS.has(method)),
    deadline: startDeadline(deadlineMs, options.signal),
    signal: options.signal,
  };
}

/** A path, not a URL: the identity that is attached belongs to one origin. */
function withQuery(path: string, query: RequestOptions['query']): string {
  if (!path.startsWith('/') || /^\/[/\\]|#/.test(path)) {
    throw new TypeError('path must begin with one "/" and have no fragment');
  }
  if (query === undefined) return path;
  const pairs =
    query instanceof URLSearchParams
      ? query
      : new URLSearchParams(
          Object.entries(query).map(([name, value]): [string, string] => [name, String(value)]),
        );
  const text = pairs.toString();
  return text === '' ? path : `${path}${path.includes('?') ? '&' : '?'}${text}`;
}

/** Runs the call when there is a place for it. */
async function bounded<R>(
  { deadline, signal }: Order,
  { bound, origin }: OriginState,
  run: () => Promise<R>,
): Promise<R> {
  if (!bound) return run();
  if (!bound.tryEnter()) {
    const turn = bound.enter(deadline.signal);
    if (!turn) {
      throw new ClientError('ERR_CLIENT_QUEUE_FULL', `too many calls to ${origin} are waiting`, {
        attempts: 0,
      });
    }
    await turn.catch((error: unknown) => {
      throw interrupted(error, signal, 0);
    });
  }
  try {
    return await run();
  } finally {
    bound.leave();
  }
}

/** @throws ClientError when the response is an error, cannot be read, or does not match the schema. */
async function accept<T>(
  { answer, attempts, stopped, retryAfterMs }: Ending,
  { identity: { idempotencyKey, requestId } }: Order,
  settings: Settings,
  state: OriginState,
  { as = 'auto', schema }: RequestOptions<T>,
): Promise<ClientResponse<T>> {
  const { status, headers } = answer;
  const failed = status >= 400;
  const details: ClientErrorDetails = { status, headers, attempts, stopped };
  let body: unknown;
  try {
    body = await readBody(answer.body, headers, failed ? 'auto' : as, settings, answer.truncated);
  } catch (error) {
    if (!failed) throw unreadable(error, details);
    // The status says more than a body that cannot be read.
  }
  if (failed) {
    throw statusError(status, {
      ...details,
      body,
      ...balanceOf(state),
      ...(answer.truncated ? { bodyTruncated: true } : {}),
      ...(retryAfterMs === undefined ? {} : { retryAfterMs }),
      ...(isProblem(headers) && isObject(body) ? { problem: body } : {}),
    });
  }
  if (schema && status < 300) body = await validate(schema, body, details);
  return {
    status,
    headers,
    body: body as T,
    attempts,
    ...(idempotencyKey === undefined ? {} : { idempotencyKey }),
    replayed:
      (single(headers, 'idempotency-replayed') ?? single(headers, 'idempotent-replayed')) ===
      'true',
    requestId,
  };
}

async function readBody(
  bytes: Buffer,
  headers: ResponseHeaders,
  as: ReadAs,
  { attempts: { maxResponseBytes } }: Settings,
  truncated: boolean,
): Promise<unknown> {
  const coded = headers['content-encoding'] !== undefined;
  if (truncated) return coded ? undefined : bytes.toString('utf8');
  return parseBody(coded ? await decompress(bytes, headers, maxResponseBytes) : bytes, headers, as);
}

function unreadable(error: unknown, details: ClientErrorDetails): ClientError {
  const { message } = error as Error;
  return error instanceof TooLargeError
    ? new ClientError('ERR_CLIENT_RESPONSE_TOO_LARGE', message, details)
    : new ClientError(
        'ERR_CLIENT_INVALID_RESPONSE',
        `the response body cannot be read: ${message}`,
        details,
        { cause: error },
      );
}

function statusError(status: number, details: ClientErrorDetails): ClientError {
  const { problem } = details;
  if (!problem)
    return new ClientError('ERR_CLIENT_STATUS', `the server answered ${status}`, details);
  const title = typeof problem.title === 'string' ? `: ${problem.title}` : '';
  return new ClientError('ERR_CLIENT_PROBLEM', `the server answered ${status}${title}`, details);
}

async function validate<T>(
  schema: StandardSchema<T>,
  body: unknown,
  details: ClientErrorDetails,
): Promise<T> {
  const result = await schema['~standard'].validate(body);
  if (result.issues === undefined) return result.value;
  throw new ClientError('ERR_CLIENT_SCHEMA', 'the response does not match the schema', {
    ...details,
    body,
    issues: result.issues,
  });
}

function isObject(value: unknown): value is Problem {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function announce(
  identity: CallIdentity,
  startedAt: number,
  outcome: Omit<CallEvent, keyof CallIdentity | 'durationMs'>,
): void {
  if (!callChannel.hasSubscribers) return;
  const durationMs = performance.now() - startedAt;
  callChannel.publish({ ...identity, ...outcome, durationMs } satisfies CallEvent);
}
