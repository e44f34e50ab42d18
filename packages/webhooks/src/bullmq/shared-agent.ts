import type { WebhookDispatcher } from '../endpoint.ts';

export interface ClosableDispatcher extends WebhookDispatcher {
  close(): Promise<void>;
}

/** An agent that many use; it is closed once, when it is not wanted any more and nobody uses it. */
export interface SharedAgent {
  use<T>(work: (dispatcher: WebhookDispatcher) => Promise<T>): Promise<T>;
  /** Resolves when it is closed: after the last that uses it. */
  retire(): Promise<void>;
}

export function shareAgent(dispatcher: ClosableDispatcher): SharedAgent {
  const retired = Promise.withResolvers<void>();
  let users = 0;
  let unwanted = false;
  let closing = false;

  function closeUnlessUsed(): void {
    if (!unwanted || users > 0 || closing) return;
    closing = true;
    // What an agent says while it is closed is of no use to anybody.
    void dispatcher.close().then(retired.resolve, () => retired.resolve());
  }

  return {
    async use(work) {
      users += 1;
      try {
        return await work(dispatcher);
      } finally {
        users -= 1;
        closeUnlessUsed();
      }
    },
    async retire() {
      unwanted = true;
      closeUnlessUsed();
      await retired.promise;
    },
  };
}
