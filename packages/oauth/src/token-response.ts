import type { TokenType } from './access-token.ts';
import { OAuthError } from './errors.ts';
import { parseJsonObject } from './json.ts';

/** A successful answer of the token endpoint (RFC 6749 §5.1), checked. */
export interface TokenResponse {
  readonly accessToken: string;
  readonly type: TokenType;
  readonly expiresInSeconds?: number;
  readonly scope?: string;
  readonly refreshToken?: string;
  readonly idToken?: string;
  readonly issuedTokenType?: string;
}

/** A year. What claims to live longer has its units wrong. */
const MAX_EXPIRES_IN_SECONDS = 31_536_000;

/** @throws OAuthError `ERR_OAUTH_RESPONSE`, which names the member and not its value. */
export async function parseTokenResponse(response: Response): Promise<TokenResponse> {
  const body = await parseJsonObject(response, 'ERR_OAUTH_RESPONSE', 'the token response');
  const accessToken = text(body, 'access_token');
  if (accessToken === undefined) throw invalid('access_token', 'missing');
  const type = TYPES[text(body, 'token_type')?.toLowerCase() ?? ''];
  if (!type) throw invalid('token_type', 'neither Bearer nor DPoP');
  const expiresIn = body['expires_in'];
  if (
    expiresIn !== undefined &&
    !(
      Number.isInteger(expiresIn) &&
      Number(expiresIn) > 0 &&
      Number(expiresIn) <= MAX_EXPIRES_IN_SECONDS
    )
  ) {
    throw invalid('expires_in', `not a whole number from 1 to ${MAX_EXPIRES_IN_SECONDS}`);
  }
  const optional = {
    expiresInSeconds: expiresIn as number | undefined,
    scope: typeof body['scope'] === 'string' ? body['scope'] : undefined,
    // Some servers write null for what they leave out. For a refresh token the difference is a grant.
    refreshToken: body['refresh_token'] === null ? undefined : text(body, 'refresh_token'),
    idToken: body['id_token'] === null ? undefined : text(body, 'id_token'),
    issuedTokenType: text(body, 'issued_token_type'),
  };
  const present = Object.entries(optional).filter(([, value]) => value !== undefined);
  return { accessToken, type, ...Object.fromEntries(present) };
}

const TYPES: Readonly<Record<string, TokenType>> = { bearer: 'Bearer', dpop: 'DPoP' };

/** Visible ASCII: what may stand in a header (RFC 6749 appendix A, RFC 6750 §2.1). */
function text(body: Record<string, unknown>, member: string): string | undefined {
  const value = body[member];
  if (value === undefined) return undefined;
  if (typeof value !== 'string' || !/^[\x21-\x7e]+$/.test(value)) {
    throw invalid(member, 'not a string of visible characters');
  }
  return value;
}

function invalid(member: string, problem: string): OAuthError {
  return new OAuthError('ERR_OAUTH_RESPONSE', `${member} in the token response is ${problem}`, {
    status: 200,
  });
}
