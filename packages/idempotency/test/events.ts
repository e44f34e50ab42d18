import { channel } from 'node:diagnostics_channel';
import type { IdempotencyEvents } from '../src/events.ts';

type Name = keyof IdempotencyEvents;

const names: readonly Name[] = [
  'started',
  'completed',
  'released',
  'abandoned',
  'replayed',
  'refused',
  'lease-lost',
  'store-error',
];
const channelOf = (name: Name) => channel(`countersign:idempotency:${name}`);

/** What is published from now on, in order, until it is stopped. */
export interface Recording {
  readonly events: (readonly [name: string, message: unknown])[];
  stop(): void;
}

export function record(): Recording {
  const events: [string, unknown][] = [];
  const listen = (message: unknown, name: string | symbol): void => {
    events.push([String(name).replace('countersign:idempotency:', ''), message]);
  };
  for (const name of names) channelOf(name).subscribe(listen);
  return {
    events,
    stop() {
      for (const name of names) channelOf(name).unsubscribe(listen);
    },
  };
}

/** The message of the next event of this name, or of the last of so many. */
export async function event(name: Name, count = 1): Promise<unknown> {
  const { promise, resolve } = Promise.withResolvers<unknown>();
  let seen = 0;
  const listen = (message: unknown): void => {
    seen += 1;
    if (seen < count) return;
    channelOf(name).unsubscribe(listen);
    resolve(message);
  };
  channelOf(name).subscribe(listen);
  return await promise;
}
