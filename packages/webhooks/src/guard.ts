import type { Guard, GuardRequest, Reply } from '@countersign/guard';
import { assertKnown, type OptionNames } from '@countersign/options';
import {
  type AdmissionOptions,
  admission,
  admissionOptions,
  type Incoming,
  type Webhook,
} from './admission.ts';
import { receivedChannel } from './events.ts';
import { refusal } from './problem.ts';
import type { Receiver } from './receiver.ts';
import { codeOf } from './thrown.ts';

export interface WebhookGuardOptions<T = unknown> extends AdmissionOptions<T> {
  /** Which final statuses mean that the webhook was processed. Default: 200 to 299. */
  readonly completeOn?: (status: number) => boolean;
}

const known: OptionNames<WebhookGuardOptions> = { ...admissionOptions, completeOn: true };

/**
 * Verifies a webhook, claims its id and validates its payload, in this order, before the handler sees any of it.
 * The context is the {@link Webhook}. A 2xx of the handler completes the claim; any other status, or an aborted
 * request, gives it back, so that the sender's retry is processed.
 * @throws TypeError when an option is missing or out of range.
 */
export function webhookGuard<T = unknown>(options: WebhookGuardOptions<T>): Guard<Webhook<T>> {
  assertKnown(options, known);
  const { completeOn = (status: number): boolean => status >= 200 && status < 300 } = options;
  if (typeof completeOn !== 'function') throw new TypeError('completeOn must be a function');
  const admit = admission(options);
  const scheme = options.verifier.scheme.name;
  const { maxBodyBytes, source = scheme } = options;
  return async (request) => {
    const incoming = await read(request, { source, scheme, maxBodyBytes });
    if ('pass' in incoming) return incoming;
    const entry = await admit(incoming);
    if (!entry.admitted) return { pass: false, ...entry.answer };
    const { webhook, lease } = entry;
    return {
      pass: true,
      context: webhook,
      async settle({ status, aborted, refused }) {
        if (!aborted && !refused && completeOn(status)) await lease.complete();
        else await lease.release();
      },
    };
  };
}

/**
 * Mounts a receiver behind other guards (limits, for example): it answers every request itself, so that the handler
 * behind the chain is never reached.
 */
export function receiverGuard(
  receiver: Receiver,
  options: { readonly maxBodyBytes?: number; readonly source?: string } = {},
): Guard<never> {
  const { source = 'unknown', maxBodyBytes } = options;
  return async (request) => {
    const incoming = await read(request, { source, scheme: 'unknown', maxBodyBytes });
    if ('pass' in incoming) return incoming;
    const { status, headers, body } = await receiver.receive(incoming);
    return { pass: false, status, headers, ...(body !== undefined && { body }) };
  };
}

/** The request as the receiver takes it, or the refusal of a body that is too large or cannot be read. */
async function read(
  request: GuardRequest,
  {
    source,
    scheme,
    maxBodyBytes = 1_048_576,
  }: {
    readonly source: string;
    readonly scheme: string;
    readonly maxBodyBytes: number | undefined;
  },
): Promise<Incoming | Reply> {
  const { headers, remoteAddress } = request;
  const audit = (status: number, code: string): void => {
    if (!receivedChannel.hasSubscribers) return;
    receivedChannel.publish({
      outcome: 'refused',
      status,
      code,
      scheme,
      source,
      remoteAddress,
    });
  };
  // Before a byte of it is read; an honest sender states the length.
  if (Number(headers.get('content-length') ?? 0) > maxBodyBytes) {
    audit(413, 'ERR_WEBHOOKS_BODY_TOO_LARGE');
    return { pass: false, ...refusal(413) };
  }
  try {
    return { body: await request.rawBody(), headers, remoteAddress };
  } catch (error) {
    const code = codeOf(error);
    const status = STATUS[code];
    audit(status ?? 500, code);
    // A body parser that ran first is a mistake in this program: the adapter reports it and answers 500.
    if (status === undefined) throw error;
    return { pass: false, ...refusal(status) };
  }
}

/** What the adapters say of a body that its sender spoiled. */
const STATUS: Readonly<Record<string, number | undefined>> = {
  ERR_GUARD_BODY_TOO_LARGE: 413,
  ERR_GUARD_BODY_ABORTED: 400,
};
