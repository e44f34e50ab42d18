import { Alarm } from './alarm.ts';
import { Batch } from './batch.ts';
import type { Input } from './call.ts';
import { StoreUnavailableError } from './errors.ts';
import type { Lane } from './lane.ts';
import { Load } from './load.ts';
import type { CompiledScript } from './lua.ts';
import { serverError } from './refusal.ts';
import {
  assertRedisClient,
  clusterTopology,
  isCluster,
  type RedisClient,
  singleTopology,
  type Topology,
} from './topology.ts';

/** Calls that may wait for a connection at the same time; more are refused at once. */
const maxWaitingCalls = 10_000;
/** Redirections that a batch follows without a pause. More of them mean that the nodes do not agree yet. */
const maxHops = 5;
const refreshPauseMs = 25;
const nextRefreshPauseMs = 100;

const dispatchers = new WeakMap<RedisClient, Dispatcher>();
const ended = new WeakSet<RedisClient>();

/**
 * The dispatcher of a client; scripts of all packages that use the same client share it.
 * @throws StoreUnavailableError when the client was closed and not connected again.
 */
export function dispatcherOf(client: RedisClient): Dispatcher {
  const known = dispatchers.get(client);
  if (known) return known;
  assertRedisClient('client', client);
  // A Cluster that has ended may say `close` after it.
  if (client.status === 'end' || (client.status === 'close' && ended.has(client)))
    throw closedError();
  const dispatcher = new Dispatcher(client);
  dispatchers.set(client, dispatcher);
  client.once('end', () => {
    ended.add(client);
    dispatchers.delete(client);
    dispatcher.close();
  });
  return dispatcher;
}

/** The node that a redirection named, until there is a new map of slots. */
interface Detour {
  readonly lane: Lane;
  readonly asking: boolean;
}

/** Collects the calls of a tick into batches, sends each to the server that has its slot, and holds back those that none can take yet. */
export class Dispatcher {
  readonly #topology: Topology;
  readonly #keyPrefix: string;
  readonly #clustered: boolean;
  /** The batches of this tick. */
  #collected: Batch[] = [];
  /** The last of them: most calls of a tick are of one script and, but for a Cluster, of one slot. */
  #latest: Batch | undefined;
  /** Those before it. */
  readonly #earlier = new Map<CompiledScript, Map<number, Batch>>();
  readonly #waiting = new Map<Batch, Detour | undefined>();
  readonly #load = new Load(maxWaitingCalls);
  readonly #watch = new Alarm(() => this.#look(), true);
  #refreshing: NodeJS.Timeout | undefined;
  #refreshedAt = Number.NEGATIVE_INFINITY;

  constructor(client: RedisClient) {
    const observer = {
      ready: () => this.#sendWaiting(),
      down: () => this.#laneDown(),
      redirected: (batch: Batch, error: Error) => this.#redirected(batch, error),
      returned: (batch: Batch) => this.#wait(batch),
    };
    this.#keyPrefix = client.options.keyPrefix ?? '';
    this.#clustered = isCluster(client);
    this.#topology = isCluster(client)
      ? clusterTopology(client, observer)
      : singleTopology(client, observer);
  }

  call(script: CompiledScript, { keys, args, length }: Input, timeoutMs: number): Promise<unknown> {
    const names = this.#keyPrefix ? keys.map((key) => this.#keyPrefix + key) : keys;
    const slot = this.#slotOf(names);
    return new Promise((resolve, reject) => {
      const batch = this.#batchFor(script, slot, timeoutMs, args.length);
      batch.add({ keys: names, args, length, resolve, reject });
    });
  }

