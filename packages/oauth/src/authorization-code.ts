import { createHash, randomBytes } from 'node:crypto';
import { assertKnown, type OptionNames } from '@countersign/options';
import {
  AuthorizationResponseError,
  clockSkew,
  expectNoNonce,
  getValidatedIdTokenClaims,
  type IDToken,
  processAuthorizationCodeResponse,
  validateAuthResponse,
} from 'oauth4webapi';
import { genericGrantRequest } from 'openid-client';
import type { AccessToken } from './access-token.ts';
import { isSecureUrl, type ServerMetadata } from './authorization-server.ts';
import { OAuthError } from './errors.ts';
import { reporting } from './events.ts';
import { assertParameters, boundToken, type ExtraParameters, form, obtained } from './grant.ts';
import { type ConfiguredClient, clientFor, type OAuthClient } from './oauth-client.ts';
import { token } from './shared-token.ts';
import { variantOf } from './token-cache.ts';

/** A proof key (RFC 7636, S256): the challenge goes with the browser, the verifier stays here. */
export interface Pkce {
  /** 43 characters, 256 random bits. */
  readonly codeVerifier: string;
  readonly codeChallenge: string;
}

export function pkce(): Pkce {
  const codeVerifier = randomBytes(32).toString('base64url');
  return {
    codeVerifier,
    codeChallenge: createHash('sha256').update(codeVerifier).digest('base64url'),
  };
}

export interface AuthorizationRequest {
  /** Exactly as registered; https, or loopback for native apps. */
  readonly redirectUri: string;
  /** Space separated. With `openid`, an ID token is asked for and checked. */
  readonly scope?: string;
  readonly resource?: string | readonly string[];
  /** Anything else, such as `prompt` or `login_hint`. */
  readonly parameters?: ExtraParameters;
}

const names: OptionNames<AuthorizationRequest> = {
  redirectUri: true,
  scope: true,
  resource: true,
  parameters: true,
};

/** What has to be there when the browser comes back. Keep it in the user's session, and use it once. */
export interface PendingAuthorization {
  readonly redirectUri: string;
  readonly state: string;
  readonly codeVerifier: string;
  readonly nonce?: string;
  readonly scope?: string;
  readonly resource?: readonly string[];
}

export interface StartedAuthorization {
  /** Where to send the browser. */
  readonly url: string;
  readonly pending: PendingAuthorization;
}

/** Parameters that make a request what it is; nobody's parameters replace them. */
const FIXED: ReadonlySet<string> = new Set([
  'client_id',
  'code_challenge',
  'code_challenge_method',
  'dpop_jkt',
  'nonce',
  'redirect_uri',
  // What a request object says replaces the rest.
  'request',
  'request_uri',
  'resource',
  'response_type',
  'scope',
  'state',
]);

/**
 * Begins an authorization code flow for an app with a backend (RFC 6749 §4.1), always with PKCE S256 and `state`.
 * @throws TypeError naming the option that is wrong; OAuthError when the server cannot do it.
 */
export async function authorizationUrl(
  options: ConfiguredClient,
  request: AuthorizationRequest,
): Promise<StartedAuthorization> {
  assertKnown(request, names);
  const { redirectUri, parameters = {} } = request;
  if (!URL.canParse(redirectUri) || !isSecureUrl(redirectUri, true)) {
    throw new TypeError('redirectUri must be an https URL, or http on loopback');
  }
  assertParameters(parameters);
  const forbidden = Object.keys(parameters).find((name) => FIXED.has(name));
  if (forbidden) throw new TypeError(`parameters.${forbidden} is set by authorizationUrl itself`);
  const variant = variantOf(request.scope, request.resource);
  const client = clientFor(options);
  const metadata = await client.metadata();
  const endpoint = metadata.authorization_endpoint;
  if (endpoint === undefined) {
    throw new OAuthError(
      'ERR_OAUTH_METADATA',
      'the authorization server has no authorization_endpoint',
    );
  }
  const methods: unknown = metadata.code_challenge_methods_supported ?? ['S256'];
  if (!(Array.isArray(methods) && methods.includes('S256'))) {
    throw new OAuthError(
      'ERR_OAUTH_METADATA',
      'the authorization server does not support PKCE S256',
    );
  }
  const { codeVerifier, codeChallenge } = pkce();
  const nonce = isOpenId(variant.scope) ? random() : undefined;
  const state = random();
  const url = new URL(endpoint);
  for (const [name, value] of form(variant, undefined, parameters)) {
    url.searchParams.append(name, value);
  }
  const fields = {
    response_type: 'code',
    client_id: client.clientId,
    redirect_uri: redirectUri,
    state,
    code_challenge: codeChallenge,
    code_challenge_method: 'S256',
    ...(nonce === undefined ? {} : { nonce }),
    // Binds the code to the key already (RFC 9449 §10).
    ...(client.dpop ? { dpop_jkt: client.dpop.thumbprint } : {}),
  };
  for (const [name, value] of Object.entries(fields)) url.searchParams.set(name, value);
  return {
    url: url.href,
    pending: {
      redirectUri,
      state,
      codeVerifier,
      ...(nonce === undefined ? {} : { nonce }),
      ...(variant.scope === undefined ? {} : { scope: variant.scope }),
      ...(variant.resource.length > 0 ? { resource: variant.resource } : {}),
    },
  };
}

/** What a code was exchanged for. Secrets show only where they are asked for. */
export class AuthorizationResult {
  readonly #refreshToken: string | undefined;
  readonly accessToken: AccessToken;
  /** The claims of the ID token, where there was one: checked, and received from the server itself. */
  declare readonly claims?: IDToken;

