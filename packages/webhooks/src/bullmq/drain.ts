import type { AttemptOutcome } from '../attempt.ts';
import type { Attempter } from '../attempter.ts';
import type { PreparedEvent } from '../event.ts';
import { deliveryChannel, type EndpointEvent, endpointChannel } from '../events.ts';
import type { NextDelay } from '../schedule.ts';
import { readAgainMs } from '../seal.ts';
import { codeOf } from '../thrown.ts';
import type { Directory } from './directory.ts';
import type { Ledger } from './ledger.ts';
import type { Payloads } from './payloads.ts';
import type { BreakerSettings, Claimed, Settlement, Turn } from './turn.ts';

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
/** Given up in one step, and how long before the next: nobody waits for it, and everybody else waits for Redis meanwhile. */
const LAPSE_AT_ONCE = 25;
const LAPSE_PAUSE_MS = 5;
/** The endpoint cannot be read, or not be signed for. */
const ASK_AGAIN_MS = 1000;
/**
 * Delivers what is due for one endpoint, as many at a time as it may have, until nothing is, the time slice is over,
 * or `stop` aborts. Each step settles all attempts that ended and claims the next ones in one round trip. What has waited
 * for too long, or for an endpoint that was removed, becomes a dead letter.
 * @returns after how many milliseconds to come back; `undefined` for never.
 * @throws why the endpoint cannot be read, or not be called as it is stored.
 */
export async function drain(
  endpointId: string,
  seq: number,
  stop: AbortSignal,
  settings: DrainSettings,
): Promise<number | undefined> {
  const { ledger, payloads, directory, breaker, leaseMs, logEntries, logMs } = settings;
  const sliceEndsAt = performance.now() + settings.sliceMs;
  // One that cannot be read, or not be called as it is stored, gets nothing; what waits for it still ends some day.
  const found = await directory.find(endpointId).then(
    (endpoint) => ({ endpoint }),
    (error: unknown) => ({ endpoint: undefined, error }),
  );
  const unreachable = 'error' in found;
  const removed = !unreachable && found.endpoint === undefined;
  const { concurrency = 10, fifo = false, maxPerSecond = 0 } = found.endpoint ?? {};
  let settled: Settlement[] = [];
  let running = 0;
  let wakeUp = (): void => undefined;

  function start(claim: Claimed): void {
    running += 1;
    void deliver(claim, settings, endpointId).then((settlement) => {
      running -= 1;
      settled.push(settlement);
      wakeUp();
    });
  }

  for (;;) {
    const isOver = stop.aborted || performance.now() >= sliceEndsAt;
    const settling = settled;
    settled = [];
    const request: Parameters<Ledger['turn']>[0] = {
      endpoint: endpointId,
      seq,
      removed,
      want: isOver || unreachable ? 0 : concurrency - running,
      running,
      mayLapse: isOver ? 0 : LAPSE_AT_ONCE,
      leaseMs,
      fifo,
      maxPerSecond,
      logEntries,
      logMs,
      settled: settling,
      breaker,
    };
    const turn = await persistently(() => ledger.turn(request), leaseMs);
    for (const event of turn.released) {
      // A release that is lost costs memory until the payload's life ends, nothing else.
      void payloads.release(event, 1).catch(() => undefined);
    }
    report(endpointId, settling, turn);
    for (const claim of turn.claimed) start(claim);
    const reason = removed ? 'endpoint-removed' : 'expired';
    for (const claim of turn.lapsed) settled.push({ ...claim, kind: 'lapsed', reason });
    if (turn.next !== 'run' && running === 0) {
      if (unreachable) throw found.error;
      return turn.next === 'rest' ? turn.restMs : undefined;
    }
    // It may be there again: what is left is delivered then.
    if (removed && (await directory.read(endpointId))) return 0;
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
    if (turn.lapsed.length > 0) await new Promise((resolve) => setTimeout(resolve, LAPSE_PAUSE_MS));
    // What ends in the same turn of the event loop is settled in one round trip.
    else await new Promise(setImmediate);
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
  claim: Claimed,
  settings: DrainSettings,
  endpointId: string,
): Promise<Settlement> {
  const { payloads, directory, attempter, now } = settings;
  const number = claim.attempts + 1;
  /** Nothing was sent, so nothing is used up. */
  const deferred = (error: unknown): Settlement => {
    const noted: AttemptOutcome = {
      attempt: number,
      verdict: 'failed',
      startedAtMs: now(),
      durationMs: 0,
      error: codeOf(error),
    };
    return { ...claim, kind: 'defer', log: JSON.stringify(noted) };
  };
  let event: PreparedEvent | undefined;
  try {
    event = await payloads.get(claim.event);
  } catch (error) {
    // What can be read has its turn.
    return { ...deferred(error), delayMs: readAgainMs(error) };
  }
  if (!event) return { ...claim, kind: 'lapsed', reason: 'payload-missing' };
  const prepared = event;
  try {
    const outcome = await directory.reach(
      endpointId,
      async (target) => await attempter.attempt(prepared, target, number),
    );
    // Whoever comes next will see that it is not there any more.
    if (!outcome) return { ...claim, kind: 'defer', penaltyMs: ASK_AGAIN_MS };
    return settlementOf(claim, outcome, settings);
  } catch (error) {
    return { ...deferred(error), penaltyMs: ASK_AGAIN_MS };
  }
}

function settlementOf(
  claim: Claimed,
  outcome: AttemptOutcome,
  { nextDelay, maxRetryAfterMs }: DrainSettings,
): Settlement {
  const { attempt: attempts, verdict, retryAfterMs } = outcome;
  const log = JSON.stringify(outcome);
  const used = { ...claim, attempts, log };
  switch (verdict) {
    case 'delivered':
      return { ...used, kind: 'delivered' };
    case 'gone':
      return { ...claim, kind: 'gone', log };
    case 'aborted':
      return { ...claim, kind: 'defer', log };
    case 'rejected':
      return { ...used, kind: 'dead', reason: outcome.error ?? `status ${outcome.status}` };
    case 'failed': {
      // Asked for by the endpoint, so it holds for the others although this delivery has no more attempts.
      const penalty =
        retryAfterMs === undefined ? {} : { penaltyMs: Math.min(retryAfterMs, maxRetryAfterMs) };
      const delayMs = delayOf(nextDelay, attempts + 1);
      return typeof delayMs === 'number'
        ? { ...used, kind: 'retry', delayMs, ...penalty }
        : { ...used, kind: 'dead', reason: delayMs, ...penalty };
    }
  }
}

/** When to try again, or why not. The schedule may be a function of the user's. */
function delayOf(nextDelay: NextDelay, attempt: number): number | 'exhausted' | 'schedule-failed' {
  try {
    return nextDelay(attempt) ?? 'exhausted';
  } catch {
    return 'schedule-failed';
  }
}

function report(endpoint: string, settled: readonly Settlement[], turn: Turn): void {
  const { change, pending } = turn;
  if (change !== '' && endpointChannel.hasSubscribers) {
    endpointChannel.publish({ endpoint, change: change as EndpointEvent['change'], pending });
  }
  if (!deliveryChannel.hasSubscribers) return;
  for (const { event, kind, attempts, reason } of settled) {
    if (kind !== 'delivered' && kind !== 'dead' && kind !== 'lapsed') continue;
    const outcome = kind === 'delivered' ? kind : (reason ?? 'dead');
    deliveryChannel.publish({ eventId: event, endpoint, outcome, attempts });
  }
}
