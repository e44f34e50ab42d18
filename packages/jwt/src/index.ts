export type { Algorithm } from './algorithms.ts';
export type {
  AccessTokenClaims,
  Confirmation,
  GenericClaims,
  TokenHeader,
  VerifiedToken,
} from './claims.ts';
export { JwtError, type JwtErrorCode } from './errors.ts';
export type {
  ClockSteppedBackEvent,
  KeyIgnoredEvent,
  KeysFailedEvent,
  KeysRefreshedEvent,
  KeysRequestReason,
  RefusedEvent,
  RequestRefusedEvent,
  VerifiedEvent,
} from './events.ts';
export type { FetchLike } from './fetch-json.ts';
export type { KeyInput } from './keys.ts';
export type {
  DenylistCheck,
  IssuerOptions,
  JwtVerifierOptions,
  KeysOptions,
  Profile,
  TokenPolicy,
} from './options.ts';
export { scopesOf } from './scopes.ts';
export { type ClaimsOf, createJwtVerifier, type JwtVerifier } from './verifier.ts';
