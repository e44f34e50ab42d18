import { boundedSplit, MAX_SIGNATURES, type Scheme, type Signature } from '../scheme.ts';
import { importStandardSecret } from '../secret.ts';

/**
 * Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`, over `id.timestamp.body`.
 * `whsec_` secrets sign with HMAC-SHA256 (`v1`), `whsk_`/`whpk_` keys with ed25519 (`v1a`).
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export function standardWebhooks(): Scheme {
  return scheme;
}

const scheme: Scheme = Object.freeze<Scheme>({
  name: 'standard-webhooks',
  headers: { id: 'webhook-id', timestamp: 'webhook-timestamp', signature: 'webhook-signature' },
  encoding: 'base64',
  timestamped: true,
  idFrom: 'header',
  importSecret: importStandardSecret,
  prefix: (id, timestamp) => `${id}.${timestamp}.`,
  format: (signatures) =>
    signatures
      .map(({ algorithm, value }) => `${algorithm === 'ed25519' ? 'v1a' : 'v1'},${value}`)
      .join(' '),
  parse(header) {
    const signatures: Signature[] = [];
    for (const token of boundedSplit(header, ' ').slice(0, MAX_SIGNATURES)) {
      const comma = token.indexOf(',');
      if (comma < 1) return undefined;
      const version = token.slice(0, comma);
      const value = token.slice(comma + 1);
      // A second comma is what is left when two header lines were joined.
      if (value.includes(',')) return undefined;
      // Versions that are not known yet are skipped, so that senders can add one.
      if (version === 'v1') signatures.push({ algorithm: 'hmac-sha256', value });
      else if (version === 'v1a') signatures.push({ algorithm: 'ed25519', value });
    }
    return { signatures };
  },
});
