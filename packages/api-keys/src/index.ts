export {
  type ApiKeys,
  type ApiKeysOptions,
  createApiKeys,
  type DueRequest,
  type RevokeOptions,
} from './api-keys.ts';
export type { AuditEntry } from './audit.ts';
export type { KeyCacheOptions } from './cache.ts';
export { ApiKeysError, type ApiKeysErrorCode } from './errors.ts';
export type { ApiKeysEvents } from './events.ts';
export { type GithubKeysOptions, githubKeys, type ReportKeys } from './github-keys.ts';
export type { CreateKey, MaxAgeDays } from './issue.ts';
export type { CreatedKey, RotateOptions } from './issuer.ts';
export { type KeyFormatOptions, type ParsedKey, parseKey } from './key-format.ts';
export {
  createLeakReceiver,
  type LeakFeedback,
  type LeakReceiver,
  type LeakReceiverOptions,
  type ReportHeaders,
} from './leak-receiver.ts';
export type { ImportHash, Legacy, LegacyClaim } from './legacy.ts';
export { type MemoryApiKeyStoreOptions, memoryApiKeyStore } from './memory.ts';
export type { Pepper, PepperSecret } from './pepper.ts';
export type { KeyRateLimit, KeyRecord, StoredKey } from './record.ts';
export {
  type SecretScanningRules,
  secretScanningPattern,
  secretScanningRules,
} from './scanning.ts';
export {
  type ApiKeyStore,
  type ChangeListener,
  type Page,
  type PageRequest,
  pageLimit,
  type Revocation,
  type Rotation,
  type RotationOutcome,
  rotationRefusal,
} from './store.ts';
export type { Refusal, Verifier, VerifyOptions, VerifyResult } from './verify.ts';
