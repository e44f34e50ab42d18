import { publish } from './events.ts';

/** Writes that no request waits for. A failure is an event, never an exception. */
export interface Background {
  run(operation: string, write: () => Promise<unknown>): void;
  /** Resolves once everything begun so far is written or lost. */
  settled(): Promise<void>;
}

export function background(): Background {
  const pending = new Set<Promise<void>>();
  return {
    run(operation, write) {
      const done = after(write)
        .catch((error: unknown) => publish('store-error', () => ({ operation, error })))
        .finally(() => pending.delete(done));
      pending.add(done);
    },
    async settled() {
      while (pending.size > 0) await Promise.all(pending);
    },
  };
}

// After the current turn of the event loop: the request that caused the write is answered first.
async function after(write: () => Promise<unknown>): Promise<void> {
  await new Promise<void>((resolve) => setImmediate(resolve));
  await write();
}
