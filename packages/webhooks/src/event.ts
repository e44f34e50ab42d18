import { randomBytes } from 'node:crypto';
import { WebhookError } from './errors.ts';
import { assertBytes, assertId } from './signer.ts';

/** Something that happened, to be told to endpoints. Has a `payload` or a `body`, not both. */
export interface WebhookEvent {
  /** The same on every attempt and for every endpoint; default a new `msg_…`. Without a full stop, up to 256 characters. */
  readonly id?: string;
  /** Such as `invoice.paid`; endpoints subscribe to types. Up to 256 characters. */
  readonly type?: string;
  /** Written as JSON, once. */
  readonly payload?: unknown;
  /** The exact bytes to send. */
  readonly body?: Uint8Array | string;
  /** Default `application/json`. */
  readonly contentType?: string;
}

/** An event, ready to be sent. */
export interface PreparedEvent {
  readonly id: string;
  readonly type: string | undefined;
  readonly body: Uint8Array;
  readonly contentType: string;
}

const TYPE = /^[!-~]{1,256}$/;
const FIELD_VALUE = /^[\t -~]{1,256}$/;

/** @throws WebhookError `ERR_WEBHOOKS_EVENT_INVALID`, `ERR_WEBHOOKS_ID_MALFORMED` or `ERR_WEBHOOKS_BODY_PARSED`. */
export function prepareEvent(event: WebhookEvent): PreparedEvent {
  const { id = generateId(), type, contentType } = event;
  assertId(id);
  if (type !== undefined && !isText(type, TYPE)) {
    throw invalid('type must be 1 to 256 visible ASCII characters');
  }
  if (contentType !== undefined && !isText(contentType, FIELD_VALUE)) {
    throw invalid('contentType must be a media type');
  }
  return { id, type, body: bodyOf(event), contentType: contentType ?? 'application/json' };
}

/** A pattern alone would take `null` for a word. */
function isText(value: unknown, pattern: RegExp): boolean {
  return typeof value === 'string' && pattern.test(value);
}

/** A new id of 128 random bits: `msg_…`. */
export function generateId(): string {
  return `msg_${randomBytes(16).toString('base64url')}`;
}

function bodyOf({ payload, body }: WebhookEvent): Uint8Array {
  if ((payload === undefined) === (body === undefined)) {
    throw invalid('an event has either a payload or a body');
  }
  if (body !== undefined) {
    assertBytes(body);
    return typeof body === 'string' ? Buffer.from(body, 'utf8') : body;
  }
  let text: string | undefined;
  try {
    text = JSON.stringify(payload);
  } catch (cause) {
    throw invalid('the payload cannot be written as JSON', { cause });
  }
  if (text === undefined) throw invalid('the payload cannot be written as JSON');
  return Buffer.from(text, 'utf8');
}

function invalid(message: string, options?: ErrorOptions): WebhookError {
  return new WebhookError('ERR_WEBHOOKS_EVENT_INVALID', message, options);
}
