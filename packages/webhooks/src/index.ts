export type { AdmissionOptions, Incoming, Webhook } from './admission.ts';
export type { AttemptOutcome } from './attempt.ts';
export { type AttemptSettings, clientErrors } from './attempter.ts';
export type { Target, WebhookDispatcher } from './endpoint.ts';
export {
  type Endpoint,
  type EndpointChanges,
  type EndpointSecret,
  type EndpointStore,
  memoryEndpointStore,
  rotatedSecrets,
  type SecretRotation,
  type SecretRotationOutcome,
} from './endpoint-store.ts';
export {
  createEndpoints,
  type EndpointSettings,
  type Endpoints,
  type EndpointsOptions,
} from './endpoints.ts';
export { WebhookError, type WebhookErrorCode } from './errors.ts';
export type { WebhookEvent } from './event.ts';
export type {
  AttemptEvent,
  DeliveryEvent,
  EndpointEvent,
  ProcessedEvent,
  ReceivedEvent,
} from './events.ts';
export type { HeaderLookup, HeadersInput } from './headers.ts';
export type { Secrets, SecretsProvider } from './keys.ts';
export { type MemoryReplayStoreOptions, memoryReplayStore } from './memory.ts';
export { bodyDigest, jsonField, parsePayload, type StandardSchema } from './payload.ts';
export type { Answer } from './problem.ts';
export {
  createReceiver,
  type HandOverOptions,
  type ProcessingOptions,
  type Receipt,
  type Receiver,
  type ReceiverOptions,
} from './receiver.ts';
export { defaultSchedule, type Schedule, type ScheduleOptions } from './schedule.ts';
export type { IdSource, Scheme, Signature, SignatureHeader } from './scheme.ts';
export { type GithubOptions, github } from './schemes/github.ts';
export { type ShopifyOptions, shopify } from './schemes/shopify.ts';
export { type SlackOptions, slack } from './schemes/slack.ts';
export { standardWebhooks } from './schemes/standard-webhooks.ts';
export { type StripeOptions, stripe } from './schemes/stripe.ts';
export { type TimestampedHmacOptions, timestampedHmac } from './schemes/timestamped-hmac.ts';
export {
  type Algorithm,
  generateKeyPair,
  generateSecret,
  type KeyUse,
  publicKeyOf,
  type SchemeKey,
  type Secret,
} from './secret.ts';
export {
  createSender,
  type Delivery,
  type DeliveryResult,
  type Sender,
  type SenderOptions,
} from './sender.ts';
export {
  type AsyncSigner,
  createSigner,
  type Message,
  type SignedHeaders,
  type Signer,
  type SignerOptions,
} from './signer.ts';
export type { Claim, ReplayStore } from './store.ts';
export {
  type AsyncVerifier,
  createVerifier,
  type Verified,
  type Verifier,
  type VerifierOptions,
} from './verifier.ts';
