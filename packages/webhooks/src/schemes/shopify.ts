import { boundedSplit, type IdSource, MAX_SIGNATURES, type Scheme } from '../scheme.ts';
import { importTextSecret } from '../secret.ts';

export interface ShopifyOptions {
  /**
   * Shopify signs the body and nothing else: no time, and not `X-Shopify-Webhook-Id`. `bodyDigest` recognises a
   * delivery by its content; `'header'` trusts the header. Default: none.
   */
  readonly idFrom?: IdSource;
}

/**
 * Shopify: `X-Shopify-Hmac-Sha256: <base64>`, HMAC-SHA256 over the body, with the app's client secret.
 * https://shopify.dev/docs/apps/build/webhooks/subscribe/https
 */
export function shopify(options: ShopifyOptions = {}): Scheme {
  return {
    name: 'shopify',
    headers: { signature: 'x-shopify-hmac-sha256', id: 'x-shopify-webhook-id' },
    encoding: 'base64',
    timestamped: false,
    ...(options.idFrom && { idFrom: options.idFrom }),
    importSecret: importTextSecret,
    prefix: () => '',
    format: (signatures) => signatures.map(({ value }) => value).join(','),
    parse(header) {
      // White space after a comma is what Node.js leaves when it joins two headers.
      if (header.includes(' ')) return undefined;
      return {
        signatures: boundedSplit(header, ',')
          .slice(0, MAX_SIGNATURES)
          .map((value) => ({ algorithm: 'hmac-sha256', value })),
      };
    },
  };
}
