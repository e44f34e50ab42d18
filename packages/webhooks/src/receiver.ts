import { assertKnown, type OptionNames } from '@countersign/options';
import {
  type AdmissionOptions,
  admission,
  admissionOptions,
  bodySize,
  type Incoming,
  type Webhook,
} from './admission.ts';
import { assertOneOf } from './choice.ts';
import type { WebhookErrorCode } from './errors.ts';
import { receivedChannel } from './events.ts';
import type { Lease } from './lease.ts';
import { type Answer, accepted, refusal } from './problem.ts';

interface CommonReceiverOptions<T> extends AdmissionOptions<T> {
  /** Webhooks processed at the same time; beyond it they get 503 and come again. Default 1,000. */
  readonly maxInFlight?: number;
  /** Told about every failure of `handle`, `handOver` or the store after the claim. Default: the `processed` event only. */
  readonly onError?: (error: unknown, webhook: Webhook<T>) => void;
}

/** Processes in this process. */
export interface ProcessingOptions<T> extends CommonReceiverOptions<T> {
  /** Does what the webhook asks for. `signal` aborts when the claim was lost, or when it takes longer than `handleTimeoutMs`. */
  readonly handle: (webhook: Webhook<T>, signal: AbortSignal) => void | Promise<void>;
  readonly handOver?: never;
  /**
   * `'first'` (default): answers 202 and processes afterwards; when that fails or the process crashes, the sender
   * believes that all is well and will not send again. `'last'`: answers 200 after processing, 503 when it failed.
   */
  readonly acknowledge?: 'first' | 'last';
}

/** Stores the webhook in a durable queue before answering, so that nothing is lost after the 2xx. */
export interface HandOverOptions<T> extends CommonReceiverOptions<T> {
  /** Resolves once the webhook is safe, for example with `inbox.add` of `./bullmq`. `signal` as for `handle`. */
  readonly handOver: (webhook: Webhook<T>, signal: AbortSignal) => Promise<void>;
  readonly handle?: never;
  readonly acknowledge?: never;
}

export type ReceiverOptions<T = unknown> = ProcessingOptions<T> | HandOverOptions<T>;

const known: OptionNames<ProcessingOptions<unknown>> = {
  ...admissionOptions,
  maxInFlight: true,
  onError: true,
  handle: true,
  handOver: true,
  acknowledge: true,
};

/** What to answer, and when processing is over. */
export interface Receipt extends Answer {
  /** Whether this delivery is processed: neither refused nor a duplicate. */
  readonly accepted: boolean;
  /** Resolves when processing ended, well or not; never rejects. */
  readonly done: Promise<void>;
}

export interface Receiver {
  /** Never rejects: whatever goes wrong is in the answer. */
  receive(incoming: Incoming): Promise<Receipt>;
  /** Takes no more webhooks (503) and waits for those in process, `handleTimeoutMs` at most. */
  close(): Promise<void>;
}

/**
 * Receives webhooks: verify, claim the id, answer 2xx, process, complete. A webhook whose processing failed, or whose
 * process crashed, is processed when it comes again; one that was processed is not.
 * @throws TypeError when an option is missing or out of range.
 */
export function createReceiver<T = unknown>(options: ReceiverOptions<T>): Receiver {
  assertKnown(options, known);
  const { handle, handOver, acknowledge = 'first', maxInFlight = 1000 } = options;
  if ((handle === undefined) === (handOver === undefined)) {
    throw new TypeError('createReceiver needs either handle or handOver');
  }
  if (typeof (handOver ?? handle) !== 'function') {
    throw new TypeError(`${handOver ? 'handOver' : 'handle'} must be a function`);
  }
  assertOneOf('acknowledge', acknowledge, ['first', 'last']);
  if (!(Number.isInteger(maxInFlight) && maxInFlight >= 1)) {
    throw new TypeError('maxInFlight must be a whole number above 0');
  }
  const answerFirst = handle !== undefined && acknowledge !== 'last';
  const admit = admission(options);
  const inFlight = new Set<Promise<unknown>>();
  let closed = false;

  /** A listener that throws must not keep a claim from being given back. */
  function onError(error: unknown, webhook: Webhook<T>): void {
    try {
      options.onError?.(error, webhook);
    } catch (thrown) {
      process.emitWarning(thrown instanceof Error ? thrown : String(thrown));
    }
  }

  /** Whether it succeeded, in time. */
  async function run(webhook: Webhook<T>, lease: Lease): Promise<boolean> {
    const overdue = lease.overdue.then((error) => {
      onError(error, webhook);
      return false;
    });
    return await Promise.race([work(webhook, lease), overdue]);
  }

  /** Whether it succeeded, however long it took. */
  async function work(webhook: Webhook<T>, lease: Lease): Promise<boolean> {
    try {
      await (handOver ?? handle)?.(webhook, lease.signal);
    } catch (error) {
      onError(error, webhook);
      // A claim that cannot be given back now runs out by itself.
      await lease.release(error).catch((failure: unknown) => onError(failure, webhook));
      return false;
    }
    // Processed, though not remembered: to answer with an error would have it processed again.
    await lease.complete().catch((failure: unknown) => onError(failure, webhook));
    return true;
  }

  /** Nothing of it is looked at: that there is no room must not cost anything. */
  function turnAway({ body, remoteAddress }: Incoming, code: WebhookErrorCode): Receipt {
    if (receivedChannel.hasSubscribers) {
      const { scheme } = options.verifier;
      const bytes = bodySize(body);
      receivedChannel.publish({
        outcome: 'refused',
        status: 503,
        code,
        scheme: scheme.name,
        source: options.source ?? scheme.name,
        ...(bytes !== undefined && { bytes }),
        ...(remoteAddress !== undefined && { remoteAddress }),
      });
    }
    return receipt(refusal(503, 1000));
  }

  async function receive(incoming: Incoming): Promise<Receipt> {
    if (closed) return turnAway(incoming, 'ERR_WEBHOOKS_CLOSED');
    if (inFlight.size >= maxInFlight) return turnAway(incoming, 'ERR_WEBHOOKS_OVERLOADED');
    const admitted = admit(incoming);
    const settled = admitted.then(async (entry) =>
      entry.admitted ? await run(entry.webhook, entry.lease) : false,
    );
    const done = settled.then(
      () => undefined,
      () => undefined,
    );
    inFlight.add(done);
    void done.then(() => inFlight.delete(done));

    const entry = await admitted;
    if (!entry.admitted) return receipt(entry.answer);
    if (answerFirst) return { ...accepted(202), accepted: true, done };
    const answer = (await settled) ? accepted(handOver ? 202 : 200) : refusal(503, 1000);
    return { ...answer, accepted: true, done };
  }

  return {
    receive,
    async close() {
      closed = true;
      await Promise.all(inFlight);
    },
  };
}

function receipt(answer: Answer): Receipt {
  return { ...answer, accepted: false, done: Promise.resolve() };
}
