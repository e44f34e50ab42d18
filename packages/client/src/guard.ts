import type { Guard, Pass, Reply } from '@countersign/guard';
import { assertKnown, type OptionNames } from '@countersign/options';
import { type Deadline, deadline } from '@countersign/retry';
import { isToken } from './headers.ts';

/** Options of {@link deadlineGuard}. */
export interface DeadlineGuardOptions {
  /** Where the caller says how many milliseconds it will wait. Default `request-timeout-ms`, as the client sends it. */
  readonly header?: string;
  /** The longest that is granted, and what a caller gets who says nothing, in milliseconds. Default 30,000. */
  readonly maxMs?: number;
  /** With less time left than this, in milliseconds, the work is not begun. Default 1. */
  readonly minMs?: number;
}

/** What the guard found out. */
export interface CallerDeadline {
  /** What is left; it shrinks while you work. Give `signal` and `remaining()` to all that you call. */
  readonly deadline: Deadline;
}

const known: OptionNames<DeadlineGuardOptions> = { header: true, maxMs: true, minMs: true };

/**
 * Lets a handler stop when its caller no longer waits: the context has a deadline that also aborts when the caller goes
 * away. A header that is not a number of milliseconds is refused with 400, one with too little left with 504.
 * @throws TypeError when an option is not what it must be.
 */
export function deadlineGuard(options: DeadlineGuardOptions = {}): Guard<CallerDeadline> {
  assertKnown(options, known);
  const { header = 'request-timeout-ms', maxMs = 30_000, minMs = 1 } = options;
  if (!isToken(header)) throw new TypeError('header must be the name of a header');
  if (!(Number.isInteger(maxMs) && maxMs >= 1 && maxMs <= 2_147_483_647)) {
    throw new TypeError('maxMs must be a whole number from 1 to 2147483647');
  }
  if (!(Number.isInteger(minMs) && minMs >= 0 && minMs <= maxMs)) {
    throw new TypeError('minMs must be a whole number from 0 to maxMs');
  }
  return (request): Pass<CallerDeadline> | Reply => {
    const [value, ...more] = request.headers.all(header);
    if (more.length > 0 || (value !== undefined && !/^\d{1,15}$/.test(value))) {
      return refuse(400, 'Bad Request', `${header} must be one whole number of milliseconds`);
    }
    const callerMs = value === undefined ? maxMs : Number(value);
    if (callerMs < minMs) {
      return refuse(504, 'Gateway Timeout', 'too little time is left to begin');
    }
    const granted = deadline(Math.min(callerMs, maxMs), request.signal);
    return { pass: true, context: { deadline: granted }, settle: () => granted.dispose() };
  };
}

function refuse(status: number, title: string, detail: string): Reply {
  return {
    pass: false,
    status,
    headers: [['content-type', 'application/problem+json']],
    body: JSON.stringify({ type: 'about:blank', title, status, detail }),
  };
}
