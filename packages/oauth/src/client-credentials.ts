import { assertKnown, type OptionNames } from '@countersign/options';
import type { DpopOption } from './dpop.ts';
import {
  canonicalParameters,
  checkParameters,
  type ExtraParameters,
  form,
  obtained,
  tokenGrant,
} from './grant.ts';
import { type ClientOptions, clientOptions, oauthClient } from './oauth-client.ts';
import { assertText } from './options.ts';
import { cacheKey, renewShared } from './shared-token.ts';
import type { TokenSource } from './source.ts';
import { assertStore, type TokenStore } from './store.ts';
import { tokenCache, variantOf } from './token-cache.ts';

/** What sources of access tokens have in common. */
export interface SourceOptions extends ClientOptions {
  /** Space separated. */
  readonly scope?: string;
  /** The resource server(s) the token is for (RFC 8707). */
  readonly resource?: string | readonly string[];
  /** For servers that have `audience` instead of `resource`. */
  readonly audience?: string;
  /** Anything else this server wants in the form. */
  readonly parameters?: ExtraParameters;
  /** Bind tokens to a key (RFC 9449). Tokens that are not bound are then refused. */
  readonly dpop?: DpopOption;
  /** A token is renewed in the background this long before it expires, at the latest at half its life; default 60. */
  readonly renewBeforeSeconds?: number;
  /** The life of a token when the server does not tell it; default 300. */
  readonly defaultExpiresInSeconds?: number;
}

export const sourceOptions: OptionNames<SourceOptions> = {
  ...clientOptions,
  scope: true,
  resource: true,
  audience: true,
  parameters: true,
  dpop: true,
  renewBeforeSeconds: true,
  defaultExpiresInSeconds: true,
};

export interface ClientCredentialsOptions extends SourceOptions {
  /** Where processes share the token. Default: this process keeps its own. */
  readonly store?: TokenStore;
}

const names: OptionNames<ClientCredentialsOptions> = { ...sourceOptions, store: true };
const GRANT_TYPE = 'client_credentials';

/**
 * Tokens for the client itself (RFC 6749 §4.4).
 * @throws TypeError naming the option that is wrong, or that there is not; OAuthError `ERR_OAUTH_INSECURE_URL`.
 */
export function clientCredentials(options: ClientCredentialsOptions): TokenSource {
  assertKnown(options, names);
  assertText(options, 'audience');
  const { audience, store } = options;
  if (store !== undefined) assertStore(store);
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
      const key = cacheKey({
        grantType: GRANT_TYPE,
        issuer: client.issuer,
        clientId: client.clientId,
        auth: await client.identity(),
        dpop: client.dpop?.thumbprint,
        audience,
        parameters: canonicalParameters(parameters),
        variant,
      });
      return renewShared(client, store, key, generation, async (repeatable) => {
        const fields = () => form(variant, audience, parameters);
        const response = await tokenGrant(client, GRANT_TYPE, fields, { repeatable });
        return obtained(response, variant, defaultSeconds);
      });
    },
  });
}

/** 68 years. What is longer is no number of seconds, and Redis could not count it. */
const MAX_SECONDS = 2_147_483_647;

/** @throws TypeError when an option in seconds is not a number above 0. */
export function seconds<K extends string>(
  options: { readonly [P in K]?: number },
  name: K,
  fallback: number,
): number {
  const value = options[name] ?? fallback;
  if (!(Number.isFinite(value) && value > 0 && value <= MAX_SECONDS)) {
    throw new TypeError(`${name} must be a number of seconds above 0, at most ${MAX_SECONDS}`);
  }
  return value;
}
