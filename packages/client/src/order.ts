import { deadline as startDeadline } from '@countersign/retry';
import type { EncodedBody } from './body.ts';
import type { Order } from './call.ts';
import { newRequestId, newTraceparent } from './correlation.ts';
import { keyFor } from './idempotency-key.ts';
import { ACCEPT_ENCODING } from './response.ts';
import { lowerCased, type Settings, whole } from './settings.ts';

/** What the caller asked for. */
export interface Wish {
  readonly method: string;
  readonly path: string;
  readonly body: EncodedBody;
  readonly headers: Readonly<Record<string, string>> | undefined;
  readonly idempotencyKey: string | undefined;
  readonly signal: AbortSignal | undefined;
  readonly deadlineMs: number | undefined;
}

/** RFC 9110 §9.2.2. */
export const IDEMPOTENT_METHODS: ReadonlySet<string> = new Set([
  'GET',
  'HEAD',
  'PUT',
  'DELETE',
  'OPTIONS',
  'TRACE',
]);

/** Gives the call its key, its identifiers and its deadline. @throws TypeError when it is not one that can be made. */
export function placeOrder(settings: Settings, wish: Wish): Order {
  const { method, path, body, signal } = wish;
  const { payload, contentType, repeatable: replayable } = body;
  const { origin, keys } = settings;
  if (!path.startsWith('/') || /^\/[/\\]|#/.test(path)) {
    throw new TypeError('path must begin with one "/" and have no fragment');
  }
  if (signal && typeof signal.addEventListener !== 'function') {
    throw new TypeError('signal must be an AbortSignal');
  }
  const given = lowerCased(wish.headers);
  const headers: Record<string, string> = {
    accept: 'application/json, */*;q=0.5',
    'accept-encoding': ACCEPT_ENCODING,
    ...settings.headers,
    ...(contentType === undefined ? {} : { 'content-type': contentType }),
    ...given,
  };
  const requestId = headers['x-request-id'] ?? newRequestId();
  headers['x-request-id'] = requestId;
  if (settings.traceparent) headers['traceparent'] ??= newTraceparent();
  const callKey = keyFor(keys, method, wish.idempotencyKey, given['idempotency-key']);
  const key = callKey?.key;
  if (callKey) headers['idempotency-key'] = callKey.field;
  const deadlineMs = whole(wish.deadlineMs, settings.deadlineMs, 'deadlineMs', 2_147_483_647);
  return {
    identity: {
      requestId,
      method,
      origin,
      path: path.split('?', 1)[0] ?? '/',
      ...(key === undefined ? {} : { idempotencyKey: key }),
    },
    dispatch: settings.dispatch,
    target: { origin, path },
    headers,
    payload,
    replayable,
    repeatable: replayable && (key !== undefined || IDEMPOTENT_METHODS.has(method)),
    // No attempt may reach the server after it has forgotten the key.
    deadline: startDeadline(
      key === undefined ? deadlineMs : Math.min(deadlineMs, settings.keyLifetimeMs),
      signal,
    ),
    deadlineHeader: settings.deadlineHeader,
    signal,
  };
}
