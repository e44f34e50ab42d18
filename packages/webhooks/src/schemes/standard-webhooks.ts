import { MAX_SIGNATURES, type Scheme, type Signature } from '../scheme.ts';
import { type Algorithm, importStandardSecret } from '../secret.ts';

/**
 * Standard Webhooks 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`, over `id.timestamp.body`.
 * `whsec_` secrets sign with HMAC-SHA256 (`v1`), `whsk_`/`whpk_` keys with ed25519 (`v1a`).
 * https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md
 */
export function standardWebhooks(): Scheme {
  return scheme;
}

/** By their marks. Without a prototype: a header chooses the member that is read. */
const algorithms: Readonly<Record<string, Algorithm | undefined>> = Object.assign(
  Object.create(null) as Record<string, Algorithm>,
  { v1: 'hmac-sha256', v1a: 'ed25519' },
);

/** `v1,` and 32 bytes in base64. */
const V1_LENGTH = 47;

const scheme: Scheme = Object.freeze<Scheme>({
  name: 'standard-webhooks',
  headers: { id: 'webhook-id', timestamp: 'webhook-timestamp', signature: 'webhook-signature' },
  encoding: 'base64',
  timestamped: true,
  idFrom: 'header',
  importSecret: importStandardSecret,
  prefix: (id, timestamp) => `${id}.${timestamp}.`,
  format(signatures) {
    let header = '';
    for (const { algorithm, value } of signatures) {
      if (header !== '') header += ' ';
      header += algorithm === 'ed25519' ? `v1a,${value}` : `v1,${value}`;
    }
    return header;
  },
  parse(header) {
    // The usual case, a single v1 signature, is worth being read in one go.
    if (header.length === V1_LENGTH && header.startsWith('v1,')) {
      return { signatures: [{ algorithm: 'hmac-sha256', value: header.slice(3) }] };
    }
    const signatures: Signature[] = [];
    let start = 0;
    for (let count = 0; count < MAX_SIGNATURES && start <= header.length; count += 1) {
      const space = header.indexOf(' ', start);
      const end = space === -1 ? header.length : space;
      const comma = header.indexOf(',', start);
      // A second comma is what is left when two header lines were joined.
      const second = header.indexOf(',', comma + 1);
      if (comma <= start || comma >= end || (second !== -1 && second < end)) return undefined;
      // Versions that are not known yet are skipped, so that senders can add one.
      const algorithm = algorithms[header.slice(start, comma)];
      if (algorithm) signatures.push({ algorithm, value: header.slice(comma + 1, end) });
      start = end + 1;
    }
    return { signatures };
  },
});
