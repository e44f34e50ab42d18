import { withDeadline } from '@countersign/redis';
import { customHeaders, type PreparedTarget, webhookUrl } from '../endpoint.ts';
import type { Endpoint, EndpointStore } from '../endpoint-store.ts';
import { activeSecrets } from '../endpoints.ts';
import { WebhookError } from '../errors.ts';
import type { Scheme } from '../scheme.ts';
import { createSigner, type Signer } from '../signer.ts';
import { type ClosableDispatcher, type SharedAgent, shareAgent } from './shared-agent.ts';

/** Makes a dispatcher that presents an endpoint's client certificate. */
export type AgentFor = (tls: NonNullable<Endpoint['tls']>) => ClosableDispatcher;

/** Looks endpoints up, and remembers them for a moment; never that there is none. */
export interface Directory {
  /** As it is stored, whether or not it can be sent to; `undefined` when there is no such endpoint. */
  read(id: string): Promise<Endpoint | undefined>;
  /**
   * As `read`, when it can be sent to.
   * @throws what is wrong with its settings.
   */
  find(id: string): Promise<Endpoint | undefined>;
  /**
   * Sends to it: its agent is not closed before `send` has ended. `undefined` when there is no such endpoint.
   * @throws what is wrong with its settings.
   */
  reach<T>(id: string, send: (target: PreparedTarget) => Promise<T>): Promise<T | undefined>;
  /** Resolves when nobody sends any more and all agents are closed. */
  close(): Promise<void>;
}

interface Entry {
  readonly endpoint: Endpoint;
  /** By the clock that nobody sets. */
  readonly staleAt: number;
  /** Made when it is needed first. */
  plain?: PlainTarget;
  agent?: SharedAgent;
}

/** What is known of a target without an agent of its own. */
type PlainTarget = Omit<PreparedTarget, 'egress'>;

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
  const loading = new Map<string, Promise<Entry | undefined>>();
  const retiring = new Set<Promise<void>>();
  let closed = false;

  function signerOf(endpoint: Endpoint): Signer | undefined {
    const secrets = activeSecrets(endpoint, now());
    if (secrets.length === 0) return undefined;
    return createSigner({ secrets, ...(scheme && { scheme }) });
  }

  function plainTarget(endpoint: Endpoint): PlainTarget {
    const { origin, pathname, search } = webhookUrl(endpoint.url);
    return {
      origin,
      path: pathname + search,
      label: endpoint.id,
      headers: customHeaders(endpoint.headers ?? {}),
      signer: signerOf(endpoint),
    };
  }

  function prepare(entry: Entry): {
    readonly plain: PlainTarget;
    readonly agent: SharedAgent | undefined;
  } {
    if (closed) throw new WebhookError('ERR_WEBHOOKS_CLOSED', 'the queue is closed');
    const { tls } = entry.endpoint;
    entry.plain ??= plainTarget(entry.endpoint);
    if (tls) entry.agent ??= shareAgent(agentFor(tls));
    return { plain: entry.plain, agent: entry.agent };
  }

  function retire(entry: Entry | undefined): void {
    const gone = entry?.agent?.retire();
    if (!gone) return;
    retiring.add(gone);
    void gone.then(() => retiring.delete(gone));
  }

  /** One at a time for each endpoint. */
  async function reload(id: string): Promise<Entry | undefined> {
    const endpoint = await withDeadline(store.get(id), timeoutMs);
    const before = entries.get(id);
    entries.delete(id);
    if (!endpoint) {
      retire(before);
      return undefined;
    }
    const entry: Entry = { endpoint, staleAt: performance.now() + cacheMs };
    const sameTls = JSON.stringify(before?.endpoint.tls) === JSON.stringify(endpoint.tls);
    if (sameTls && before?.agent) entry.agent = before.agent;
    else retire(before);
    entries.set(id, entry);
    const [oldest] = entries.keys();
    if (entries.size > MAX_ENTRIES && oldest !== undefined) {
      retire(entries.get(oldest));
      entries.delete(oldest);
    }
    return entry;
  }

  async function load(id: string): Promise<Entry | undefined> {
    const known = entries.get(id);
    if (known && known.staleAt > performance.now()) return known;
    const underWay = loading.get(id);
    if (underWay) {
      // That there is none must not be older than the question.
      return (await underWay) ?? (await load(id));
    }
    const asking = reload(id).finally(() => loading.delete(id));
    loading.set(id, asking);
    return await asking;
  }

  return {
    read: async (id) => (await load(id))?.endpoint,
    async find(id) {
      const entry = await load(id);
      if (entry) prepare(entry);
      return entry?.endpoint;
    },
    async reach(id, send) {
      const entry = await load(id);
      if (!entry) return undefined;
      const { plain, agent } = prepare(entry);
      if (!agent) return await send({ ...plain, egress: undefined });
      return await agent.use(async (egress) => await send({ ...plain, egress }));
    },
    async close() {
      closed = true;
      for (const entry of entries.values()) retire(entry);
      entries.clear();
      await Promise.all(retiring);
    },
  };
}
