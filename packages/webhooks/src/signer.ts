import { assertKnown, type OptionNames } from '@countersign/options';
import { WebhookError } from './errors.ts';
import { importSecrets, refreshed, type Secrets, type SecretsProvider } from './keys.ts';
import { lowerCase, type Scheme } from './scheme.ts';
import { standardWebhooks } from './schemes/standard-webhooks.ts';
import { signature } from './signature.ts';

export interface SignerOptions<S = Secrets> {
  /** One secret, or all that are active: every message is signed with each. Up to 16. */
  readonly secrets: S;
  /** Default `standardWebhooks()`. */
  readonly scheme?: Scheme;
  /** The clock, in milliseconds since the epoch. Default `Date.now`. */
  readonly now?: () => number;
}

const known: OptionNames<SignerOptions> = { secrets: true, scheme: true, now: true };

/** What is signed. */
export interface Message {
  /**
   * The event's id, the same on every attempt. Up to 256 visible ASCII characters without a full stop (which would
   * let a part of the body pass for the timestamp). Schemes without an id header do not need it.
   */
  readonly id?: string;
  /** The exact bytes that will be sent; a string stands for its UTF-8. */
  readonly body: Uint8Array | string;
  /** When this attempt is made, in milliseconds since the epoch. Default: now. Sent in whole seconds. */
  readonly timestampMs?: number;
}

/** The headers to send with the body, names in lower case. */
export type SignedHeaders = Readonly<Record<string, string>>;

export interface Signer {
  readonly scheme: Scheme;
  /** @throws WebhookError when the id or the body cannot be signed. */
  sign(message: Message): SignedHeaders;
}

export interface AsyncSigner {
  readonly scheme: Scheme;
  sign(message: Message): Promise<SignedHeaders>;
}

/**
 * Signs webhooks.
 * @throws TypeError when a secret is empty, short, not in the scheme's notation, or cannot sign.
 */
export function createSigner(options: SignerOptions<SecretsProvider>): AsyncSigner;
export function createSigner(options: SignerOptions): Signer;
export function createSigner(
  options: SignerOptions<Secrets | SecretsProvider>,
): Signer | AsyncSigner {
  assertKnown(options, known);
  const { secrets, scheme = standardWebhooks() } = options;
  if (typeof secrets !== 'function') return fixedSigner({ ...options, secrets });
  const current = refreshed(secrets, (list) => fixedSigner({ ...options, secrets: list }));
  return { scheme, sign: async (message) => (await current()).sign(message) };
}

function fixedSigner(options: SignerOptions): Signer {
  const { secrets, scheme = standardWebhooks(), now = Date.now } = options;
  const keys = importSecrets(secrets, scheme, 'sign');
  const {
    id: idHeader,
    timestamp: timestampHeader,
    signature: signatureHeader,
  } = lowerCase(scheme);

  return {
    scheme,
    sign({ id, body, timestampMs = now() }) {
      assertBytes(body);
      if (idHeader !== undefined) assertId(id);
      const seconds = Math.floor(timestampMs / 1000);
      if (!(seconds >= 0 && seconds <= LAST_SECOND)) {
        throw new WebhookError(
          'ERR_WEBHOOKS_TIMESTAMP_MALFORMED',
          'timestampMs must be milliseconds since the epoch',
        );
      }
      const timestamp = String(seconds);
      const prefix = scheme.prefix(id ?? '', timestamp);
      const signatures = keys.map((key) => ({
        algorithm: key.algorithm,
        value: signature(key, prefix, body, scheme.encoding),
      }));
      const headers: Record<string, string> = {};
      if (idHeader !== undefined) headers[idHeader] = id as string;
      if (timestampHeader !== undefined) headers[timestampHeader] = timestamp;
      headers[signatureHeader] = scheme.format(signatures, timestamp);
      return headers;
    },
  };
}

// Strict: parseInt and Number would also read "123abc", "1e9", " 5" and "0x1f".
const TIMESTAMP = /^(?:0|[1-9][0-9]{0,11})$/;
const LAST_SECOND = 999_999_999_999;
// Visible ASCII without the full stop that separates the signed parts.
const NOT_IN_ID = /[^!-\-/-~]/;

/** Whether text is whole seconds since the epoch, written the one canonical way. */
export function isTimestamp(text: string): boolean {
  return TIMESTAMP.test(text);
}

/** @throws WebhookError (`ERR_WEBHOOKS_ID_MALFORMED`) unless it can be an id. */
export function assertId(id: unknown): asserts id is string {
  if (typeof id === 'string' && id !== '' && id.length <= 256 && !NOT_IN_ID.test(id)) return;
  throw new WebhookError(
    'ERR_WEBHOOKS_ID_MALFORMED',
    'a webhook id must be 1 to 256 visible ASCII characters without a full stop',
  );
}

/** @throws WebhookError (`ERR_WEBHOOKS_BODY_PARSED`) when the body is anything but bytes or text. */
export function assertBytes(body: unknown): asserts body is Uint8Array | string {
  if (typeof body === 'string' || body instanceof Uint8Array) return;
  throw new WebhookError(
    'ERR_WEBHOOKS_BODY_PARSED',
    `the body must be the exact bytes that travel, as a Buffer, Uint8Array or string, but is ${kindOf(body)}. ` +
      'A signature covers bytes: once a body parser such as express.json() has turned them into an object they ' +
      'cannot be restored. Read the raw body before any parser runs, for example with express.raw().',
  );
}

/** What was given instead of a body, and what to do about it where that is plain. */
function kindOf(body: unknown): string {
  if (body === null) return 'null';
  if (Array.isArray(body)) return 'an array';
  if (body instanceof Promise) return 'a Promise: await it';
  if (body instanceof ArrayBuffer) return 'an ArrayBuffer: pass new Uint8Array(buffer)';
  return `a value of type ${typeof body}`;
}
