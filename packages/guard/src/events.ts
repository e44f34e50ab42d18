import { type Channel, channel } from 'node:diagnostics_channel';

/** A guard, or its `settle`, that threw: `countersign:guard:guard-error` and `countersign:guard:settle-error`. */
export interface GuardFailure {
  /** The name the guard has in its chain; empty for a guard that an adapter runs without one. */
  readonly guard: string;
  readonly error: unknown;
}

/** A request that failed behind the guards: `countersign:guard:handler-error`. */
export interface HandlerFailure {
  readonly method: string;
  readonly path: string;
  /** What the caller was answered. */
  readonly status: number;
  readonly error: unknown;
}

const guardError = channel('countersign:guard:guard-error');
const settleError = channel('countersign:guard:settle-error');
const handlerError = channel('countersign:guard:handler-error');

export function reportGuardFailure(failure: GuardFailure): void {
  publish(guardError, failure, true);
}

export function reportSettleFailure(failure: GuardFailure): void {
  publish(settleError, failure, true);
}

/** @param logged - whether the framework writes it to its own log. */
export function reportHandlerFailure(failure: HandlerFailure, logged = false): void {
  publish(handlerError, failure, failure.status >= 500 && !logged);
}

/** The caller is told nothing, so somebody must be: when nobody listens, it goes to the console. */
function publish(
  to: Channel,
  failure: GuardFailure | HandlerFailure,
  otherwisePrinted: boolean,
): void {
  if (to.hasSubscribers) to.publish(failure);
  else if (otherwisePrinted) console.error(`${String(to.name)}:`, failure.error);
}
