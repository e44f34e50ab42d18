import { type Channel, channel } from 'node:diagnostics_channel';
import type { FieldError, HardeningErrorCode } from './errors.ts';

/** Published on `node:diagnostics_channel` as `countersign:hardening:<event>`. None contains a value that was sent. */
export interface HardeningEvents {
  /** `input` refused what was sent. */
  'input-refused': { readonly code: HardeningErrorCode; readonly errors: readonly FieldError[] };
  /** Somebody tried to set fields that `writable` does not let in. */
  'privileged-fields': {
    readonly fields: readonly string[];
    readonly action: 'refused' | 'ignored';
  };
}

const channels = new Map<string, Channel>();

/** Reports an event; `describe` is not even called when nobody listens. */
export function publish<E extends keyof HardeningEvents>(
  event: E,
  describe: () => HardeningEvents[E],
): void {
  const target = channels.get(event) ?? open(event);
  if (target.hasSubscribers) target.publish(describe());
}

// Kept: a channel that nobody holds is collected, and its subscribers with it.
function open(event: string): Channel {
  const opened = channel(`countersign:hardening:${event}`);
  channels.set(event, opened);
  return opened;
}
