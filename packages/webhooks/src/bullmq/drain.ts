import type { AttemptOutcome } from '../attempt.ts';
import type { Attempter } from '../attempter.ts';
import { deliveryChannel, endpointChannel } from '../events.ts';
import type { NextDelay } from '../schedule.ts';
import type { Directory } from './directory.ts';
import type { BreakerSettings, Claimed, Ledger, Settlement, TurnRequest } from './ledger.ts';
import type { Payloads } from './payloads.ts';

export interface DrainSettings {
  readonly ledger: Ledger;
  readonly payloads: Payloads;
  readonly directory: Directory;
  readonly attempter: Attempter;
  readonly nextDelay: NextDelay;
  readonly maxRetryAfterMs: number;
  readonly breaker: BreakerSettings;
  /** Longer than any attempt: what was claimed comes back when its worker is gone. */
  readonly leaseMs: number;
  /** After this long, other endpoints get their turn. */
  readonly sliceMs: number;
  readonly logEntries: number;
  readonly logMs: number;
  readonly now: () => number;
}

/** How long something new waits, at most, behind an attempt that hangs. */
const LOOK_AGAIN_MS = 500;

interface Settled {
  readonly settlement: Settlement;
  readonly event: string;
}

/**
 * Delivers what is due for one endpoint, as many at a time as it may have, until nothing is, the time slice is over,
 * or `stop` aborts. Each step settles all attempts that ended and claims the next ones in one round trip.
 * @returns when to come back, in milliseconds since the epoch; `undefined` for never.
 */
export async function drain(
  endpointId: string,
  seq: number,
  stop: AbortSignal,
  settings: DrainSettings,
): Promise<number | undefined> {
  const { ledger, payloads, directory, breaker, leaseMs, logEntries, logMs, now } = settings;
  const sliceEndsAtMs = now() + settings.sliceMs;
  const destination = await directory.find(endpointId);
  if (!destination) {
    const pending = await ledger.forget(endpointId);
    endpointChannel.publish({ endpoint: endpointId, change: 'removed', pending });
    return undefined;
  }
  const { concurrency = 10, fifo = false, maxPerSecond = 0 } = destination.endpoint;
  let settled: Settled[] = [];
  let running = 0;
  let wakeUp = (): void => undefined;

  function start(claim: Claimed): void {
    running += 1;
    void deliver(claim, settings, endpointId).then((settlement) => {
      running -= 1;
      settled.push({ settlement, event: claim.event });
      wakeUp();
    });
  }

  for (;;) {
    const isOver = stop.aborted || now() >= sliceEndsAtMs;
    const settling = settled;
    settled = [];
    const request: TurnRequest = {
      endpoint: endpointId,
      seq,
      want: isOver ? 0 : concurrency - running,
      running,
      leaseMs,
      fifo,
      maxPerSecond,
      logEntries,
      logMs,
      settled: settling.map(({ settlement }) => settlement),
      breaker,
    };
    const turn = await persistently(() => ledger.turn(request), leaseMs);
    for (const event of turn.ended) {
      // A release that is lost costs memory until the payload's retention ends, nothing else.
      void payloads.release(event, 1).catch(() => undefined);
    }
    report(endpointId, settling, turn.change);
    for (const claim of turn.claimed) start(claim);
    if (turn.next === 'rest' && running === 0) return turn.atMs;
    if (turn.next === 'done' && running === 0) return undefined;
    if (turn.next === 'stale' && running === 0) return undefined;
    if (settled.length === 0) {
      // Something new may become due while an attempt hangs.
      const hasRoom = !isOver && !fifo && running < concurrency;
      let timer: NodeJS.Timeout | undefined;
      await new Promise<void>((resolve) => {
        wakeUp = resolve;
        if (hasRoom) timer = setTimeout(resolve, LOOK_AGAIN_MS);
      });
      clearTimeout(timer);
    }
    // What ends in the same turn of the event loop is settled in one round trip.
    await new Promise(setImmediate);
  }
}

/** While Redis is away, what was delivered must not be forgotten: nobody else sends it again before the lease ends. */
async function persistently<T>(operation: () => Promise<T>, forMs: number): Promise<T> {
  const giveUpAt = performance.now() + forMs;
  for (;;) {
    try {
      return await operation();
    } catch (error) {
      if (performance.now() > giveUpAt) throw error;
      await new Promise((resolve) => setTimeout(resolve, 250));
    }
  }
}

/** Makes one attempt, and says what it means for the delivery. Never rejects. */
async function deliver(
  { event: eventId, attempts }: Claimed,
  settings: DrainSettings,
  endpointId: string,
): Promise<Settlement> {
  const { payloads, directory, attempter } = settings;
  const number = attempts + 1;
  try {
    const [event, destination] = await Promise.all([
      payloads.get(eventId),
      directory.find(endpointId),
    ]);
    if (!event) return { event: eventId, kind: 'dead', attempts, reason: 'payload-expired' };
    if (!destination) return { event: eventId, kind: 'defer', attempts };
    const outcome = await attempter.attempt(event, destination.target, number);
    return settlementOf(eventId, outcome, settings);
  } catch (error) {
    // Redis is away, or the endpoint cannot be signed for: nothing was sent, so nothing was used up.
    const { code } = error as { code?: unknown };
    const log = JSON.stringify({
      attempt: number,
      verdict: 'failed',
      error: typeof code === 'string' ? code : 'ERR_UNKNOWN',
    });
    return { event: eventId, kind: 'defer', attempts, penaltyMs: 1000, log };
  }
}

function settlementOf(
  event: string,
  outcome: AttemptOutcome,
  { nextDelay, maxRetryAfterMs }: DrainSettings,
): Settlement {
  const { attempt: attempts, verdict, retryAfterMs } = outcome;
  const log = JSON.stringify(outcome);
  switch (verdict) {
    case 'delivered':
      return { event, kind: 'delivered', attempts, log };
    case 'gone':
      return { event, kind: 'gone', attempts, log };
    case 'aborted':
      return { event, kind: 'defer', attempts: attempts - 1, log };
    case 'rejected': {
      const reason = outcome.error ?? `status ${outcome.status}`;
      return { event, kind: 'dead', attempts, reason, log };
    }
    case 'failed': {
      const delayMs = nextDelay(attempts + 1);
      if (delayMs === undefined) return { event, kind: 'dead', attempts, reason: 'exhausted', log };
      const penaltyMs =
        retryAfterMs === undefined ? undefined : Math.min(retryAfterMs, maxRetryAfterMs);
      return {
        event,
        kind: 'retry',
        attempts,
        delayMs,
        log,
        ...(penaltyMs !== undefined && { penaltyMs }),
      };
    }
  }
}

function report(endpoint: string, settled: readonly Settled[], change: string): void {
  if (change !== '' && endpointChannel.hasSubscribers) {
    endpointChannel.publish({ endpoint, change: change as 'disabled' | 'enabled' });
  }
  if (!deliveryChannel.hasSubscribers) return;
  for (const { settlement } of settled) {
    if (settlement.kind !== 'delivered' && settlement.kind !== 'dead') continue;
    deliveryChannel.publish({
      eventId: settlement.event,
      endpoint,
      outcome: settlement.kind === 'dead' ? (settlement.reason ?? 'dead') : 'delivered',
      attempts: settlement.attempts,
    });
  }
}
