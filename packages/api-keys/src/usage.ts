import type { AuditEntry } from './audit.ts';
import type { Background } from './background.ts';
import { publish } from './events.ts';
import type { ApiKeyStore } from './store.ts';
import { throttle } from './throttle.ts';
import type { VerifierParts } from './verify.ts';

const LAST_USED_INTERVAL_MS = 60_000;

/** Hears of every answer that `verify` gives about a genuine key. */
export interface Usage {
  readonly used: VerifierParts['used'];
  readonly refused: VerifierParts['refused'];
}

/** Writes down that keys were used or refused: at most once a minute for each, and off the request path. */
export function usage(parts: {
  readonly store: ApiKeyStore;
  readonly writes: Background;
  readonly entry: (made: AuditEntry) => AuditEntry | undefined;
}): Usage {
  const { store, writes, entry } = parts;
  const useDue = throttle(LAST_USED_INTERVAL_MS, 10_000);
  const refusalDue = throttle(LAST_USED_INTERVAL_MS, 10_000);
  return {
    used({ id, lastUsedAtMs }, atMs, ip) {
      if (!useDue(id, atMs)) return;
      if (lastUsedAtMs !== undefined && atMs - lastUsedAtMs < LAST_USED_INTERVAL_MS) return;
      writes.run('touch', async () => {
        const made = entry({ event: 'used', id, atMs, ...(ip !== undefined && { ip }) });
        if (await store.touch(id, atMs, LAST_USED_INTERVAL_MS, made))
          publish('used', () => ({ id, atMs }));
      });
    },
    refused({ id }, reason, atMs, ip) {
      const made = entry({ event: 'denied', id, atMs, reason, ...(ip !== undefined && { ip }) });
      if (made && refusalDue(`${id} ${reason}`, atMs))
        writes.run('append', () => store.append(made));
    },
  };
}
