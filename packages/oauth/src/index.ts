export { AccessToken, type AccessTokenParts, type TokenType } from './access-token.ts';
export {
  type AuthorizationRequest,
  AuthorizationResult,
  authorizationCode,
  authorizationUrl,
  type PendingAuthorization,
  type Pkce,
  pkce,
  type StartedAuthorization,
} from './authorization-code.ts';
export type { ServerMetadata, ServerOptions } from './authorization-server.ts';
export {
  type ClientAuth,
  clientSecretBasic,
  clientSecretPost,
  mutualTls,
  type PrivateKeyJwtOptions,
  type Provided,
  privateKeyJwt,
  type TlsCredential,
  workloadIdentity,
} from './client-auth.ts';
export {
  type ClientCredentialsOptions,
  clientCredentials,
  type SourceOptions,
} from './client-credentials.ts';
export type { DpopKey, DpopOption, DpopRequest } from './dpop.ts';
export { OAuthError, type OAuthErrorCode, type OAuthErrorOptions } from './errors.ts';
export type {
  CacheHitEvent,
  FailureEvent,
  RenewalEvent,
  RequestEvent,
  ResourceRetryEvent,
  RetryEvent,
  TokenRetryEvent,
} from './events.ts';
export type { ExtraParameters } from './grant.ts';
export { type AccessTokenOptions, accessToken } from './interceptor.ts';
export {
  type Introspection,
  type Introspector,
  type IntrospectorOptions,
  introspector,
} from './introspection.ts';
export { type MemoryTokenStoreOptions, memoryTokenStore } from './memory.ts';
export type { ClientOptions, ConfiguredClient } from './oauth-client.ts';
export type { PrivateKeyInput } from './private-key.ts';
export { type RefreshTokenOptions, refreshToken } from './refresh-token.ts';
export { type RevocationOptions, revokeToken } from './revocation.ts';
export type { TokenRequest, TokenSource } from './source.ts';
export type { Claim, ClaimRequest, TokenStore } from './store.ts';
export { type ExchangedToken, type TokenExchangeOptions, tokenExchange } from './token-exchange.ts';
export type { TransportOptions } from './transport.ts';
