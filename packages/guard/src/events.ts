import { channel } from 'node:diagnostics_channel';

/** A guard, or its `settle`, that threw: `countersign:guard:guard-error` and `countersign:guard:settle-error`. */
export interface GuardFailure {
  /** The name the guard has in its chain. */
  readonly guard: string;
  readonly error: unknown;
}

export const guardErrorChannel: ReturnType<typeof channel> = channel(
  'countersign:guard:guard-error',
);
export const settleErrorChannel: ReturnType<typeof channel> = channel(
  'countersign:guard:settle-error',
);
