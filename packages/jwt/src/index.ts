export type { Algorithm } from './algorithms.ts';
export type { Presentation } from './binding.ts';
export type {
  AccessTokenClaims,
  Confirmation,
  GenericClaims,
  TokenHeader,
  VerifiedToken,
} from './claims.ts';
export {
  createDenylist,
  type Denylist,
  type DenylistOptions,
  type TokenIdentity,
} from './denylist.ts';
export type { DpopOptions, DpopPolicy, DpopPresentation } from './dpop.ts';
export { type DpopNonces, type DpopNoncesOptions, dpopNonces } from './dpop-nonces.ts';
export { JwtError, type JwtErrorCode } from './errors.ts';
export type {
  ClockSteppedBackEvent,
  KeyIgnoredEvent,
  KeysFailedEvent,
  KeysRefreshedEvent,
  KeysRequestReason,
  RefusedEvent,
  RequestRefusedEvent,
  StoreFailedEvent,
  VerifiedEvent,
} from './events.ts';
export type { FetchLike } from './fetch-json.ts';
export type { Finding, FindingCode, Severity } from './findings.ts';
export { type InspectOptions, inspectToken } from './inspect.ts';
export type { KeyInput } from './keys.ts';
export { type MemoryStoreOptions, memoryDenylistStore, memoryDpopReplayStore } from './memory.ts';
export {
  type ProtectedResourceMetadata,
  protectedResourceMetadata,
  protectedResourceMetadataUrl,
} from './metadata.ts';
export type {
  DenylistCheck,
  IssuerOptions,
  JwtVerifierOptions,
  KeysOptions,
  Profile,
  TokenPolicy,
} from './options.ts';
export { scopesOf } from './scopes.ts';
export type { DenylistStore, DpopReplayStore } from './store.ts';
export { type ClaimsOf, createJwtVerifier, type JwtVerifier } from './verifier.ts';
