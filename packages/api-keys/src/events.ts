import { type Channel, channel } from 'node:diagnostics_channel';
import type { KeyRecord } from './record.ts';

/** Published on `node:diagnostics_channel` as `countersign:api-keys:<event>`. None contains a secret. */
export interface ApiKeysEvents {
  created: { readonly record: KeyRecord; readonly actor?: string };
  rotated: { readonly record: KeyRecord; readonly successor: KeyRecord; readonly actor?: string };
  revoked: { readonly record: KeyRecord; readonly reason: string; readonly actor?: string };
  /** A legacy key was presented for the first time and now has a record, or a legacy hash was imported. */
  adopted: { readonly record: KeyRecord };
  /** `verify` refused. The id is there when the text had one; only with `proved` did the secret match it. */
  denied: {
    readonly status: string;
    readonly proved: boolean;
    readonly id?: string;
    readonly ip?: string;
  };
  /** At most once a minute per key: its last use was noted. */
  used: { readonly id: string; readonly atMs: number };
  /** A digest was renewed with the current pepper. */
  rehashed: { readonly id: string; readonly pepperId?: string };
  /** A key was sent in a URL, where logs and histories keep it: rotate it. */
  exposed: { readonly id: string; readonly status: string; readonly where: 'query' | 'path' };
  /** A scanner reported the key as public. */
  leaked: {
    readonly record: KeyRecord;
    readonly type: string;
    readonly url: string;
    readonly source: string;
  };
  /** The store failed: `verify` answered `unavailable`, a background write was lost, or changes are not heard. */
  'store-error': { readonly operation: string; readonly error: unknown };
}

const channels = new Map<string, Channel>();

/** Reports an event; `describe` is not even called when nobody listens. */
export function publish<E extends keyof ApiKeysEvents>(
  event: E,
  describe: () => ApiKeysEvents[E],
): void {
  const target = channels.get(event) ?? open(event);
  if (target.hasSubscribers) target.publish(describe());
}

// Kept: a channel that nobody holds is collected, and its subscribers with it.
function open(event: string): Channel {
  const opened = channel(`countersign:api-keys:${event}`);
  channels.set(event, opened);
  return opened;
}
