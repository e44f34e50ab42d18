import type { Order } from './call.ts';
import { ClientError } from './errors.ts';
import { interrupted } from './failure.ts';
import type { JournalEntry, JournalStore } from './store.ts';

/** What one client writes down. */
export interface WriteAhead {
  /** Writes a call down before it is made, and forgets it when its caller knows what became of it. */
  around<R>(order: Order, entry: JournalEntry, call: () => Promise<R>): Promise<R>;
  /** Waits until what was given up is forgotten. */
  idle(): Promise<void>;
}

export function writeAhead(journal: JournalStore): WriteAhead {
  /** How many calls have each key: a caller who gave up may try again before the first call is forgotten. */
  const calls = new Map<string, number>();
  const leaving = new Set<Promise<void>>();

  function enter({ key }: JournalEntry): void {
    calls.set(key, (calls.get(key) ?? 0) + 1);
  }

  /** The last one with the key takes the entry away. */
  async function leave(entry: JournalEntry): Promise<void> {
    const others = (calls.get(entry.key) ?? 1) - 1;
    if (others > 0) calls.set(entry.key, others);
    else {
      calls.delete(entry.key);
      await forget(journal, entry);
    }
  }

  function left(work: Promise<void>): Promise<void> {
    const end = work.finally(() => leaving.delete(end));
    leaving.add(end);
    return end;
  }

  return {
    async around(order, entry, call) {
      const { deadline, signal } = order;
      enter(entry);
      const begun = journaled(() => journal.begin(entry));
      try {
        await whileItLasts(order, begun);
      } catch (error) {
        // It may be written all the same, now or when Redis comes to it; nothing was sent, and nothing may be sent later.
        void left(begun.catch(() => {}).then(() => leave(entry)));
        throw error;
      }
      try {
        return await call();
      } finally {
        deadline.dispose();
        const forgotten = left(leave(entry));
        // Who gave up, or is late, waits for nothing more.
        if (!signal?.aborted && deadline.remaining() > 0) await forgotten;
      }
    },
    async idle() {
      await Promise.all(leaving);
    },
  };
}

/** Where this fails, in whatever way, the call is finished once more, with the same key. */
export async function forget(journal: JournalStore, { origin, key }: JournalEntry): Promise<void> {
  try {
    await journal.settle(origin, key);
  } catch {
    // Its caller has an answer, and is not told instead that the journal has none.
  }
}

/** Waits for something, but no longer than the call may take. */
async function whileItLasts({ deadline, signal }: Order, work: Promise<unknown>): Promise<void> {
  let giveUp = (): void => {};
  const over = new Promise<never>((_resolve, reject) => {
    giveUp = () => reject(interrupted(deadline.signal.reason, signal, 0));
  });
  if (deadline.signal.aborted) giveUp();
  deadline.signal.addEventListener('abort', giveUp, { once: true });
  try {
    await Promise.race([work, over]);
  } finally {
    deadline.signal.removeEventListener('abort', giveUp);
  }
}

/** @throws ClientError `ERR_CLIENT_JOURNAL` when the journal fails, whichever it is. */
export async function journaled<R>(operation: () => Promise<R>): Promise<R> {
  try {
    return await operation();
  } catch (error) {
    if (error instanceof ClientError) throw error;
    const message = 'the journal cannot be used, so nothing was sent';
    throw new ClientError('ERR_CLIENT_JOURNAL', message, { attempts: 0 }, { cause: error });
  }
}