  close(): void {
    clearTimeout(this.#refreshing);
    this.#watch.clear();
    for (const batch of [...this.#collected, ...this.#waiting.keys()]) batch.fail(closedError());
    this.#waiting.clear();
    this.#load.clear();
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

  #batchFor(script: CompiledScript, slot: number, timeoutMs: number, argumentCount: number): Batch {
    const latest = this.#latest;
    const open =
      latest?.script === script && latest.slot === slot
        ? latest
        : this.#earlier.get(script)?.get(slot);
    if (open && open.timeoutMs === timeoutMs && open.hasRoomFor(argumentCount)) return open;
    const batch = new Batch(script, slot, timeoutMs);
    if (latest) this.#remember(latest);
    else this.#flushSoon(slot);
    this.#latest = batch;
    this.#collected.push(batch);
    return batch;
  }

  #remember(batch: Batch): void {
    const bySlot = this.#earlier.get(batch.script);
    if (bySlot) bySlot.set(batch.slot, batch);
    else this.#earlier.set(batch.script, new Map([[batch.slot, batch]]));
  }

  /**
   * When nothing is under way, a call leaves as soon as all that is ready to run has run: it need not wait for others. When
   * something is, Redis is busy with it anyhow, and calls of requests that came in on different sockets in this turn of the
   * loop travel together.
   */
  #flushSoon(slot: number): void {
    if (this.#topology.laneOf(slot)?.idle) queueMicrotask(this.#flushNext);
    else setImmediate(this.#flush);
  }

  readonly #flushNext = (): void => process.nextTick(this.#flush);

  readonly #flush = (): void => {
    const batches = this.#collected;
    this.#collected = [];
    this.#latest = undefined;
    if (this.#earlier.size > 0) this.#earlier.clear();
    this.#send(batches);
  };

  #send(batches: readonly Batch[], detours?: ReadonlyMap<Batch, Detour | undefined>): void {
    const corked = batches.length > 1 ? new Set<Lane>() : undefined;
    for (const batch of batches) {
      if (batch.settled) continue;
      const detour = detours?.get(batch);
      const lane = detour?.lane ?? this.#topology.laneOf(batch.slot);
      if (!lane?.takes(batch)) {
        lane?.wanted();
        this.#wait(batch, detour);
        continue;
      }
      if (corked && !corked.has(lane)) {
        lane.cork();
        corked.add(lane);
      }
      lane.send(batch, detour?.asking ?? false);
    }
    if (corked) for (const lane of corked) lane.uncork();
  }

  #wait(batch: Batch, detour?: Detour): void {
    if (!this.#load.hasRoomFor(batch)) {
      batch.fail(notRun('too many calls wait for a connection to Redis already'));
      return;
    }
    batch.redirections = 0;
    this.#waiting.set(batch, detour);
    this.#load.add(batch);
    this.#watch.by(batch.dueAt);
    this.#refreshSoon();
  }

  #sendWaiting(): void {
    this.#look();
    if (this.#waiting.size === 0) return;
    const waiting = new Map(this.#waiting);
    this.#waiting.clear();
    this.#load.clear();
    this.#watch.clear();
    this.#send([...waiting.keys()], waiting);
  }

  #laneDown(): void {
    for (const [batch, detour] of this.#waiting)
      (detour?.lane ?? this.#topology.laneOf(batch.slot))?.wanted();
  }

  /** Fails those that have waited for too long. */
  #look(): void {
    const now = performance.now();
    let next = Number.POSITIVE_INFINITY;
    for (const batch of this.#waiting.keys()) {
      if (batch.dueAt > now) {
        next = Math.min(next, batch.dueAt);
        continue;
      }
      this.#waiting.delete(batch);
      this.#load.remove(batch);
      batch.fail(
        batch.refusal
          ? serverError(batch.refusal)
          : notRun(
              `no usable connection to Redis within ${batch.timeoutMs} ms`,
              this.#topology.laneOf(batch.slot)?.trouble,
            ),
      );
    }
    this.#watch.by(next);
  }

  #redirected(batch: Batch, error: Error): void {
    if (!this.#clustered) {
      batch.fail(serverError(error));
      return;
    }
    batch.redirections += 1;
    const [kind, , address = ''] = error.message.split(' ');
    // A node serves each key of a slot that is moving, but not several of which it has only some.
    if (kind === 'TRYAGAIN' && batch.size > 1) {
      this.#send(batch.split());
      return;
    }
    const names = kind === 'MOVED' || kind === 'ASK';
    const lane =
      names && batch.redirections <= maxHops ? this.#topology.laneAt(address) : undefined;
    batch.refusal = lane ? undefined : error;
    if (!lane) {
      this.#wait(batch);
      return;
    }
    if (kind === 'MOVED') {
      this.#topology.moved(batch.slot, lane);
      this.#refreshSoon();
    }
    this.#send([batch], new Map([[batch, { lane, asking: kind === 'ASK' }]]));
  }

  /** Asks for the map of slots, and tries again with it what waits. */
  #refreshSoon(): void {
    if (!this.#clustered || this.#refreshing) return;
    const lately = performance.now() - this.#refreshedAt < 1000;
    this.#refreshing = setTimeout(
      () => {
        this.#refreshing = undefined;
        this.#refreshedAt = performance.now();
        this.#topology.refresh(() => this.#refreshed());
      },
      lately ? nextRefreshPauseMs : refreshPauseMs,
    ).unref();
  }

  #refreshed(): void {
    for (const batch of this.#waiting.keys()) this.#waiting.set(batch, undefined);
    this.#sendWaiting();
  }
}

function closedError(): StoreUnavailableError {
  return notRun('the Redis client was closed');
}

function notRun(reason: string, cause?: Error): StoreUnavailableError {
  return new StoreUnavailableError('ERR_STORE_UNAVAILABLE', `${reason}; nothing was sent`, {
    ...(cause && { cause }),
    outcome: 'not-run',
  });
}
