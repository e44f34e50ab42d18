import { Batch, type ScriptArgument, serverError } from './batch.ts';
import { StoreUnavailableError } from './errors.ts';
import type { Lane } from './lane.ts';
import type { CompiledScript } from './lua.ts';
import {
  clusterTopology,
  isCluster,
  type RedisClient,
  singleTopology,
  type Topology,
} from './topology.ts';

/** Calls that may wait for a connection at the same time; more are refused at once. */
const maxWaitingCalls = 10_000;
const maxRedirections = 16;
const refreshPauseMs = 25;

const dispatchers = new WeakMap<RedisClient, Dispatcher>();

/** The dispatcher of a client; scripts of all packages that use the same client share it. */
export function dispatcherOf(client: RedisClient): Dispatcher {
  const known = dispatchers.get(client);
  if (known) return known;
  const dispatcher = new Dispatcher(client);
  dispatchers.set(client, dispatcher);
  client.once('end', () => {
    dispatchers.delete(client);
    dispatcher.close();
  });
  return dispatcher;
}

/** Collects the calls of a tick into batches, sends each to the server that has its slot, and holds back those that none can take yet. */
export class Dispatcher {
  readonly #topology: Topology;
  readonly #keyPrefix: string;
  readonly #clustered: boolean;
  /** The batches of this tick that still have room. */
  readonly #open = new Map<CompiledScript, Map<number, Batch>>();
  #collected: Batch[] = [];
  readonly #waiting = new Set<Batch>();
  #waitingCalls = 0;
  #refreshing: NodeJS.Timeout | undefined;

  constructor(client: RedisClient) {
    const observer = {
      ready: () => this.#sendWaiting(),
      down: () => this.#laneDown(),
      redirected: (batch: Batch, error: Error) => this.#redirected(batch, error),
    };
    this.#keyPrefix = client.options.keyPrefix ?? '';
    this.#clustered = isCluster(client);
    this.#topology = isCluster(client)
      ? clusterTopology(client, observer)
      : singleTopology(client, observer);
  }

  call(
    script: CompiledScript,
    keys: readonly string[],
    args: readonly ScriptArgument[],
    timeoutMs: number,
  ): Promise<unknown> {
    const names = this.#keyPrefix ? keys.map((key) => this.#keyPrefix + key) : keys;
    return new Promise((resolve, reject) => {
      const batch = this.#batchFor(script, this.#slotOf(names), timeoutMs);
      batch.add(names, args, { resolve, reject });
    });
  }

  close(): void {
    clearTimeout(this.#refreshing);
    for (const batch of [...this.#collected, ...this.#waiting]) batch.fail(closedError());
    this.#waiting.clear();
    this.#waitingCalls = 0;
    this.#topology.close();
  }

  #slotOf(keys: readonly string[]): number {
    const slot = this.#topology.slotOf(keys[0] as string);
    for (let index = 1; index < keys.length; index += 1) {
      if (this.#topology.slotOf(keys[index] as string) !== slot)
        throw new TypeError(
          'keys: expected all keys of a call in one slot (give them the same {hash tag})',
        );
    }
    return slot;
  }

  #batchFor(script: CompiledScript, slot: number, timeoutMs: number): Batch {
    const bySlot = this.#open.get(script) ?? new Map<number, Batch>();
    this.#open.set(script, bySlot);
    const open = bySlot.get(slot);
    if (open && !open.full && open.timeoutMs === timeoutMs) return open;
    const batch = new Batch(script, slot, timeoutMs, (expired) => this.#expired(expired));
    bySlot.set(slot, batch);
    this.#collected.push(batch);
    if (this.#collected.length === 1) this.#flushSoon(slot);
    return batch;
  }

  /**
   * When nothing is under way, a call leaves as soon as all that is ready to run has run: it need not wait for others. When
   * something is, Redis is busy with it anyhow, and calls of requests that came in on different sockets in this turn of the
   * loop travel together.
   */
  #flushSoon(slot: number): void {
    const flush = (): void => this.#flush();
    if (this.#topology.laneOf(slot)?.idle) queueMicrotask(() => process.nextTick(flush));
    else setImmediate(flush);
  }

  #flush(): void {
    const batches = this.#collected;
    this.#collected = [];
    this.#open.clear();
    this.#send(batches);
  }

  #send(batches: Iterable<Batch>): void {
    const corked = new Set<Lane>();
    for (const batch of batches) {
      if (batch.settled) continue;
      const lane = this.#topology.laneOf(batch.slot);
      if (!lane?.ready) {
        this.#wait(batch);
        if (lane) lane.wanted();
        else this.#refreshSoon();
        continue;
      }
      if (!corked.has(lane)) {
        lane.cork();
        corked.add(lane);
      }
      lane.send(batch);
    }
    for (const lane of corked) lane.uncork();
  }

  #wait(batch: Batch): void {
    if (this.#waitingCalls + batch.size > maxWaitingCalls) {
      batch.fail(
        new StoreUnavailableError(
          'ERR_STORE_UNAVAILABLE',
          `no connection to Redis, and ${this.#waitingCalls} calls wait for one already`,
          { outcome: 'not-run' },
        ),
      );
      return;
    }
    this.#waiting.add(batch);
    this.#waitingCalls += batch.size;
  }

  #sendWaiting(): void {
    if (this.#waiting.size === 0) return;
    const batches = [...this.#waiting];
    this.#waiting.clear();
    this.#waitingCalls = 0;
    this.#send(batches);
  }

  #laneDown(): void {
    for (const { slot } of this.#waiting) this.#topology.laneOf(slot)?.wanted();
    this.#refreshSoon();
  }

  #expired(batch: Batch): void {
    if (this.#waiting.delete(batch)) this.#waitingCalls -= batch.size;
  }

  #redirected(batch: Batch, error: Error): void {
    batch.redirections += 1;
    if (!this.#clustered || batch.redirections > maxRedirections) {
      batch.fail(serverError(error));
      return;
    }
    const [kind, , address = ''] = error.message.split(' ');
    const target = kind === 'ASK' ? this.#topology.laneAt(address) : undefined;
    if (target?.ready) {
      target.send(batch, true);
      return;
    }
    this.#wait(batch);
    this.#refreshSoon();
  }

  /** Asks for the map of slots, at most once per pause, and tries again with it what waits. */
  #refreshSoon(): void {
    if (!this.#clustered || this.#refreshing || this.#waiting.size === 0) return;
    this.#refreshing = setTimeout(() => {
      this.#refreshing = undefined;
      this.#topology.refresh(() => this.#sendWaiting());
    }, refreshPauseMs);
  }
}

export function closedError(): StoreUnavailableError {
  return new StoreUnavailableError(
    'ERR_STORE_UNAVAILABLE',
    'the Redis client was closed; nothing was sent',
    { outcome: 'not-run' },
  );
}
