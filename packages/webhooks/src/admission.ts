import type { OptionNames } from '@countersign/options';
import { assertOneOf } from './choice.ts';
import { WebhookError, type WebhookErrorCode } from './errors.ts';
import { type ReceivedEvent, receivedChannel } from './events.ts';
import type { HeadersInput } from './headers.ts';
import { holdLease, type Lease, storeKey } from './lease.ts';
import { parsePayload, type StandardSchema } from './payload.ts';
import { type Answer, accepted, refusal } from './problem.ts';
import { assertWhole } from './range.ts';
import type { ReplayStore } from './store.ts';
import { codeOf } from './thrown.ts';
import type { AsyncVerifier, Verified, Verifier } from './verifier.ts';

/** How webhooks are let in: the options that the receiver and the guard share. */
export interface AdmissionOptions<T = unknown> {
  readonly verifier: Verifier | AsyncVerifier;
  /** Remembers which ids were processed. */
  readonly store: ReplayStore;
  /** Validates the parsed payload (Standard Schema: zod, valibot, …). Default: any JSON. */
  readonly schema?: StandardSchema<T>;
  /** Keeps the ids of several senders apart in one store. Default: the scheme's name. */
  readonly source?: string;
  /** Larger bodies get 413. In bytes, default 1 MiB. */
  readonly maxBodyBytes?: number;
  /** How long a crashed process holds up the sender's retry, in milliseconds, 1,000 to 3,600,000. Default 60,000. */
  readonly leaseMs?: number;
  /**
   * How long processing may take, in milliseconds, 1 to 86,400,000; default 300,000. Then its signal aborts, it is not waited for
   * any more, and its claim is not renewed: when the lease has run out, the next delivery of the id is processed. What ends
   * after all is believed: a success is remembered, unless somebody else has claimed the id, a failure gives it back.
   */
  readonly handleTimeoutMs?: number;
  /**
   * How long a processed id is remembered, in milliseconds. Must be longer than the sender keeps on retrying
   * (`createSender` and Stripe: three days and more; `createWebhookQueue`: up to its `retentionMs` of 30 days). Default
   * 31 days.
   */
  readonly ttlMs?: number;
  /**
   * The answer to a duplicate while the first delivery is still being processed. `'conflict'` (default): 409, so that
   * the sender tries again should processing fail. `'accept'`: 200, for senders that count every 409 against you; should
   * processing fail, or the process have crashed, that delivery was the last.
   */
  readonly whileProcessing?: 'conflict' | 'accept';
  /** When the store cannot be reached: `'closed'` (default) answers 503; `'open'` processes, and duplicates get through. */
  readonly onStoreError?: 'closed' | 'open';
}

export const admissionOptions: OptionNames<AdmissionOptions> = {
  verifier: true,
  store: true,
  schema: true,
  source: true,
  maxBodyBytes: true,
  leaseMs: true,
  handleTimeoutMs: true,
  ttlMs: true,
  whileProcessing: true,
  onStoreError: true,
};

/** A webhook as it arrived. */
export interface Incoming {
  readonly body: Uint8Array | string;
  readonly headers: HeadersInput;
  /** For the audit trail. */
  readonly remoteAddress?: string;
}

/** A webhook that was let in. */
export interface Webhook<T = unknown> {
  readonly id: string;
  /** Whose id it is. */
  readonly source: string;
  /** When the attempt was signed; `undefined` for schemes without a timestamp. */
  readonly timestampMs: number | undefined;
  readonly payload: T;
  readonly body: Uint8Array | string;
  /** Which secret matched. */
  readonly keyIndex: number;
}

export type Admission<T> =
  | { readonly admitted: true; readonly webhook: Webhook<T>; readonly lease: Lease }
  | { readonly admitted: false; readonly duplicate: boolean; readonly answer: Answer };

/** Lets a webhook in, or says what to answer: verify, then claim the id, then validate. */
export type Admit<T> = (incoming: Incoming) => Promise<Admission<T>>;

const DAY_MS = 86_400_000;

