import { WebhookError } from './errors.ts';
import type { AsyncSigner, Signer } from './signer.ts';

/**
 * What sends requests: the `dispatch` of any undici dispatcher, such as `egressAgent()`. Only what is used here is
 * named, so that verifying needs no types of undici.
 */
export interface WebhookDispatcher {
  dispatch(
    options: {
      readonly origin: string;
      readonly path: string;
      readonly method: 'POST';
      readonly headers: Record<string, string>;
      readonly body: Uint8Array;
    },
    handler: ExchangeHandler,
  ): boolean;
}

/** How a dispatcher reports what comes back: undici's `DispatchHandler`. */
export interface ExchangeHandler {
  onRequestStart(controller: { abort(reason: Error): void }, context: unknown): void;
  onResponseStart(
    controller: { abort(reason: Error): void },
    statusCode: number,
    headers: Record<string, string | string[] | undefined>,
  ): void;
  onResponseData(controller: { abort(reason: Error): void }, chunk: Buffer): void;
  onResponseEnd(): void;
  onResponseError(controller: unknown, error: Error): void;
}

/** Where events go. */
export interface Target {
  readonly url: string | URL;
  /** Names the endpoint in events and penalties. Default: the URL's origin. */
  readonly id?: string;
  /** Default: the sender's. Endpoints should not share secrets. */
  readonly signer?: Signer | AsyncSigner;
  /** Sent along. Cannot replace what is signed, nor what frames the message. */
  readonly headers?: Readonly<Record<string, string>>;
  /** Default: the sender's. An agent of its own gives the endpoint its own client certificate. */
  readonly egress?: WebhookDispatcher;
}

export interface PreparedTarget {
  readonly origin: string;
  readonly path: string;
  readonly label: string;
  readonly headers: Readonly<Record<string, string>>;
  readonly signer: Signer | AsyncSigner | undefined;
  readonly egress: WebhookDispatcher | undefined;
}

// Those frame the message, or are ours.
const RESERVED = new Set([
  'connection',
  'content-length',
  'content-type',
  'expect',
  'host',
  'keep-alive',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
]);
const TOKEN = /^[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}$/;
const FIELD_VALUE = /^[\t -~]{0,4096}$/;

/** @throws WebhookError `ERR_WEBHOOKS_ENDPOINT_INVALID`. */
export function prepareTarget(target: string | URL | Target): PreparedTarget {
  const plain = typeof target === 'string' || target instanceof URL;
  const { url, id, signer, headers = {}, egress }: Target = plain ? { url: target } : target;
  const { origin, pathname, search } = webhookUrl(url);
  return {
    origin,
    path: pathname + search,
    label: id ?? origin,
    headers: customHeaders(headers),
    signer,
    egress,
  };
}

/** An http(s) URL without a user name. Whether it may be reached is for the egress rules to say. */
export function webhookUrl(url: string | URL): URL {
  const parsed = URL.parse(String(url));
  if (!parsed || !/^https?:$/.test(parsed.protocol)) throw invalid('url must be an http(s) URL');
  // Credentials in URLs end up in logs.
  if (parsed.username || parsed.password)
    throw invalid('url must not contain a user name or password');
  return parsed;
}

/** Custom headers in lower case. */
export function customHeaders(
  headers: Readonly<Record<string, string>>,
): Readonly<Record<string, string>> {
  const entries = Object.entries(headers).map(([key, value]) => {
    const name = key.toLowerCase();
    if (!TOKEN.test(key)) throw invalid('headers: a header name is not a token');
    if (RESERVED.has(name) || name.startsWith('webhook-')) {
      throw invalid(`headers: ${name} cannot be set`);
    }
    if (typeof value !== 'string' || !FIELD_VALUE.test(value)) {
      throw invalid(`headers: the value of ${name} is not printable ASCII`);
    }
    return [name, value] as const;
  });
  return Object.fromEntries(entries);
}

function invalid(message: string): WebhookError {
  return new WebhookError('ERR_WEBHOOKS_ENDPOINT_INVALID', message);
}
