import { channel } from 'node:diagnostics_channel';
import {
  type ApiKeyStore,
  type ApiKeys,
  type ApiKeysEvents,
  type ApiKeysOptions,
  createApiKeys,
  memoryApiKeyStore,
  type Pepper,
} from '@countersign/api-keys';
import type { GuardRequest } from '@countersign/guard';

export const DAY_MS = 86_400_000;
export const START_MS: number = Date.UTC(2026, 0, 1);
export const PEPPER_1: Pepper = { id: 'p1', secret: '1'.repeat(32) };
export const PEPPER_2: Pepper = { id: 'p2', secret: '2'.repeat(32) };

/** A manager with its own store and a clock that only moves when told to. */
export function managed(options: Partial<ApiKeysOptions> = {}): {
  keys: ApiKeys;
  store: ApiKeyStore;
  clock: { ms: number };
} {
  const clock = { ms: START_MS };
  const store = options.store ?? memoryApiKeyStore();
  const keys = createApiKeys({ peppers: [PEPPER_1], now: () => clock.ms, ...options, store });
  return { keys, store, clock };
}

/** Counts the calls of a store's `find`. */
export function counted(store: ApiKeyStore): { store: ApiKeyStore; finds: () => number } {
  let finds = 0;
  return {
    store: {
      ...store,
      find(id) {
        finds += 1;
        return store.find(id);
      },
    },
    finds: () => finds,
  };
}

/** Collects an event until `stop`. */
export function collect<E extends keyof ApiKeysEvents>(
  event: E,
): { events: ApiKeysEvents[E][]; stop: () => void } {
  const events: ApiKeysEvents[E][] = [];
  const listener = (message: unknown): void => {
    events.push(message as ApiKeysEvents[E]);
  };
  const source = channel(`countersign:api-keys:${event}`);
  source.subscribe(listener);
  return { events, stop: () => source.unsubscribe(listener) };
}

/** A request as a guard sees it. */
export function guardRequest(
  headers: readonly (readonly [string, string])[] = [],
  url = '/orders',
  remoteAddress = '192.0.2.1',
): GuardRequest {
  const { pathname, searchParams } = new URL(url, 'http://service.test');
  const all = (name: string): string[] =>
    headers.filter(([key]) => key.toLowerCase() === name.toLowerCase()).map(([, value]) => value);
  return {
    method: 'GET',
    path: pathname,
    query: searchParams,
    headers: { all, get: (name) => (all(name).length > 0 ? all(name).join(', ') : undefined) },
    remoteAddress,
    secure: true,
    signal: new AbortController().signal,
    rawBody: async () => new Uint8Array(),
  };
}
