import { Stream } from 'node:stream';
import type { Dispatcher } from 'undici';

/** Bytes that are produced while they are sent. */
export type ByteStream = AsyncIterable<Uint8Array | string>;

/**
 * A request's body: text, bytes, a form, a stream (sent once, never again), or a function that makes the stream anew
 * for each attempt.
 */
export type RequestBody = string | Uint8Array | URLSearchParams | ByteStream | (() => ByteStream);

/** A body ready to be sent. */
export interface EncodedBody {
  readonly payload: Dispatcher.DispatchOptions['body'];
  readonly contentType?: string;
  /** Whether it can be sent again. */
  readonly repeatable: boolean;
}

const NO_BODY: EncodedBody = { payload: null, repeatable: true };

/** @throws TypeError when there are two bodies, or it is none that can be sent. */
export function encodeBody(json: unknown, body: RequestBody | undefined): EncodedBody {
  if (json !== undefined) {
    if (body !== undefined) throw new TypeError('json and body cannot both be given');
    const payload = JSON.stringify(json);
    if (payload === undefined) throw new TypeError('json must be something that JSON can express');
    return { payload, contentType: 'application/json', repeatable: true };
  }
  if (body === undefined) return NO_BODY;
  if (typeof body === 'string') {
    return { payload: body, contentType: 'text/plain;charset=UTF-8', repeatable: true };
  }
  if (body instanceof Uint8Array) {
    // A copy: every attempt, and the journal, has what was given, whatever the caller does to the buffer meanwhile.
    const payload = Buffer.from(body);
    return { payload, contentType: 'application/octet-stream', repeatable: true };
  }
  if (body instanceof URLSearchParams) {
    const contentType = 'application/x-www-form-urlencoded;charset=UTF-8';
    return { payload: body.toString(), contentType, repeatable: true };
  }
  if (typeof body === 'function') {
    return { ...stream({ [Symbol.asyncIterator]: () => chunks(body) }), repeatable: true };
  }
  if (typeof body === 'object' && body !== null && Symbol.asyncIterator in body) {
    letFail(body);
    // A Node.js stream reports its failures itself.
    const source = body instanceof Stream ? body : chunks(() => body);
    return { ...stream(source), repeatable: false };
  }
  throw new TypeError(
    'body must be text, bytes, URLSearchParams, a stream, or a function that makes one',
  );
}

/**
 * Every send iterates anew, so even an interceptor that sends a request twice gets a whole body twice. A stream that
 * fails without a reason is given one: undici would take it for one that goes on.
 */
async function* chunks(factory: () => ByteStream): AsyncGenerator<Uint8Array | string> {
  try {
    yield* factory();
  } catch (error) {
    throw error ?? new Error('the body failed without a reason');
  }
}

function stream(payload: ByteStream): Omit<EncodedBody, 'repeatable'> {
  return {
    // undici takes async iterables, though its types do not say so.
    payload: payload as unknown as NonNullable<Dispatcher.DispatchOptions['body']>,
    contentType: 'application/octet-stream',
  };
}

/**
 * Lets a stream fail before it is sent: nobody else listens to it yet, and an error that nobody listens to ends the process. Who
 * sends it is told of the error then.
 */
export function letFail(body: unknown): void {
  if (body instanceof Stream) body.on('error', () => {});
}
