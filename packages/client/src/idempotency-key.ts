import { randomUUID } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import type { Dispatcher } from 'undici';
import { addHeaders, hasHeader } from './headers.ts';

/** How `Idempotency-Key` is sent. */
export interface IdempotencyOptions {
  /** Methods that are given a key. Default POST and PATCH. */
  readonly methods?: readonly string[];
  /**
   * - `string` (default): a structured-field String, `"8e03978e-…"` (RFC 9651 §3.3.3), as the draft standard has it.
   * - `raw`: the key itself, for servers such as Stripe that do not read quotes.
   */
  readonly format?: 'string' | 'raw';
  /** How long the server remembers a key, in milliseconds. Nothing is sent later, by `recover()` neither. Default 86,400,000 (a day). */
  readonly keyLifetimeMs?: number;
}

const HEADER = 'idempotency-key';

const known: OptionNames<IdempotencyOptions> = {
  methods: true,
  format: true,
  keyLifetimeMs: true,
};

/**
 * An undici interceptor that gives each request with one of the methods a new key, unless it has one. Alone it does
 * not retry: a retry *outside* of it would be given another key, so put a retrying interceptor inside, or use the client.
 * @throws TypeError when an option is not what it must be.
 */
export function idempotencyKey(
  options: IdempotencyOptions = {},
): Dispatcher.DispatcherComposeInterceptor {
  const { methods, serialize } = keyPolicy(options);
  return (dispatch) => (request, handler) => {
    if (!methods.has(request.method) || hasHeader(request.headers, HEADER)) {
      return dispatch(request, handler);
    }
    const headers = addHeaders(request.headers, { [HEADER]: serialize(randomUUID()) });
    return dispatch({ ...request, headers }, handler);
  };
}

/** Which calls have a key, and how it is written. */
export interface KeyPolicy {
  readonly methods: ReadonlySet<string>;
  readonly serialize: (key: string) => string;
}

/** A call's key, and the field that says it to the server. */
export interface CallKey {
  readonly key: string;
  readonly field: string;
}

/**
 * The key of a call: the caller's own, as an option or as a header that is sent as it was written, or a new one.
 * `undefined` when the call has none.
 * @throws TypeError when it is no key, or the caller gave two.
 */
export function keyFor(
  { methods, serialize }: KeyPolicy,
  method: string,
  given: string | undefined,
  header: string | undefined,
): CallKey | undefined {
  if (header !== undefined) {
    if (given !== undefined && given !== header) {
      throw new TypeError('idempotencyKey and an Idempotency-Key header cannot both be given');
    }
    checkKey(header, /^[\x21-\x7e](?:[\x20-\x7e]{0,510}[\x21-\x7e])?$/);
    return { key: header, field: header };
  }
  // Only `undefined` is no key: where the caller's own is `null`, a new one would make every repetition of the call another payment.
  const key = given === undefined && methods.has(method) ? randomUUID() : given;
  return key === undefined ? undefined : { key, field: serialize(key) };
}

/** The options, ready to use. @throws TypeError when an option is not what it must be. */
export function keyPolicy(options: IdempotencyOptions): KeyPolicy {
  assertKnown(options, known, 'idempotency.');
  const { methods = ['POST', 'PATCH'], format = 'string' } = options;
  if (!Array.isArray(methods)) throw new TypeError('idempotency.methods must be an array');
  if (format !== 'string' && format !== 'raw') {
    throw new TypeError("idempotency.format must be 'string' or 'raw'");
  }
  return {
    methods: new Set(methods.map((method) => String(method).toUpperCase())),
    serialize: format === 'string' ? serializeString : serializeRaw,
  };
}

/**
 * A structured-field String (RFC 9651 §4.1.6): printable ASCII between quotes, with `"` and `\` escaped.
 * @throws TypeError when the key is empty, longer than 255 characters or has others.
 */
export function serializeString(key: string): string {
  checkKey(key, /^[\x20-\x7e]{1,255}$/);
  return `"${key.replace(/["\\]/g, '\\$&')}"`;
}

function serializeRaw(key: string): string {
  checkKey(key, /^[\x21-\x7e]{1,255}$/);
  return key;
}

function checkKey(key: string, allowed: RegExp): void {
  if (typeof key !== 'string' || !allowed.test(key)) {
    throw new TypeError('idempotencyKey must be 1 to 255 printable ASCII characters');
  }
}