/** @throws TypeError when an option is out of range, or the scheme has no id to tell duplicates by. */
export function admission<T>(options: AdmissionOptions<T>): Admit<T> {
  const {
    verifier,
    store,
    schema,
    onStoreError = 'closed',
    whileProcessing = 'conflict',
  } = options;
  // A program without types would process everything twice, or nothing, before it noticed.
  if (typeof verifier?.verify !== 'function') {
    throw new TypeError('verifier must be what createVerifier makes');
  }
  if (typeof store?.claim !== 'function') {
    throw new TypeError('store must be a replay store, such as memoryReplayStore()');
  }
  if (schema !== undefined && typeof schema?.['~standard']?.validate !== 'function') {
    throw new TypeError('schema must be a Standard Schema, such as one of zod');
  }
  const { maxBodyBytes = 1_048_576, leaseMs = 60_000, ttlMs = 31 * DAY_MS } = options;
  const { handleTimeoutMs = 300_000 } = options;
  const { source = verifier.scheme.name } = options;
  if (verifier.scheme.idFrom === undefined) {
    throw new TypeError(
      `verifier: ${verifier.scheme.name} signs no id, so duplicates cannot be told; give the scheme an idFrom, ` +
        "such as jsonField('id') or bodyDigest",
    );
  }
  assertOneOf('onStoreError', onStoreError, ['closed', 'open']);
  assertOneOf('whileProcessing', whileProcessing, ['conflict', 'accept']);
  assertWhole('maxBodyBytes', maxBodyBytes, 1, Number.MAX_SAFE_INTEGER);
  assertWhole('leaseMs', leaseMs, 1000, 3_600_000);
  assertWhole('ttlMs', ttlMs, leaseMs, 366 * DAY_MS);
  assertWhole('handleTimeoutMs', handleTimeoutMs, 1, DAY_MS);

  return async ({ body, headers, remoteAddress }) => {
    const bytes = bodySize(body);
    let verified: (Verified & { readonly id: string }) | undefined;
    const audit = (outcome: ReceivedEvent['outcome'], status: number, code?: string): void => {
      if (!receivedChannel.hasSubscribers) return;
      receivedChannel.publish({
        outcome,
        status,
        ...(code !== undefined && { code }),
        scheme: verifier.scheme.name,
        source,
        ...(verified && { id: verified.id, keyIndex: verified.keyIndex }),
        ...(bytes !== undefined && { bytes }),
        ...(remoteAddress !== undefined && { remoteAddress }),
      });
    };
    const refuse = (error: unknown): Admission<T> => {
      const { status, code, retryAfterMs } = judged(error);
      audit('refused', status, code);
      return { admitted: false, duplicate: false, answer: refusal(status, retryAfterMs) };
    };

    try {
      if (bytes !== undefined && bytes > maxBodyBytes) {
        throw new WebhookError(
          'ERR_WEBHOOKS_BODY_TOO_LARGE',
          `the body exceeds ${maxBodyBytes} bytes`,
        );
      }
      verified = (await verifier.verify(body, headers)) as Verified & { readonly id: string };
    } catch (error) {
      return refuse(error);
    }

    let token: string | undefined;
    try {
      const claim = await store.claim(storeKey(source, verified.id), leaseMs);
      if (claim.status !== 'claimed') {
        const busy = claim.status === 'processing' && whileProcessing === 'conflict';
        const answer = busy ? refusal(409, claim.retryAfterMs) : accepted(200);
        audit('duplicate', answer.status);
        return { admitted: false, duplicate: true, answer };
      }
      token = claim.token;
    } catch (cause) {
      if (onStoreError === 'closed') return refuse(storeFailure(cause));
    }

    const lease = holdLease({ store, source, leaseMs, ttlMs, handleTimeoutMs }, verified.id, token);
    try {
      const payload = await parsePayload(body, schema);
      audit('accepted', 202);
      const { id, timestampMs, keyIndex } = verified;
      return {
        admitted: true,
        webhook: { id, source, timestampMs, payload, body, keyIndex },
        lease,
      };
    } catch (error) {
      // The claim runs out by itself should the store be away now.
      await lease.release(error).catch(() => undefined);
      return refuse(error);
    }
  };
}

const STATUS: Partial<Readonly<Record<WebhookErrorCode, number>>> = {
  ERR_WEBHOOKS_BODY_TOO_LARGE: 413,
  ERR_WEBHOOKS_PAYLOAD_NOT_JSON: 400,
  ERR_WEBHOOKS_PAYLOAD_INVALID: 400,
  ERR_WEBHOOKS_STORE_FAILED: 503,
};

function judged(error: unknown): { status: number; code: string; retryAfterMs?: number } {
  // Not the webhook's fault: a provider of secrets that failed, a schema that threw.
  if (!(error instanceof WebhookError)) {
    return { status: 503, code: codeOf(error), retryAfterMs: 1000 };
  }
  const status = STATUS[error.code] ?? 403;
  return { status, code: error.code, ...(status === 503 && { retryAfterMs: 1000 }) };
}

function storeFailure(cause: unknown): WebhookError {
  if (cause instanceof WebhookError) return cause;
  return new WebhookError('ERR_WEBHOOKS_STORE_FAILED', 'the replay store failed', { cause });
}

/** `undefined` for what a body parser left behind. */
export function bodySize(body: unknown): number | undefined {
  if (typeof body === 'string') return Buffer.byteLength(body);
  return body instanceof Uint8Array ? body.byteLength : undefined;
}
