import { decodeBase64url } from './base64url.ts';
import { JwtError } from './errors.ts';
import { type JsonObject, parseJsonObject } from './json.ts';

/** A compact JWS (RFC 7515 §3.1), taken apart. Nothing in it has been checked yet. */
export interface CompactJws {
  /** As it came. */
  readonly headerText: string;
  readonly header: JsonObject;
  readonly payload: JsonObject;
  /** What the signature covers: `ASCII(header || '.' || payload)`. */
  readonly signingInput: Buffer;
  readonly signature: Buffer;
}

/**
 * Takes a token apart, strictly.
 * @param known - what header texts were found to hold before: an issuer's tokens all begin alike
 * @throws JwtError, without the token in it, for any input at all
 */
export function parseCompact(
  token: unknown,
  maxBytes: number,
  known?: ReadonlyMap<string, JsonObject>,
): CompactJws {
  if (typeof token !== 'string') throw new JwtError('ERR_JWT_MALFORMED', 'A token is a string');
  // Length in UTF-16 units; any character beyond ASCII is refused by the decoder below.
  if (token.length > maxBytes) {
    throw new JwtError('ERR_JWT_TOO_LARGE', `The token is longer than ${maxBytes} bytes`);
  }
  const first = token.indexOf('.');
  const second = token.indexOf('.', first + 1);
  if (first === -1 || second === -1) {
    throw new JwtError('ERR_JWT_MALFORMED', 'A token has three parts');
  }
  if (token.indexOf('.', second + 1) !== -1) refuseMoreParts(token);
  const headerText = token.slice(0, first);
  const header = known?.get(headerText) ?? parseJsonObject(decodeBase64url(headerText));
  const payload = parseJsonObject(decodeBase64url(token.slice(first + 1, second)));
  const signature = decodeBase64url(token.slice(second + 1));
  const signingInput = Buffer.from(token.slice(0, second), 'latin1');
  return { headerText, header, payload, signature, signingInput };
}

function refuseMoreParts(token: string): never {
  if (token.split('.').length === 5) {
    throw new JwtError('ERR_JWT_ENCRYPTED', 'Encrypted tokens (JWE) are not accepted');
  }
  throw new JwtError('ERR_JWT_MALFORMED', 'A token has three parts');
}
