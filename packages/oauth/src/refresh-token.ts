import { createHash } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import { type SourceOptions, seconds, sourceOptions } from './client-credentials.ts';
import { canonicalParameters, checkParameters } from './grant.ts';
import { oauthClient } from './oauth-client.ts';
import { assertText } from './options.ts';
import { rotation } from './rotation.ts';
import { cacheKey } from './shared-token.ts';
import type { TokenSource } from './source.ts';
import { assertStore, type TokenStore } from './store.ts';
import { tokenCache, variantOf } from './token-cache.ts';

export interface RefreshTokenOptions extends SourceOptions {
  /** The refresh token of the grant, as the authorization code exchange gave it. Where the store knows a later one, that is used. */
  readonly initial: string;
  /**
   * Where the current refresh token lives. All processes that hold this grant must share one store, and it must keep
   * what it acknowledged. With `memoryTokenStore()` the grant lasts as long as the process.
   */
  readonly store: TokenStore;
  /** How long the store keeps a refresh token that is not used; each use begins anew. Default seven days. */
  readonly refreshLifetimeSeconds?: number;
  /**
   * For servers that accept a used refresh token again for a while: within this time a rotation whose outcome is not
   * known is done again. Default 0: never, because where reuse is detected it revokes the grant.
   */
  readonly reuseGraceSeconds?: number;
}

const names: OptionNames<RefreshTokenOptions> = {
  ...sourceOptions,
  initial: true,
  store: true,
  refreshLifetimeSeconds: true,
  reuseGraceSeconds: true,
};
const GRANT_TYPE = 'refresh_token';

/**
 * Tokens of a grant that a refresh token stands for (RFC 6749 §6), which is replaced at every use (RFC 9700 §4.14).
 * One process at a time uses the refresh token, and before it does it writes down that it will. When an answer is lost,
 * `getToken()` rejects with `ERR_OAUTH_ROTATION_AMBIGUOUS`: the grant must be obtained anew.
 * @throws TypeError naming the option that is wrong, or that there is not; OAuthError `ERR_OAUTH_INSECURE_URL`.
 */
export function refreshToken(options: RefreshTokenOptions): TokenSource {
  assertKnown(options, names);
  assertText(options, 'audience');
  const { initial, store, audience, reuseGraceSeconds = 0 } = options;
  if (typeof initial !== 'string' || initial === '') {
    throw new TypeError('initial must be a refresh token');
  }
  assertStore(store);
  if (!(Number.isFinite(reuseGraceSeconds) && reuseGraceSeconds >= 0)) {
    throw new TypeError('reuseGraceSeconds must be a number of seconds, 0 for never');
  }
  const client = oauthClient(options);
  const parameters = checkParameters(options.parameters ?? {});
  const { issuer, clientId } = client;
  const grant = createHash('sha256').update(initial).digest('base64url');
  const rotate = rotation({
    client,
    store,
    initial,
    audience,
    parameters,
    defaultExpiresInSeconds: seconds(options, 'defaultExpiresInSeconds', 300),
    refreshLifetimeMs: seconds(options, 'refreshLifetimeSeconds', 604_800) * 1000,
    reuseGraceMs: reuseGraceSeconds * 1000,
    // The grant, not its current token, is what processes share: the first token names it. A new client key or another
    // audience must find the token that the last one left, or it would use the first again.
    key: cacheKey({ grantType: GRANT_TYPE, issuer, clientId, grant }),
    tokenKey: async (variant) =>
      cacheKey({
        auth: await client.identity(),
        dpop: client.dpop?.thumbprint,
        audience,
        parameters: canonicalParameters(parameters),
        variant,
      }),
  });
  return tokenCache({
    issuer,
    clientId,
    defaults: variantOf(options.scope, options.resource),
    renewBeforeSeconds: seconds(options, 'renewBeforeSeconds', 60),
    now: client.now,
    renew: rotate,
  });
}
