import { type RedisClient, StoreUnavailableError } from '@countersign/redis';
import type { Redis } from 'ioredis';
import { publish } from './events.ts';
import type { ChangeListener } from './store.ts';

const FIRST_DELAY_MS = 50;
const MAX_DELAY_MS = 1000;

/** Follows a channel on a connection of its own, for as long as anyone listens. */
export interface Changes {
  readonly subscribe: (listener: ChangeListener) => () => void;
  readonly close: () => void;
}

/**
 * Messages that were published while the connection was down are lost, so its end and its return are both told as
 * `'all'`. ioredis' own resubscription (a Cluster's most of all) does not say when it has happened: the connection
 * is therefore never reused, and a new one is made, on any node, since a Cluster passes messages on to all of them.
 */
export function redisChanges(client: RedisClient, channel: string): Changes {
  const listeners = new Set<ChangeListener>();
  let connection: Redis | undefined;
  let timer: NodeJS.Timeout | undefined;
  let failures = 0;

  function tell(change: Parameters<ChangeListener>[0]): void {
    for (const listener of listeners) listener(change);
  }

  function open(): void {
    timer = undefined;
    const opened = nodeOf(client)?.duplicate({
      lazyConnect: true,
      autoResubscribe: false,
      // The subscription waits for the connection, also where the client's commands shall not.
      enableOfflineQueue: true,
      maxRetriesPerRequest: null,
      retryStrategy: () => null,
    });
    if (!opened) {
      again();
      return;
    }
    connection = opened;
    let trouble: Error | undefined;
    opened.on('error', (error: Error) => {
      trouble = error; // whatever it is, `end` follows
    });
    opened.on('message', (_channel, id: string) => tell({ id }));
    opened.once('end', () => {
      if (connection === opened) again();
    });
    opened.subscribe(channel).then(
      () => {
        failures = 0;
        tell('all');
      },
      (error: Error) => {
        if (connection === opened) report(trouble ?? error);
        opened.disconnect();
      },
    );
  }

  function again(): void {
    connection = undefined;
    tell('all');
    if (listeners.size === 0) return;
    timer = setTimeout(open, Math.min(FIRST_DELAY_MS * 2 ** failures, MAX_DELAY_MS));
    timer.unref();
    failures += 1;
  }

  function close(): void {
    clearTimeout(timer);
    timer = undefined;
    const closing = connection;
    connection = undefined;
    closing?.disconnect();
  }

  return {
    subscribe(listener) {
      listeners.add(listener);
      if (listeners.size === 1) open();
      return () => {
        listeners.delete(listener);
        if (listeners.size === 0) close();
      };
    },
    close() {
      listeners.clear();
      close();
    },
  };
}

/** Only its message: ioredis hangs the command on an error, a password included where it was that of `AUTH`. */
function report({ message }: Error): void {
  publish('store-error', () => ({
    operation: 'subscribe',
    error: new StoreUnavailableError(
      'ERR_STORE_UNAVAILABLE',
      `changes of keys are not heard: ${message}`,
      { outcome: 'not-run' },
    ),
  }));
}

function nodeOf(client: RedisClient): Redis | undefined {
  if (!client.isCluster) return client as Redis;
  const nodes = (client as Exclude<RedisClient, Redis>).nodes('all');
  return nodes[Math.floor(Math.random() * nodes.length)];
}
