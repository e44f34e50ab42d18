import { withDeadline } from '@countersign/redis';
import {
  customHeaders,
  type PreparedTarget,
  type WebhookDispatcher,
  webhookUrl,
} from '../endpoint.ts';
import type { Endpoint, EndpointStore } from '../endpoint-store.ts';
import { activeSecrets } from '../endpoints.ts';
import type { Scheme } from '../scheme.ts';
import { createSigner, type Signer } from '../signer.ts';

/** Makes a dispatcher that presents an endpoint's client certificate. */
export type AgentFor = (tls: NonNullable<Endpoint['tls']>) => ClosableDispatcher;

export interface ClosableDispatcher extends WebhookDispatcher {
  close(): Promise<void>;
}

/** An endpoint, ready to be sent to. */
export interface Destination {
  readonly endpoint: Endpoint;
  readonly target: PreparedTarget;
}

/** Looks endpoints up, and remembers them for a moment; never that there is none. */
export interface Directory {
  /** As it is stored, whether or not it can be sent to; `undefined` when there is no such endpoint. */
  read(id: string): Promise<Endpoint | undefined>;
  /**
   * `undefined` when there is no such endpoint.
   * @throws what is wrong with its settings.
   */
  find(id: string): Promise<Destination | undefined>;
  close(): Promise<void>;
}

interface Entry {
  readonly endpoint: Endpoint;
  readonly agent: ClosableDispatcher | undefined;
  readonly target: PreparedTarget | undefined;
  /** Why there is no target. */
  readonly error: unknown;
  readonly staleAtMs: number;
}

const MAX_ENTRIES = 10_000;

export function createDirectory(options: {
  readonly store: EndpointStore;
  readonly scheme: Scheme | undefined;
  readonly agentFor: AgentFor;
  readonly cacheMs: number;
  /** How long the store may take: a worker's place hangs on it. */
  readonly timeoutMs: number;
  readonly now: () => number;
}): Directory {
  const { store, scheme, agentFor, cacheMs, timeoutMs, now } = options;
  const entries = new Map<string, Entry>();

  function signerOf(endpoint: Endpoint): Signer | undefined {
    const secrets = activeSecrets(endpoint, now());
    if (secrets.length === 0) return undefined;
    return createSigner({ secrets, ...(scheme && { scheme }) });
  }

  function prepare(endpoint: Endpoint, before: Entry | undefined): Entry {
    const staleAtMs = now() + cacheMs;
    let agent = before?.agent;
    try {
      agent ??= endpoint.tls && agentFor(endpoint.tls);
      const target = targetOf(endpoint, agent, signerOf(endpoint));
      return { endpoint, agent, target, error: undefined, staleAtMs };
    } catch (error) {
      return { endpoint, agent, target: undefined, error, staleAtMs };
    }
  }

  function drop(id: string): void {
    void entries.get(id)?.agent?.close();
    entries.delete(id);
  }

  async function load(id: string): Promise<Entry | undefined> {
    const known = entries.get(id);
    if (known && known.staleAtMs > now()) return known;
    const endpoint = await withDeadline(store.get(id), timeoutMs);
    const before = entries.get(id);
    const sameTls = JSON.stringify(before?.endpoint.tls) === JSON.stringify(endpoint?.tls);
    if (!endpoint || !sameTls) drop(id);
    if (!endpoint) return undefined;
    const entry = prepare(endpoint, sameTls ? before : undefined);
    entries.delete(id);
    entries.set(id, entry);
    const [oldest] = entries.keys();
    if (entries.size > MAX_ENTRIES && oldest !== undefined) drop(oldest);
    return entry;
  }

  return {
    read: async (id) => (await load(id))?.endpoint,
    async find(id) {
      const entry = await load(id);
      if (!entry) return undefined;
      const { endpoint, target, error } = entry;
      if (!target) throw error;
      return { endpoint, target };
    },
    async close() {
      await Promise.all([...entries.values()].map(async ({ agent }) => await agent?.close()));
      entries.clear();
    },
  };
}

function targetOf(
  endpoint: Endpoint,
  agent: WebhookDispatcher | undefined,
  signer: Signer | undefined,
): PreparedTarget {
  const { origin, pathname, search } = webhookUrl(endpoint.url);
  return {
    origin,
    path: pathname + search,
    label: endpoint.id,
    headers: customHeaders(endpoint.headers ?? {}),
    signer,
    egress: agent,
  };
}
