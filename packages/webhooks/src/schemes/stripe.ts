import {
  boundedSplit,
  type IdSource,
  MAX_SIGNATURES,
  type Scheme,
  type Signature,
} from '../scheme.ts';
import { importTextSecret } from '../secret.ts';

export interface StripeOptions {
  /** Stripe sends no id header; its events have one in the body: `jsonField('id')`. Default: none. */
  readonly idFrom?: IdSource;
}

/**
 * Stripe: `Stripe-Signature: t=<seconds>,v1=<hex>[,v1=<hex>]`, HMAC-SHA256 over `t.body`. The secret is the text
 * that Stripe shows, `whsec_` included. https://docs.stripe.com/webhooks/signature
 */
export function stripe(options: StripeOptions = {}): Scheme {
  return {
    name: 'stripe',
    headers: { signature: 'stripe-signature' },
    encoding: 'hex',
    timestamped: true,
    ...(options.idFrom && { idFrom: options.idFrom }),
    importSecret: importTextSecret,
    prefix: (_, timestamp) => `${timestamp}.`,
    format: (signatures, timestamp) => {
      let header = `t=${timestamp}`;
      for (const { value } of signatures) header += `,v1=${value}`;
      return header;
    },
    parse,
  };
}

function parse(
  header: string,
): { readonly timestamp: string; readonly signatures: readonly Signature[] } | undefined {
  let timestamp: string | undefined;
  const signatures: Signature[] = [];
  // One part more than there may be signatures: the timestamp is one of them.
  for (const part of boundedSplit(header, ',')) {
    if (part.startsWith('t=')) {
      // Which of two would be the signed one? Nobody writes two by accident.
      if (timestamp !== undefined) return undefined;
      timestamp = part.slice(2);
    } else if (part.startsWith('v1=') && signatures.length < MAX_SIGNATURES) {
      signatures.push({ algorithm: 'hmac-sha256', value: part.slice(3) });
    } else if (!part.includes('=') || part.startsWith(' ')) {
      // White space after a comma is what Node.js leaves when it joins two headers.
      return undefined;
    }
  }
  return timestamp === undefined ? undefined : { timestamp, signatures };
}
