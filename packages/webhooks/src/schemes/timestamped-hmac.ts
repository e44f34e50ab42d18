import {
  boundedSplit,
  type IdSource,
  MAX_SIGNATURES,
  type Scheme,
  type Signature,
} from '../scheme.ts';
import { importTextSecret } from '../secret.ts';

export interface TimestampedHmacOptions {
  /**
   * Where receivers find the id. The scheme does not sign its id header: whoever captured one delivery could send it
   * again under another id. So name an id inside the body (`jsonField('id')`), or say `'header'` to accept that.
   * Default: none, and receivers refuse to be built.
   */
  readonly idFrom?: IdSource;
}

/**
 * HMAC-SHA256 over `timestamp.body`: `X-Webhook-Signature: sha256=<hex>` (several, separated by commas, while a
 * secret is rotated), `X-Webhook-Timestamp` in seconds, and `X-Webhook-Id`, which is not signed.
 */
export function timestampedHmac(options: TimestampedHmacOptions = {}): Scheme {
  return {
    name: 'timestamped-hmac',
    headers: {
      signature: 'x-webhook-signature',
      timestamp: 'x-webhook-timestamp',
      id: 'x-webhook-id',
    },
    encoding: 'hex',
    timestamped: true,
    ...(options.idFrom && { idFrom: options.idFrom }),
    importSecret: importTextSecret,
    prefix: (_, timestamp) => `${timestamp}.`,
    format: (signatures) => signatures.map(({ value }) => `sha256=${value}`).join(','),
    parse: (header) => parseMarked(header, 'sha256='),
  };
}

/** Reads `mark<value>,mark<value>`. White space after a comma is what Node.js leaves when it joins two headers. */
export function parseMarked(
  header: string,
  mark: string,
): { readonly signatures: readonly Signature[] } | undefined {
  const signatures: Signature[] = [];
  for (const part of boundedSplit(header, ',').slice(0, MAX_SIGNATURES)) {
    if (!part.startsWith(mark)) return undefined;
    signatures.push({ algorithm: 'hmac-sha256', value: part.slice(mark.length) });
  }
  return { signatures };
}
