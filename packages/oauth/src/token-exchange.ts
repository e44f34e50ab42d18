import { createHash } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import { type SourceOptions, seconds, sourceOptions } from './client-credentials.ts';
import { OAuthError } from './errors.ts';
import { canonicalParameters, checkParameters, form, obtained, tokenGrant } from './grant.ts';
import { oauthClient } from './oauth-client.ts';
import { assertText } from './options.ts';
import { cacheKey, renewShared } from './shared-token.ts';
import type { TokenSource } from './source.ts';
import { assertStore, type TokenStore } from './store.ts';
import { tokenCache, variantOf } from './token-cache.ts';

/** A token that is exchanged: as it is, with its type if it is no access token, or from a source of its own. */
export type ExchangedToken =
  | string
  | { readonly value: string; readonly tokenType: string }
  | TokenSource;

export interface TokenExchangeOptions extends SourceOptions {
  /** Whose authority the new token carries. One source per subject: everybody who asks it gets that subject's token. */
  readonly subjectToken: ExchangedToken;
  /** Who acts on the subject's behalf. */
  readonly actorToken?: ExchangedToken;
  /** Default: the server decides. */
  readonly requestedTokenType?: string;
  /** Where processes share the token. Default: this process keeps its own. */
  readonly store?: TokenStore;
}

const names: OptionNames<TokenExchangeOptions> = {
  ...sourceOptions,
  subjectToken: true,
  actorToken: true,
  requestedTokenType: true,
  store: true,
};
const GRANT_TYPE = 'urn:ietf:params:oauth:grant-type:token-exchange';
const ACCESS_TOKEN = 'urn:ietf:params:oauth:token-type:access_token';
/** What may come back and be used as an access token. */
const USABLE: ReadonlySet<string> = new Set([ACCESS_TOKEN, 'urn:ietf:params:oauth:token-type:jwt']);

/**
 * Tokens got in exchange for others (RFC 8693): impersonation without, delegation with an actor token.
 * @throws TypeError naming the option that is wrong, or that there is not; OAuthError `ERR_OAUTH_INSECURE_URL`.
 */
export function tokenExchange(options: TokenExchangeOptions): TokenSource {
  assertKnown(options, names);
  assertText(options, 'audience');
  assertText(options, 'requestedTokenType');
  const { audience, store, requestedTokenType } = options;
  if (store !== undefined) assertStore(store);
  const subject = exchanged(options.subjectToken, 'subjectToken');
  const actor =
    options.actorToken === undefined ? undefined : exchanged(options.actorToken, 'actorToken');
  const client = oauthClient(options);
  const parameters = checkParameters(options.parameters ?? {});
  const defaultSeconds = seconds(options, 'defaultExpiresInSeconds', 300);
  return tokenCache({
    issuer: client.issuer,
    clientId: client.clientId,
    defaults: variantOf(options.scope, options.resource),
    renewBeforeSeconds: seconds(options, 'renewBeforeSeconds', 60),
    now: client.now,
    renew: async (variant, generation) => {
      const tokens = Promise.all([subject(), actor?.()]);
      const [given, acting] = await client.within(tokens, 'ERR_OAUTH_TIMEOUT', 'the subject token');
      const key = cacheKey({
        grantType: GRANT_TYPE,
        issuer: client.issuer,
        clientId: client.clientId,
        auth: await client.identity(),
        dpop: client.dpop?.thumbprint,
        audience,
        parameters: canonicalParameters(parameters),
        variant,
        requestedTokenType,
        subject: [sha256(given.value), given.tokenType],
        actor: acting && [sha256(acting.value), acting.tokenType],
      });
      return renewShared(client, store, key, generation, async (repeatable) => {
        const fields = () => {
          const body = form(variant, audience, parameters);
          body.set('subject_token', given.value);
          body.set('subject_token_type', given.tokenType);
          if (acting) {
            body.set('actor_token', acting.value);
            body.set('actor_token_type', acting.tokenType);
          }
          if (requestedTokenType !== undefined) {
            body.set('requested_token_type', requestedTokenType);
          }
          return body;
        };
        const response = await tokenGrant(client, GRANT_TYPE, fields, { repeatable });
        if (!USABLE.has(response.issuedTokenType ?? '')) {
          throw new OAuthError(
            'ERR_OAUTH_RESPONSE',
            'issued_token_type in the token response is not that of an access token',
            { status: 200 },
          );
        }
        return obtained(response, variant, defaultSeconds);
      });
    },
  });
}

function exchanged(
  token: ExchangedToken,
  option: string,
): () => Promise<{ readonly value: string; readonly tokenType: string }> {
  if (typeof token === 'object' && token !== null && 'getToken' in token) {
    return async () => ({ value: (await token.getToken()).value, tokenType: ACCESS_TOKEN });
  }
  const fixed = typeof token === 'string' ? { value: token, tokenType: ACCESS_TOKEN } : token;
  if (!fixed?.value || !fixed.tokenType) {
    throw new TypeError(`${option} must be a token, { value, tokenType } or a TokenSource`);
  }
  return async () => fixed;
}

function sha256(text: string): string {
  return createHash('sha256').update(text).digest('base64url');
}
