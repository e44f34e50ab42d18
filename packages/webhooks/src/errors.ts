/** Why a webhook was refused, or could not be sent. Each is explained in the README. */
export type WebhookErrorCode =
  | 'ERR_WEBHOOKS_BODY_PARSED'
  | 'ERR_WEBHOOKS_BODY_TOO_LARGE'
  | 'ERR_WEBHOOKS_HEADER_MISSING'
  | 'ERR_WEBHOOKS_HEADER_DUPLICATE'
  | 'ERR_WEBHOOKS_HEADER_MALFORMED'
  | 'ERR_WEBHOOKS_ID_MALFORMED'
  | 'ERR_WEBHOOKS_TIMESTAMP_MALFORMED'
  | 'ERR_WEBHOOKS_TIMESTAMP_TOO_OLD'
  | 'ERR_WEBHOOKS_TIMESTAMP_TOO_NEW'
  | 'ERR_WEBHOOKS_SIGNATURE_MALFORMED'
  | 'ERR_WEBHOOKS_SIGNATURE_UNSUPPORTED'
  | 'ERR_WEBHOOKS_SIGNATURE_MISMATCH'
  | 'ERR_WEBHOOKS_PAYLOAD_NOT_JSON'
  | 'ERR_WEBHOOKS_PAYLOAD_INVALID'
  | 'ERR_WEBHOOKS_CLAIM_LOST'
  | 'ERR_WEBHOOKS_HANDLE_TIMEOUT'
  | 'ERR_WEBHOOKS_STORE_FAILED'
  | 'ERR_WEBHOOKS_SHARDS_CHANGED'
  | 'ERR_WEBHOOKS_EVENT_INVALID'
  | 'ERR_WEBHOOKS_ENDPOINT_INVALID'
  | 'ERR_WEBHOOKS_ENDPOINT_UNKNOWN'
  | 'ERR_WEBHOOKS_DELIVERY_UNKNOWN'
  | 'ERR_WEBHOOKS_ATTEMPT_TIMEOUT'
  | 'ERR_WEBHOOKS_PEER_MISSING'
  | 'ERR_WEBHOOKS_OVERLOADED'
  | 'ERR_WEBHOOKS_CLOSED';

/** The only error that this package throws for what came from outside. `message` never contains a secret or a payload. */
export class WebhookError extends Error {
  override readonly name = 'WebhookError';
  readonly code: WebhookErrorCode;

  constructor(code: WebhookErrorCode, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}