  constructor(accessToken: AccessToken, refreshToken?: string, claims?: IDToken) {
    this.#refreshToken = refreshToken;
    this.accessToken = accessToken;
    if (claims) this.claims = claims;
  }

  /** For `refreshToken({ initial })`. */
  get refreshToken(): string | undefined {
    return this.#refreshToken;
  }
}

/**
 * Ends an authorization code flow: checks what the browser brought back and exchanges the code, once.
 * @param callback - the URL the browser came back to, or its query.
 * @throws OAuthError `ERR_OAUTH_CALLBACK` when the answer is not for this request, or is a refusal (`error` says which), or `pending` is not whole.
 */
export async function authorizationCode(
  options: ConfiguredClient,
  callback: string | URL | URLSearchParams,
  pending: PendingAuthorization,
): Promise<AuthorizationResult> {
  const client = clientFor(options);
  return reporting(client, 'authorization_code', () => {
    assertWhole(pending);
    return exchangeCode(client, callback, pending);
  });
}

/** What a session lost of it could be a check that is not made. */
function assertWhole(pending: PendingAuthorization): void {
  const { redirectUri, state, codeVerifier, nonce, scope } = pending ?? {};
  const isWhole =
    [redirectUri, state, codeVerifier].every((part) => typeof part === 'string' && part !== '') &&
    [nonce, scope].every((part) => part === undefined || typeof part === 'string') &&
    (nonce !== undefined) === isOpenId(scope);
  if (isWhole) return;
  const message = 'pending is not what authorizationUrl gave: has the session lost some of it?';
  throw new OAuthError('ERR_OAUTH_CALLBACK', message);
}

function isOpenId(scope: string | undefined): boolean {
  return scope?.split(' ').includes('openid') ?? false;
}

async function exchangeCode(
  client: OAuthClient,
  callback: string | URL | URLSearchParams,
  pending: PendingAuthorization,
): Promise<AuthorizationResult> {
  const metadata = await client.metadata();
  // oauth4webapi judges by `Date.now`; told how far away our clock is, it judges by ours. Whole seconds, as ID tokens count them.
  const skewSeconds = Math.round((client.now() - Date.now()) / 1000);
  const self = { client_id: client.clientId, [clockSkew]: skewSeconds };
  const answer = checkCallback(metadata, self, callback, pending.state);
  let askedAtMs = 0;
  const response = await client.ask({
    endpoint: 'token_endpoint',
    grantType: 'authorization_code',
    // A code works once, and a second use revokes what the first brought (RFC 6749 §4.1.2).
    repeatable: () => false,
    worksOnce: true,
    ask: (configuration) => {
      askedAtMs = client.now();
      const fields = form(variantOf(undefined, pending.resource), undefined, {});
      fields.set('code', answer.get('code') as string);
      // To the letter as it was in the authorization request (RFC 6749 §4.1.3), which a URL that was parsed may not be.
      fields.set('redirect_uri', pending.redirectUri);
      fields.set('code_verifier', pending.codeVerifier);
      return genericGrantRequest(configuration, 'authorization_code', fields);
    },
  });
  const parsed = await boundToken(client, response.clone());
  const expected = parsed.idToken !== undefined || pending.nonce !== undefined;
  const claims = expected
    ? await idTokenClaims(metadata, self, response, pending.nonce)
    : undefined;
  const variant = variantOf(pending.scope, pending.resource);
  const fresh = obtained({ ...parsed, receivedFromMs: askedAtMs }, variant, DEFAULT_SECONDS);
  return new AuthorizationResult(token(client, fresh, 1), parsed.refreshToken, claims);
}

const DEFAULT_SECONDS = 300;

function checkCallback(
  metadata: ServerMetadata,
  client: { client_id: string },
  callback: string | URL | URLSearchParams,
  state: string,
): URLSearchParams {
  const query = queryOf(callback);
  try {
    const answer = validateAuthResponse(metadata, client, query, state);
    if (answer.getAll('code').length !== 1) throw new Error('there is not exactly one "code"');
    return answer;
  } catch (error) {
    if (error instanceof AuthorizationResponseError) {
      const message = `the authorization was refused: ${printable(error.error)}`;
      throw new OAuthError('ERR_OAUTH_CALLBACK', message, { error: printable(error.error) });
    }
    // The library's message names the parameter; its cause holds what the browser sent.
    const { message } = error as Error;
    throw new OAuthError('ERR_OAUTH_CALLBACK', `the callback is not valid: ${message}`);
  }
}

function queryOf(callback: string | URL | URLSearchParams): URLSearchParams {
  if (callback instanceof URLSearchParams) return callback;
  if (callback instanceof URL) return callback.searchParams;
  return URL.canParse(callback) ? new URL(callback).searchParams : new URLSearchParams(callback);
}

async function idTokenClaims(
  metadata: ServerMetadata,
  client: { client_id: string },
  response: Response,
  nonce: string | undefined,
): Promise<IDToken | undefined> {
  try {
    const result = await processAuthorizationCodeResponse(metadata, client, response, {
      expectedNonce: nonce ?? expectNoNonce,
    });
    return getValidatedIdTokenClaims(result);
  } catch (error) {
    const { message } = error as Error;
    throw new OAuthError('ERR_OAUTH_RESPONSE', `the ID token is not valid: ${message}`, {
      status: 200,
    });
  }
}

function printable(text: string): string {
  return text.slice(0, 64).replace(/[^\x20-\x7e]/g, '?');
}

function random(): string {
  return randomBytes(32).toString('base64url');
}
