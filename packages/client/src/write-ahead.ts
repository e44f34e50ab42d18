import type { Order } from './call.ts';
import { ClientError } from './errors.ts';
import { interrupted } from './failure.ts';
import type { JournalEntry, JournalStore } from './store.ts';

/** Writes a call down before it is sent, and forgets it when its caller knows what became of it. */
export async function remembered<R>(
  journal: JournalStore | undefined,
  order: Order,
  entry: JournalEntry | undefined,
  call: () => Promise<R>,
): Promise<R> {
  if (!journal || !entry) return call();
  const { deadline, signal } = order;
  const begun = journaled(journal.begin(entry));
  try {
    await whileItLasts(order, begun);
  } catch (error) {
    // It may be written all the same, now or when Redis comes to it; nothing was sent, and nothing may be sent later.
    void begun.catch(() => {}).then(() => forget(journal, entry));
    throw error;
  }
  try {
    return await call();
  } finally {
    deadline.dispose();
    const forgotten = forget(journal, entry);
    // Who gave up, or is late, waits for nothing more.
    if (!signal?.aborted && deadline.remaining() > 0) await forgotten;
  }
}

/** Where this fails the call is finished once more, with the same key. */
export async function forget(
  journal: JournalStore | undefined,
  { origin, key }: JournalEntry,
): Promise<void> {
  await journal?.settle(origin, key).catch(() => {});
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
export async function journaled<R>(operation: Promise<R>): Promise<R> {
  try {
    return await operation;
  } catch (error) {
    if (error instanceof ClientError) throw error;
    const message = 'the journal cannot be used, so nothing was sent';
    throw new ClientError('ERR_CLIENT_JOURNAL', message, { attempts: 0 }, { cause: error });
  }
}
