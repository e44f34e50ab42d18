import { assertKnown } from '@countersign/options';
import { tokenRevocation } from 'openid-client';
import { AccessToken } from './access-token.ts';
import { reporting } from './events.ts';
import { type ConfiguredClient, clientFor } from './oauth-client.ts';

export interface RevocationOptions {
  /** What the token is, if that helps the server find it. */
  readonly tokenTypeHint?: 'access_token' | 'refresh_token';
}

/**
 * Revokes a token (RFC 7009). Resolves when the server has done so, also for a token it does not know. When it rejects,
 * the token must be taken to be still valid: a 503 says so in as many words.
 * @throws OAuthError
 */
export async function revokeToken(
  options: ConfiguredClient,
  token: string | AccessToken,
  hints: RevocationOptions = {},
): Promise<void> {
  assertKnown(hints, { tokenTypeHint: true });
  const { tokenTypeHint } = hints;
  const value = token instanceof AccessToken ? token.value : token;
  if (typeof value !== 'string' || value === '') throw new TypeError('token must be a token');
  const client = clientFor(options);
  const hint = tokenTypeHint && { token_type_hint: tokenTypeHint };
  await reporting(client, 'revocation', () =>
    client.ask({
      endpoint: 'revocation_endpoint',
      grantType: 'revocation',
      repeatable: () => true,
      ask: (configuration) => tokenRevocation(configuration, value, hint),
    }),
  );
}
