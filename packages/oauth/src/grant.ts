import { genericGrantRequest } from 'openid-client';
import { OAuthError } from './errors.ts';
import type { Call, OAuthClient } from './oauth-client.ts';
import type { ObtainedToken } from './shared-token.ts';
import type { Variant } from './token-cache.ts';
import { parseTokenResponse, type TokenResponse } from './token-response.ts';

/** Parameters that a server understands besides those of the standards. */
export type ExtraParameters = Readonly<Record<string, string>>;

const RESERVED: ReadonlySet<string> = new Set([
  'grant_type',
  'client_id',
  'client_secret',
  'client_assertion',
  'client_assertion_type',
  'scope',
  'resource',
  'audience',
  'code',
  'code_verifier',
  'redirect_uri',
  'refresh_token',
  'subject_token',
  'subject_token_type',
  'actor_token',
  'actor_token_type',
  'requested_token_type',
]);

/** @throws TypeError for what would not be sent as it is. */
export function assertParameters(parameters: ExtraParameters): void {
  if (typeof parameters !== 'object' || parameters === null) {
    throw new TypeError('parameters must be an object of strings');
  }
  for (const [name, value] of Object.entries(parameters)) {
    if (typeof value !== 'string') throw new TypeError(`parameters.${name} must be a string`);
  }
}

/** @throws TypeError for parameters that this package sets itself. */
export function checkParameters(parameters: ExtraParameters): ExtraParameters {
  assertParameters(parameters);
  const reserved = Object.keys(parameters).find((name) => RESERVED.has(name));
  if (reserved) throw new TypeError(`parameters.${reserved} has an option or is not yours`);
  return parameters;
}

/** For cache keys: their order makes no difference. */
export function canonicalParameters(parameters: ExtraParameters): readonly [string, string][] {
  return Object.entries(parameters).sort(([a], [b]) => (a < b ? -1 : 1));
}

/** The form fields every grant shares. */
export function form(
  variant: Variant,
  audience: string | undefined,
  parameters: ExtraParameters,
): URLSearchParams {
  const fields = new URLSearchParams(parameters);
  if (variant.scope !== undefined) fields.set('scope', variant.scope);
  for (const resource of variant.resource) fields.append('resource', resource);
  if (audience !== undefined) fields.set('audience', audience);
  return fields;
}

interface TokenGrantOptions {
  /** Default: after any failure. */
  readonly repeatable?: Call['repeatable'] | undefined;
  readonly worksOnce?: boolean;
}

/** Asks the token endpoint, with fields made anew each time. */
export async function tokenGrant(
  client: OAuthClient,
  grantType: string,
  fields: () => URLSearchParams | Promise<URLSearchParams>,
  { repeatable = () => true, worksOnce = false }: TokenGrantOptions = {},
): Promise<TokenResponse & { readonly receivedFromMs: number }> {
  let askedAtMs = 0;
  const response = await client.ask({
    endpoint: 'token_endpoint',
    grantType,
    worksOnce,
    repeatable,
    ask: async (configuration) => {
      // A token's life is counted from before it was asked for: never longer than the server meant.
      askedAtMs = client.now();
      return genericGrantRequest(configuration, grantType, await fields());
    },
  });
  return { ...(await boundToken(client, response)), receivedFromMs: askedAtMs };
}

/** A token response whose token is of the kind that was asked for: never Bearer where it was to be bound. */
export async function boundToken(client: OAuthClient, response: Response): Promise<TokenResponse> {
  const parsed = await parseTokenResponse(response);
  if (client.dpop && parsed.type !== 'DPoP') {
    throw new OAuthError('ERR_OAUTH_DPOP', 'the authorization server did not bind the token', {
      status: 200,
    });
  }
  if (!client.dpop && parsed.type === 'DPoP') {
    throw new OAuthError('ERR_OAUTH_DPOP', 'the token is bound to a key nobody here has', {
      status: 200,
    });
  }
  return parsed;
}

/** @param defaultSeconds - the life of a token whose server does not tell. */
export function obtained(
  response: TokenResponse & { readonly receivedFromMs: number },
  variant: Variant,
  defaultSeconds: number,
): ObtainedToken {
  return {
    value: response.accessToken,
    type: response.type,
    expiresAtMs: response.receivedFromMs + (response.expiresInSeconds ?? defaultSeconds) * 1000,
    scope: response.scope ?? variant.scope ?? '',
  };
}
