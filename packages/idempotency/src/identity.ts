import { hash } from 'node:crypto';

/** What a request is, for telling a retry from another request under the same key. */
export interface RequestParts {
  readonly method: string;
  /** As received, with the query. */
  readonly target: string;
  readonly contentType: string;
  readonly body: Uint8Array;
}

/** The record's name. JSON keeps the parts apart whatever they contain; the hash bounds and hides them. */
export function identityOf(...parts: readonly string[]): string {
  return hash('sha256', JSON.stringify(parts), 'base64url');
}

/**
 * What the key was used for. It covers the principal and the key too: they are secret to those who only see the store,
 * so that nobody can find a body of few possibilities (an amount, say) by trying.
 */
export function fingerprintOf(principal: string, key: string, request: RequestParts): string {
  const { method, target, contentType, body } = request;
  const head = `${JSON.stringify([principal, key, method, target, contentType])}\n`;
  const headLength = Buffer.byteLength(head);
  const bytes = Buffer.allocUnsafe(headLength + body.byteLength);
  bytes.write(head);
  bytes.set(body, headLength);
  return hash('sha256', bytes, 'base64url');
}
