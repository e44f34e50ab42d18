import { assertKnown, type OptionNames } from '@countersign/options';
import type { Dispatcher } from 'undici';
import { letFail } from './body.ts';
import { addHeaders, isToken } from './headers.ts';

/** A key, or where to get it from for each request. */
export type ApiKeySource = string | (() => string | Promise<string>);

/** How the key is presented. */
export interface ApiKeyOptions {
  /** The scheme of the `Authorization` header. Default `ApiKey`. */
  readonly scheme?: string;
  /** Send the bare key in this header instead of `Authorization`: `x-api-key`. */
  readonly header?: string;
}

const known: OptionNames<ApiKeyOptions> = { scheme: true, header: true };

/**
 * An undici interceptor that presents an API key with every attempt. It replaces what was in the header before.
 * @throws TypeError when an option is not what it must be.
 */
export function apiKey(
  source: ApiKeySource,
  options: ApiKeyOptions = {},
): Dispatcher.DispatcherComposeInterceptor {
  assertKnown(options, known);
  const { scheme = 'ApiKey', header } = options;
  if (!isToken(scheme)) throw new TypeError('scheme must be a token');
  if (header !== undefined && !isToken(header)) throw new TypeError('header must be a token');
  if (typeof source !== 'function') checkKey(source);
  const name = (header ?? 'authorization').toLowerCase();
  const value = (key: string): string => (header === undefined ? `${scheme} ${key}` : key);

  return (dispatch) =>
    function present(request, handler) {
      const send = (key: string): boolean => {
        checkKey(key);
        const headers = addHeaders(request.headers, { [name]: value(key) });
        return dispatch({ ...request, headers }, handler);
      };
      if (typeof source === 'string') return send(source);
      letFail(request.body);
      Promise.resolve()
        .then(source)
        .then(send)
        .catch((error: unknown) => {
          // No controller: the request has not begun. The handler's error callback is the only way to report it.
          handler.onResponseError?.(
            null as unknown as Dispatcher.DispatchController,
            error instanceof Error ? error : new Error('there is no API key', { cause: error }),
          );
        });
      return true;
    };
}

function checkKey(key: unknown): asserts key is string {
  if (typeof key !== 'string' || !/^[\x21-\x7e]{8,4096}$/.test(key)) {
    throw new TypeError('an API key must be a string of 8 to 4,096 printable ASCII characters');
  }
}
