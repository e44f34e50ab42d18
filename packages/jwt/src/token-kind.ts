import type { JsonObject } from './json.ts';

/** What a JWT is meant to be used as. */
export type TokenKind = 'access' | 'id' | 'refresh' | 'unknown';

/** Tells by the marks that specifications and well-known servers put on their tokens. Proves nothing. */
export function kindOf(header: JsonObject, payload: JsonObject): TokenKind {
  const typ = lower(header['typ']).replace(/^application\//, '');
  // Keycloak writes `typ`, Cognito `token_use` into the payload.
  const use = lower(payload['typ'] ?? payload['token_use'] ?? payload['token_type']);
  if (typ === 'rt+jwt' || typ === 'refresh' || use.startsWith('refresh') || use === 'offline')
    return 'refresh';
  if (typ === 'at+jwt' || use === 'access' || use === 'bearer') return 'access';
  if (typ === 'id+jwt' || use === 'id') return 'id';
  const idTokenMarks = [
    'nonce',
    'at_hash',
    'c_hash',
    's_hash',
    'azp',
    'auth_time',
    'email_verified',
  ];
  const marks = idTokenMarks.filter((claim) => payload[claim] !== undefined).length;
  const grants = ['scope', 'scp', 'client_id'].some((claim) => payload[claim] !== undefined);
  if (!grants && (payload['at_hash'] !== undefined || payload['nonce'] !== undefined || marks >= 2))
    return 'id';
  return grants ? 'access' : 'unknown';
}

function lower(value: unknown): string {
  return typeof value === 'string' ? value.toLowerCase() : '';
}
