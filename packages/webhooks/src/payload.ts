import { createHash } from 'node:crypto';
import { WebhookError } from './errors.ts';

/** The part of Standard Schema that is used here: zod, valibot, arktype and others implement it. */
export interface StandardSchema<Output = unknown> {
  readonly '~standard': {
    readonly version: 1;
    readonly validate: (value: unknown) => SchemaResult<Output> | Promise<SchemaResult<Output>>;
    readonly types?: { readonly input: unknown; readonly output: Output } | undefined;
  };
}

type SchemaResult<Output> =
  | { readonly value: Output; readonly issues?: undefined }
  | { readonly issues: readonly { readonly message: string; readonly path?: unknown }[] };

const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Parses a verified body as JSON and validates it. Separate from `verify`, so that nothing is parsed that was not
 * believed first.
 * @throws WebhookError `ERR_WEBHOOKS_PAYLOAD_NOT_JSON` or `ERR_WEBHOOKS_PAYLOAD_INVALID` (`cause`: the issues).
 */
export async function parsePayload<Output = unknown>(
  body: Uint8Array | string,
  schema?: StandardSchema<Output>,
): Promise<Output> {
  const value = json(body);
  if (!schema) return value as Output;
  const result = await schema['~standard'].validate(value);
  if (!result.issues) return result.value;
  throw new WebhookError('ERR_WEBHOOKS_PAYLOAD_INVALID', 'the payload does not match its schema', {
    cause: result.issues,
  });
}

/** An `idFrom` that reads a text member of the JSON body; `path` separates nested members by full stops. */
export function jsonField(path: string): (body: Uint8Array | string) => string | undefined {
  const members = path.split('.');
  return (body) => {
    let value = json(body);
    for (const member of members) {
      const isObject = typeof value === 'object' && value !== null;
      if (!isObject || !Object.hasOwn(value as object, member)) return undefined;
      value = (value as Record<string, unknown>)[member];
    }
    return typeof value === 'string' ? value : undefined;
  };
}

/** An `idFrom` that recognises a delivery by its content: `sha256-` and the base64url digest of the body. */
export function bodyDigest(body: Uint8Array | string): string {
  return `sha256-${createHash('sha256').update(body).digest('base64url')}`;
}

function json(body: Uint8Array | string): unknown {
  try {
    return JSON.parse(typeof body === 'string' ? body : utf8.decode(body));
  } catch {
    // The parser's message quotes the payload, which does not belong in a log.
    throw new WebhookError('ERR_WEBHOOKS_PAYLOAD_NOT_JSON', 'the payload is not JSON in UTF-8');
  }
}
