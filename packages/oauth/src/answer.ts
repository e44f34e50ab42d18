import { type CustomFetch, customFetch } from 'openid-client';
import { OAuthError } from './errors.ts';
import type { Transport } from './transport.ts';

/** The option under which openid-client takes its `fetch`. */
export interface Sending {
  readonly [customFetch]: CustomFetch;
}

/**
 * The answer itself to what openid-client asks. Its own reading comes too late to matter: it takes what a strict one
 * refuses, and its errors hold what was answered.
 * @throws OAuthError of the transport, or what kept openid-client from asking.
 */
export function answerTo(
  ask: (sending: Sending) => Promise<unknown>,
  send: Transport,
): Promise<Response> {
  return new Promise((resolve, reject) => {
    const fetch: CustomFetch = async (url, init) => {
      const response = await send(url, init as Parameters<Transport>[1]);
      resolve(response.clone());
      return response;
    };
    ask({ [customFetch]: fetch }).catch((error: unknown) => {
      const { cause } = error as Error;
      reject(cause instanceof OAuthError ? cause : (error as Error));
    });
  });
}
