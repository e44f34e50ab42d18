import { assertKnown, type OptionNames } from '@countersign/options';
import type { AttemptOutcome } from './attempt.ts';
import { type AttemptSettings, attemptSettings, createAttempter, peer } from './attempter.ts';
import { type PreparedTarget, prepareTarget, type Target } from './endpoint.ts';
import { WebhookError } from './errors.ts';
import { type PreparedEvent, prepareEvent, type WebhookEvent } from './event.ts';
import { deliveryChannel } from './events.ts';
import { penalties } from './penalty.ts';
import { delays, type ScheduleOptions, scheduleOptions } from './schedule.ts';

export interface SenderOptions extends AttemptSettings, ScheduleOptions {
  /** A longer `Retry-After` counts as this, in milliseconds. Default 24 hours. */
  readonly maxRetryAfterMs?: number;
  /** Waits between attempts. Default: a timer, which keeps the process alive. */
  readonly sleep?: (ms: number, signal: AbortSignal) => Promise<void>;
}

const known: OptionNames<SenderOptions> = {
  ...attemptSettings,
  ...scheduleOptions,
  maxRetryAfterMs: true,
  sleep: true,
};

export interface Delivery {
  readonly endpoint: string | URL | Target;
  readonly event: WebhookEvent;
  /** Ends the delivery: `aborted`. */
  readonly signal?: AbortSignal;
}

/** How a delivery ended. */
export interface DeliveryResult {
  readonly eventId: string;
  readonly delivered: boolean;
  /**
   * `gone`: disable this endpoint. `rejected`: our own rules or a permanent status refused it. `exhausted`: every
   * attempt of the schedule failed. `aborted`: by the signal or by `close()`; the endpoint may have received it.
   */
  readonly outcome: 'delivered' | 'gone' | 'rejected' | 'exhausted' | 'aborted';
  readonly attempts: readonly AttemptOutcome[];
}

export interface Sender {
  /**
   * Delivers one event to one endpoint, with all its attempts. Lives in this process: what is not delivered when it
   * ends is lost (`./bullmq` is durable).
   * @throws WebhookError when the event or the endpoint is not valid, never for what the endpoint does.
   */
  deliver(delivery: Delivery): Promise<DeliveryResult>;
  /** Makes one attempt; `attempt` is its number, from 1. For schedulers of your own. */
  attempt(delivery: Delivery, attempt?: number): Promise<AttemptOutcome>;
  /** Takes no more deliveries, ends those that wait for their next attempt, and lets running attempts finish. */
  close(): Promise<void>;
}

const DAY_MS = 86_400_000;

/**
 * Sends webhooks from this process. Needs `@countersign/retry`, and `@countersign/egress` unless you pass `egress`;
 * they are loaded with the first delivery.
 * @throws TypeError when an option is out of range.
 */
export function createSender(options: SenderOptions = {}): Sender {
  assertKnown(options, known);
  const { maxRetryAfterMs = DAY_MS, now = Date.now } = options;
  if (!(maxRetryAfterMs >= 0 && maxRetryAfterMs <= 10 * DAY_MS)) {
    throw new TypeError('maxRetryAfterMs must be a number of milliseconds from 0 to 10 days');
  }
  const nextDelay = delays(options);
  const attempter = createAttempter(options);
  const leftAlone = penalties({ now });
  const closing = new AbortController();
  const running = new Set<Promise<unknown>>();

  /** Waits until an attempt may be made; `false` when the delivery was ended meanwhile. */
  async function wait(untilMs: number, label: string, signal: AbortSignal): Promise<boolean> {
    const sleep = options.sleep ?? (await defaultSleep());
    try {
      // Another delivery may have been told to leave the endpoint alone while this one waited.
      for (;;) {
        const waitMs = Math.max(untilMs, leftAlone.endsAtMs(label)) - now();
        if (signal.aborted) return false;
        if (waitMs <= 0) return true;
        await sleep(waitMs, signal);
      }
    } catch (error) {
      if (signal.aborted) return false;
      throw error;
    }
  }

  async function climb(
    event: PreparedEvent,
    target: PreparedTarget,
    signal: AbortSignal | undefined,
  ): Promise<DeliveryResult> {
    // Closing ends a wait, but not an attempt: what was sent may have been received.
    const waiting = signal ? AbortSignal.any([signal, closing.signal]) : closing.signal;
    const attempts: AttemptOutcome[] = [];
    const end = (outcome: DeliveryResult['outcome']): DeliveryResult => {
      const result = { eventId: event.id, delivered: outcome === 'delivered', outcome, attempts };
      if (deliveryChannel.hasSubscribers) {
        deliveryChannel.publish({
          eventId: event.id,
          endpoint: target.label,
          outcome,
          attempts: attempts.length,
        });
      }
      return result;
    };
    for (let attempt = 1; ; attempt += 1) {
      const delayMs = nextDelay(attempt);
      if (delayMs === undefined) return end('exhausted');
      if (!(await wait(now() + delayMs, target.label, waiting))) return end('aborted');
      const outcome = await attempter.attempt(event, target, attempt, signal);
      attempts.push(outcome);
      if (outcome.verdict !== 'failed') return end(outcome.verdict);
      if (outcome.retryAfterMs !== undefined) {
        leftAlone.add(target.label, Math.min(outcome.retryAfterMs, maxRetryAfterMs));
      }
    }
  }

  function tracked<T>(work: Promise<T>): Promise<T> {
    const settled = work.then(
      () => undefined,
      () => undefined,
    );
    running.add(settled);
    void settled.then(() => running.delete(settled));
    return work;
  }

  const assertOpen = (): void => {
    if (!closing.signal.aborted) return;
    throw new WebhookError('ERR_WEBHOOKS_CLOSED', 'the sender is closed');
  };

  return {
    async deliver({ endpoint, event, signal }) {
      assertOpen();
      const target = prepareTarget(endpoint);
      const prepared = prepareEvent(event);
      return await tracked(climb(prepared, target, signal));
    },
    async attempt({ endpoint, event, signal }, attempt = 1) {
      assertOpen();
      const target = prepareTarget(endpoint);
      return await tracked(attempter.attempt(prepareEvent(event), target, attempt, signal));
    },
    async close() {
      closing.abort();
      await Promise.all(running);
      await attempter.close();
    },
  };
}

async function defaultSleep(): Promise<(ms: number, signal: AbortSignal) => Promise<void>> {
  const { sleep } = await peer('@countersign/retry', () => import('@countersign/retry'));
  return sleep;
}
