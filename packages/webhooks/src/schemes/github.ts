import type { IdSource, Scheme } from '../scheme.ts';
import { importTextSecret } from '../secret.ts';
import { parseMarked } from './timestamped-hmac.ts';

export interface GithubOptions {
  /**
   * GitHub signs the body and nothing else: no time, and not `X-GitHub-Delivery`. `bodyDigest` recognises a delivery
   * by its content, whatever its headers say; `'header'` trusts the header. Default: none.
   */
  readonly idFrom?: IdSource;
}

/**
 * GitHub: `X-Hub-Signature-256: sha256=<hex>`, HMAC-SHA256 over the body. The older `X-Hub-Signature` (SHA-1) is not
 * looked at. https://docs.github.com/webhooks/using-webhooks/validating-webhook-deliveries
 */
export function github(options: GithubOptions = {}): Scheme {
  return {
    name: 'github',
    headers: { signature: 'x-hub-signature-256', id: 'x-github-delivery' },
    encoding: 'hex',
    timestamped: false,
    ...(options.idFrom && { idFrom: options.idFrom }),
    importSecret: importTextSecret,
    prefix: () => '',
    format: (signatures) => signatures.map(({ value }) => `sha256=${value}`).join(','),
    parse: (header) => parseMarked(header, 'sha256='),
  };
}
