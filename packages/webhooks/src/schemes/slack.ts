import type { IdSource, Scheme } from '../scheme.ts';
import { importTextSecret } from '../secret.ts';
import { parseMarked } from './timestamped-hmac.ts';

export interface SlackOptions {
  /** Slack sends no id header; its events have `event_id` in the body: `jsonField('event_id')`. Default: none. */
  readonly idFrom?: IdSource;
}

/**
 * Slack: `X-Slack-Signature: v0=<hex>` and `X-Slack-Request-Timestamp`, HMAC-SHA256 over `v0:timestamp:body`.
 * https://api.slack.com/authentication/verifying-requests-from-slack
 */
export function slack(options: SlackOptions = {}): Scheme {
  return {
    name: 'slack',
    headers: { signature: 'x-slack-signature', timestamp: 'x-slack-request-timestamp' },
    encoding: 'hex',
    timestamped: true,
    ...(options.idFrom && { idFrom: options.idFrom }),
    importSecret: importTextSecret,
    prefix: (_, timestamp) => `v0:${timestamp}:`,
    format: (signatures) => signatures.map(({ value }) => `v0=${value}`).join(','),
    parse: (header) => parseMarked(header, 'v0='),
  };
}
