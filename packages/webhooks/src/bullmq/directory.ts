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

/** Looks endpoints up, and remembers them for a moment. */
export interface Directory {
  /** `undefined` when there is no such endpoint. */
  find(id: string): Promise<Destination | undefined>;
  close(): Promise<void>;
}

interface Entry {
  readonly destination: Destination | undefined;
  readonly staleAtMs: number;
  readonly agent: ClosableDispatcher | undefined;
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

  async function load(id: string, before: Entry | undefined): Promise<Entry> {
    const endpoint = await withDeadline(store.get(id), timeoutMs);
    const sameTls =
      JSON.stringify(before?.destination?.endpoint.tls) === JSON.stringify(endpoint?.tls);
    if (before?.agent && !sameTls) void before.agent.close();
    const agent = sameTls ? before?.agent : endpoint?.tls && agentFor(endpoint.tls);
    const destination = endpoint && {
      endpoint,
      target: targetOf(endpoint, agent, signerOf(endpoint)),
    };
    return { destination, agent, staleAtMs: now() + cacheMs };
  }

  return {
    async find(id) {
      const known = entries.get(id);
      if (known && known.staleAtMs > now()) return known.destination;
      const entry = await load(id, known);
      entries.delete(id);
      entries.set(id, entry);
      const [oldest] = entries.keys();
      if (entries.size > MAX_ENTRIES && oldest !== undefined) {
        void entries.get(oldest)?.agent?.close();
        entries.delete(oldest);
      }
      return entry.destination;
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
