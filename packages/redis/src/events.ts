import { type Channel, channel } from 'node:diagnostics_channel';
import type { StoreErrorCode, StoreOutcome } from './errors.ts';

/** `countersign:redis:batch`: calls travelled together, and their answer came. */
export interface BatchEvent {
  /** SHA-1 of the script, as in `EVALSHA`. */
  readonly script: string;
  /** How many calls it carried. */
  readonly calls: number;
  /** From the first call until the answer. */
  readonly durationMs: number;
}

/** `countersign:redis:reload`: the server did not know a script (it restarted, failed over, or was flushed) and was sent it. */
export interface ReloadEvent {
  readonly script: string;
}

/** `countersign:redis:failure`: calls that travelled together failed together. */
export interface FailureEvent {
  readonly script: string;
  readonly calls: number;
  readonly code: StoreErrorCode;
  readonly outcome: StoreOutcome;
}

export const batchChannel: Channel<BatchEvent> = channel(
  'countersign:redis:batch',
) as Channel<BatchEvent>;
export const reloadChannel: Channel<ReloadEvent> = channel(
  'countersign:redis:reload',
) as Channel<ReloadEvent>;
export const failureChannel: Channel<FailureEvent> = channel(
  'countersign:redis:failure',
) as Channel<FailureEvent>;
