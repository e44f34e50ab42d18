import type { TLSSocket } from 'node:tls';
import type { JWK } from 'jose';
import {
  type AdapterFactory,
  type ClientMetadata,
  type Configuration,
  errors,
  type ResourceServer,
} from 'oidc-provider';
import { clientMetadata, type TestClients } from './oauth-clients.ts';
import type { SigningKey } from './oauth-keys.ts';

/** One resource server (RFC 8707) the authorization server issues tokens for. */
export interface ResourceOptions {
  /** Space separated. */
  readonly scope?: string;
  /** `jwt` (RFC 9068, RS256), the default, or `opaque`, which can be introspected. */
  readonly format?: 'jwt' | 'opaque';
  readonly lifetimeSeconds?: number;
}

export interface OAuthServerOptions {
  /** Default 0: any free port. */
  readonly port?: number;
  /** Default `127.0.0.1`. */
  readonly host?: string;
  /** Lifetime of access tokens; default 600, at most 900. */
  readonly accessTokenSeconds?: number;
  /** Default seven days. */
  readonly refreshTokenSeconds?: number;
  /** What every resource grants, space separated; default `orders:read orders:write payments:read payments:write`. */
  readonly scope?: string;
  /** Used when a request names no `resource`. Without it such a token is opaque. */
  readonly defaultResource?: string;
  /** The resources there are. Without it, any absolute URI is one. */
  readonly resources?: Readonly<Record<string, ResourceOptions>>;
  /** Demand a DPoP nonce at the token endpoint (RFC 9449 §8); default false. */
  readonly dpopNonceRequired?: boolean;
  /** Registered besides the clients of {@link TestClients}. */
  readonly clients?: readonly ClientMetadata[];
  /**
   * Serve https, asking for (not requiring) client certificates; enables mutual TLS (RFC 8705) with an alias of the
   * token endpoint at 127.0.0.1. PEM.
   */
  readonly tls?: { readonly key: string; readonly cert: string; readonly host?: string };
  /** Anything else oidc-provider understands; wins over what this file sets. */
  readonly configuration?: Configuration;
}

/** What a server makes for itself, and keeps when its keys rotate. */
export interface ProviderParts {
  readonly issuer: string;
  readonly clients: TestClients;
  readonly storage: AdapterFactory;
  /** 32 bytes, for nonces and cookies. */
  readonly secret: Buffer;
  /** The first one signs. */
  readonly keys: readonly (SigningKey & { readonly jwk: JWK })[];
}

export const ACCESS_TOKEN_SECONDS = 600;
export const DEFAULT_SCOPE = 'orders:read orders:write payments:read payments:write';

/** How oidc-provider is set up: everything on that the tests need, and nothing left to its development defaults. */
export function providerConfiguration(
  options: OAuthServerOptions,
  parts: ProviderParts,
): Configuration {
  const lifetime = options.accessTokenSeconds ?? ACCESS_TOKEN_SECONDS;
  return {
    adapter: parts.storage,
    clients: [...clientMetadata(parts.clients), ...(options.clients ?? [])],
    clientAuthMethods: [
      'client_secret_basic',
      'client_secret_post',
      'private_key_jwt',
      ...(options.tls ? (['self_signed_tls_client_auth'] as const) : []),
      'none',
    ],
    ...(options.tls
      ? {
          discovery: {
            mtls_endpoint_aliases: {
              token_endpoint: `https://127.0.0.1:${new URL(parts.issuer).port}/token`,
            },
          },
        }
      : {}),
    cookies: { keys: [parts.secret.toString('hex')] },
    jwks: { keys: parts.keys.map(({ jwk }) => jwk) } as NonNullable<Configuration['jwks']>,
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      dPoP: {
        enabled: true,
        nonceSecret: parts.secret,
        requireNonce: () => options.dpopNonceRequired ?? false,
      },
      introspection: { enabled: true, allowedPolicy: () => true },
      revocation: {
        enabled: true,
        allowedPolicy: (_ctx, client, token) => token.clientId === client.clientId,
      },
      resourceIndicators: {
        enabled: true,
        defaultResource: (_ctx, _client, oneOf) => oneOf?.[0] ?? options.defaultResource ?? [],
        useGrantedResource: () => true,
        getResourceServerInfo: (_ctx, uri) =>
          resourceServer(options, uri, parts.keys[0]?.kid ?? ''),
      },
      userinfo: { enabled: false },
      ...(options.tls ? { mTLS: mutualTls() } : {}),
    },
    findAccount: (_ctx, sub) => ({ accountId: sub, claims: () => ({ sub }) }),
    interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
    issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
    expiresWithSession: () => false,
    pkce: { required: () => true },
    rotateRefreshToken: () => true,
    scopes: ['openid', 'offline_access'],
    ttl: {
      AccessToken: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? lifetime,
      ClientCredentials: (_ctx, token) => token.resourceServer?.accessTokenTTL ?? lifetime,
      AuthorizationCode: 60,
      Grant: 14 * 86_400,
      IdToken: 600,
      Interaction: 600,
      RefreshToken: options.refreshTokenSeconds ?? 7 * 86_400,
      Session: 86_400,
    },
    ...options.configuration,
  };
}

function resourceServer(options: OAuthServerOptions, uri: string, kid: string): ResourceServer {
  const known = options.resources?.[uri];
  if (options.resources && !known) throw new errors.InvalidTarget();
  const common = {
    scope: known?.scope ?? options.scope ?? DEFAULT_SCOPE,
    audience: uri,
    accessTokenTTL: known?.lifetimeSeconds ?? options.accessTokenSeconds ?? ACCESS_TOKEN_SECONDS,
  };
  return known?.format === 'opaque'
    ? { ...common, accessTokenFormat: 'opaque' as const }
    : {
        ...common,
        accessTokenFormat: 'jwt' as const,
        jwt: { sign: { alg: 'RS256' as const, kid } },
      };
}

function mutualTls() {
  return {
    enabled: true,
    certificateBoundAccessTokens: true,
    selfSignedTlsClientAuth: true,
    getCertificate: (ctx: { socket: unknown }) => {
      const { raw } = (ctx.socket as TLSSocket).getPeerCertificate();
      if (!raw) return undefined;
      const base64 = raw.toString('base64').replace(/.{64}/g, '$&\n');
      return `-----BEGIN CERTIFICATE-----\n${base64}\n-----END CERTIFICATE-----\n`;
    },
  };
}
