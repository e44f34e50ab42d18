import { type RedisClient, withDeadline } from '@countersign/redis';

interface Closable {
  close(): Promise<void>;
}

/** A worker of BullMQ, and the connections that it made for itself, to wait for jobs on. */
export interface OwnedWorker<W extends Closable = Closable> {
  readonly worker: W;
  readonly connections: readonly { disconnect(): void }[];
}

/**
 * Makes a worker of BullMQ. It duplicates the shared client, and shows the duplicate only once Redis has answered on it;
 * so what it makes is noted down while it is made.
 */
export function ownWorker<W extends Closable>(shared: RedisClient, make: () => W): OwnedWorker<W> {
  const client = shared as { duplicate(...args: unknown[]): { disconnect(): void } };
  const duplicate = client.duplicate.bind(client);
  const before = Object.getOwnPropertyDescriptor(client, 'duplicate');
  const connections: { disconnect(): void }[] = [];
  client.duplicate = (...args) => {
    const made = duplicate(...args);
    connections.push(made);
    return made;
  };
  try {
    return { worker: make(), connections };
  } finally {
    // As a rule there is none, and the method of its class shows again.
    if (before) Object.defineProperty(client, 'duplicate', before);
    else Reflect.deleteProperty(client, 'duplicate');
  }
}

/**
 * Closes a worker of BullMQ, which would wait for Redis to come back; its own connections, which would keep the process
 * alive, are cut when that takes too long.
 * @throws StoreUnavailableError when it took too long.
 */
export async function closeWorker(
  { worker, connections }: OwnedWorker,
  timeLimitMs: number,
): Promise<void> {
  try {
    await withDeadline(worker.close(), timeLimitMs);
  } catch (error) {
    for (const connection of connections) connection.disconnect();
    throw error;
  }
}
