import type { KeyCache } from './cache.ts';
import type { ApiKeyStore } from './store.ts';

/** A cache that forgets what others change. */
export interface ListeningCache {
  readonly entries: KeyCache;
  /** Begins to follow the store's changes, at the first use rather than at construction. */
  listen(): void;
  stop(): void;
}

export function listening(store: ApiKeyStore, entries: KeyCache): ListeningCache {
  let stop: (() => void) | undefined;
  return {
    entries,
    listen() {
      stop ??=
        store.subscribe?.((change) =>
          change === 'all' ? entries.flush() : entries.evict(change.id),
        ) ?? (() => {});
    },
    stop() {
      stop?.();
      stop = () => {};
      entries.flush();
    },
  };
}
