import { egressAgent } from '@countersign/egress';
import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient } from '@countersign/redis';
import type { SealKeySource } from '@countersign/seal';
import type { AttemptOutcome } from '../attempt.ts';
import { type AttemptSettings, attemptSettings, createAttempter } from '../attempter.ts';
import type { EndpointStore } from '../endpoint-store.ts';
import { WebhookError } from '../errors.ts';
import { prepareEvent, type WebhookEvent } from '../event.ts';
import { assertWhole } from '../range.ts';
import { delays, type ScheduleOptions, scheduleOptions } from '../schedule.ts';
import type { Scheme } from '../scheme.ts';
import { createVault } from '../seal.ts';
import { type AgentFor, createDirectory } from './directory.ts';
import type { EndpointState, Enqueued, Ledger } from './ledger.ts';
import { createPayloads } from './payloads.ts';
import { createShards } from './shards.ts';
import type { BreakerSettings } from './turn.ts';
import { startWorker, type WebhookWorker, type WorkerOptions } from './worker.ts';

export interface WebhookQueueOptions extends AttemptSettings, ScheduleOptions {
  /** An ioredis client (`Redis` or `Cluster`) with `maxRetriesPerRequest: null`. It stays yours to close. */
  readonly connection: RedisClient;
  readonly endpoints: EndpointStore;
  /** How endpoints' own secrets sign. Default `standardWebhooks()`. */
  readonly scheme?: Scheme;
  /** Begins every key; default `webhooks`. */
  readonly prefix?: string;
  /**
   * Queues that endpoints are spread over; on a cluster, at least as many as masters. Fixed by whoever uses the prefix first: with
   * another number everything rejects with `ERR_WEBHOOKS_SHARDS_CHANGED`. Default 4.
   */
  readonly shards?: number;
  /**
   * How long a delivery may wait, for whatever reason, since it was published or delivered again, in milliseconds; then it
   * becomes a dead letter (`expired`). Default 30 days.
   */
  readonly retentionMs?: number;
  /** How long delivered events can be delivered again, in milliseconds; 0 to forget them at once. Default 24 hours. */
  readonly historyMs?: number;
  /**
   * Encrypts payloads at rest: keys of `@countersign/seal`, 32 bytes or what gets them; the first encrypts, all decrypt.
   * Default: not encrypted.
   */
  readonly encryptionKeys?: readonly SealKeySource[];
  /** How long a dead letter is kept, with its payload, in milliseconds. Default 30 days. */
  readonly deadLetterMs?: number;
  /** Attempts kept in each endpoint's log. Default 1,000. */
  readonly logEntries?: number;
  /** How long the log of an endpoint that is not called any more is kept, in milliseconds. Default 3 days. */
  readonly logMs?: number;
  /** How long endpoints are remembered before they are read again, in milliseconds. Default 5,000. */
  readonly endpointCacheMs?: number;
  /** A longer `Retry-After` counts as this, in milliseconds. Default 24 hours. */
  readonly maxRetryAfterMs?: number;
  /** When a failing endpoint is called less, and disabled. */
  readonly breaker?: Partial<BreakerSettings>;
  /** Makes agents for endpoints with a client certificate. Default: `egressAgent({ tls })`. */
  readonly agentFor?: AgentFor;
  /** How long one operation of Redis may take, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
}

const known: OptionNames<WebhookQueueOptions> = {
  ...attemptSettings,
  ...scheduleOptions,
  connection: true,
  endpoints: true,
  scheme: true,
  prefix: true,
  shards: true,
  retentionMs: true,
  historyMs: true,
  encryptionKeys: true,
  deadLetterMs: true,
  logEntries: true,
  logMs: true,
  endpointCacheMs: true,
  maxRetryAfterMs: true,
  breaker: true,
  agentFor: true,
  timeoutMs: true,
};

/** One delivery that was given up. */
export interface DeadLetter {
  /** For `redeliver`. */
  readonly id: string;
  readonly endpoint: string;
  readonly event: string;
  readonly atMs: number;
  readonly attempts: number;
  /**
   * `exhausted`: every attempt failed. `schedule-failed`: a `schedule` of yours threw, or returned what is no wait. `expired`: it
   * waited for `retentionMs`. `endpoint-removed`. `payload-missing`: Redis lost it. Or the code of our own refusal, or a
   * permanent status.
   */
  readonly reason: string;
}

export interface QueueStats {
  readonly published: number;
  readonly delivered: number;
  readonly retried: number;
  readonly dead: number;
  /** Deliveries that wait, those of disabled endpoints included. */
  readonly pending: number;
}

export interface WebhookQueue {
  /**
   * Stores the event and hands it to every endpoint that wants its type. Idempotent by the event's id: to publish it
   * again (from an outbox, after a crash) reaches the endpoints that had not got it. Resolves once it is in Redis.
   */
  publish(
    event: WebhookEvent,
  ): Promise<{ readonly id: string; readonly endpoints: readonly string[] }>;
  /** Starts to deliver in this process. */
  worker(options?: WorkerOptions): WebhookWorker;
  /**
   * Stops deliveries to an endpoint, or to all (then within a worker's `sliceMs`). What waits for an endpoint for `retentionMs`
   * becomes a dead letter, paused or not; while all is paused, nobody comes to do that.
   * @throws WebhookError `ERR_WEBHOOKS_ENDPOINT_UNKNOWN`.
   */
  pause(endpoint?: string): Promise<void>;
  /**
   * Goes on; also enables an endpoint that was disabled.
   * @throws WebhookError `ERR_WEBHOOKS_ENDPOINT_UNKNOWN`.
   */
  resume(endpoint?: string): Promise<void>;
  /**
   * Delivers again what was delivered or given up: an id of `deadLetters`, or `endpoint:event`.
   * @throws WebhookError `ERR_WEBHOOKS_ENDPOINT_UNKNOWN`, or `ERR_WEBHOOKS_DELIVERY_UNKNOWN` when its payload is gone.
   */
  redeliver(id: string): Promise<void>;
  /**
   * Delivers again what was published for (within `historyMs`), or given up on, an endpoint between then and now.
   * Returns how many; what is pending still, or has no payload any more, is not counted. Ids are held in memory meanwhile.
   * @throws WebhookError `ERR_WEBHOOKS_ENDPOINT_UNKNOWN`.
   */
  redeliverSince(endpoint: string, sinceMs: number): Promise<number>;
  /** By endpoint, in the order of their ids, then the oldest first. */
  deadLetters(query?: {
    /** Default: all. */
    readonly endpoint?: string;
    /** How many to skip, over all endpoints. Default 0. */
    readonly offset?: number;
    /** Default 100, up to 1,000. */
    readonly limit?: number;
  }): Promise<readonly DeadLetter[]>;
  /** The latest attempts at an endpoint, newest first: up to `limit`, 1 to 10,000, default 100. */
  attempts(
    endpoint: string,
    limit?: number,
  ): Promise<readonly (AttemptOutcome & { readonly event: string })[]>;
  stats(): Promise<QueueStats>;
  /** What is known about one endpoint. */
  state(endpoint: string): Promise<EndpointState>;
  /** Resolves when nothing is pending (disabled and paused endpoints included, so bound it by `signal`). */
  drained(signal?: AbortSignal): Promise<void>;
  /** Closes the workers, then the queues. */
  close(): Promise<void>;
}

const SECOND_MS = 1000;
const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
const MOST_MS = 3650 * DAY_MS;
const STATES_AT_ONCE = 100;

/**
 * Delivers webhooks durably on BullMQ: at least once, through crashes of workers and of Redis (with AOF).
 * @throws TypeError when an option is missing or out of range.
 */
export function createWebhookQueue(options: WebhookQueueOptions): WebhookQueue {
  assertKnown(options, known);
  const { connection, endpoints, prefix = 'webhooks', shards: shardCount = 4 } = options;
  const {
    retentionMs = 30 * DAY_MS,
    historyMs = DAY_MS,
    timeoutMs = 5000,
    now = Date.now,
  } = options;
  const {
    attemptTimeoutMs = 15_000,
    encryptionKeys,
    agentFor = (tls) => egressAgent({ tls }),
  } = options;
  const { deadLetterMs = 30 * DAY_MS, maxRetryAfterMs = DAY_MS, endpointCacheMs = 5000 } = options;
  const { logEntries = 1000, logMs = 3 * DAY_MS } = options;
  const breaker = { ...defaultBreaker, ...options.breaker };
  assertRedisClient('connection', connection);
  if (typeof endpoints?.matching !== 'function') {
    throw new TypeError('endpoints must be an endpoint store, such as memoryEndpointStore()');
  }
  assertWhole('shards', shardCount, 1, 1024);
  assertWhole('retentionMs', retentionMs, 1, MOST_MS);
  assertWhole('historyMs', historyMs, 0, MOST_MS);
  assertWhole('deadLetterMs', deadLetterMs, 1, MOST_MS);
  assertWhole('maxRetryAfterMs', maxRetryAfterMs, 0, 10 * DAY_MS);
  assertWhole('endpointCacheMs', endpointCacheMs, 0, HOUR_MS);
  assertWhole('timeoutMs', timeoutMs, 1, HOUR_MS);
  assertWhole('logEntries', logEntries, 1, 1_000_000);
  assertWhole('logMs', logMs, 1, MOST_MS);
  assertBreaker(breaker);
  if (!/^[A-Za-z0-9_.-]{1,64}$/.test(prefix)) {
    throw new TypeError('prefix must be 1 to 64 letters, digits, _, . and -');
  }
  const nextDelay = delays(options);
  const attempter = createAttempter(options);
  const vault = encryptionKeys && createVault(encryptionKeys);
  // A delivery that died after `retentionMs` is kept, and can be delivered again, for `deadLetterMs` more.
  const keepMs = Math.max(retentionMs + deadLetterMs, historyMs);
  const payloads = createPayloads(connection, {
    prefix,
    keepMs,
    historyMs,
    vault,
    timeoutMs,
  });
  const directory = createDirectory({
    store: endpoints,
    scheme: options.scheme,
    agentFor,
    cacheMs: endpointCacheMs,
    timeoutMs,
    now,
  });
  // Longer than the longest attempt, with time to settle it.
  const leaseMs = attemptTimeoutMs + 5 * SECOND_MS;
  const shards = createShards(connection, {
    prefix,
    count: shardCount,
    timeoutMs,
    retentionMs,
    deadLetterMs,
    historyMs,
  });
  const ledgerOf = async (endpoint: string): Promise<Ledger> => (await shards.at(endpoint)).ledger;
  const workers = new Set<WebhookWorker>();

  async function enqueue(
    endpoint: string,
    events: readonly string[],
    again: boolean,
  ): Promise<readonly Enqueued[]> {
    // One that cannot be read must not hold up the others; to keep its order does no harm.
    const fifo = await directory.read(endpoint).then(
      (found) => found?.fifo ?? false,
      () => true,
    );
    const { ledger, jobs } = await shards.at(endpoint);
    // Asked for in one turn of the event loop, so they arrive together and in their order.
    const asked = events.map((event) => ledger.enqueue(endpoint, event, { fifo, again }));
    const enqueued = await Promise.all(asked);
    await Promise.all(enqueued.map(({ wake }) => jobs.queueUp(endpoint, wake)));
    return enqueued;
  }

  async function assertEndpoint(endpoint: string): Promise<void> {
    if (await endpoints.get(endpoint)) return;
    throw new WebhookError('ERR_WEBHOOKS_ENDPOINT_UNKNOWN', `there is no endpoint ${endpoint}`);
  }

  /** For each event: `undefined` when its payload is not kept any more; otherwise whether it was not pending already. */
  async function redeliver(
    endpoint: string,
    events: readonly string[],
  ): Promise<readonly (boolean | undefined)[]> {
    await shards.all();
    const kept = await Promise.all(events.map((event) => payloads.retain(event)));
    const deliverable = events.filter((_, index) => kept[index]);
    const enqueued = await enqueue(endpoint, deliverable, true);
    // Somebody needed it already: a delivery that is pending, or a dead letter.
    const surplus = deliverable.filter((_, index) => isSurplus(enqueued[index], false));
    await Promise.all(surplus.map((event) => payloads.release(event, 1)));
    const outcomes = new Map(deliverable.map((event, index) => [event, enqueued[index]?.added]));
    return events.map((event) => outcomes.get(event));
  }

  async function stats(): Promise<QueueStats> {
    const all = await Promise.all((await shards.all()).map(({ ledger }) => ledger.counters()));
    const sum = (name: string): number => all.reduce((total, of) => total + (of[name] ?? 0), 0);
    const [published, delivered, dead] = [sum('published'), sum('delivered'), sum('dead')];
    const pending = published - delivered - dead;
    return { published, delivered, retried: sum('retried'), dead, pending };
  }

  async function mourned(): Promise<readonly string[]> {
    const all = await Promise.all((await shards.all()).map(({ ledger }) => ledger.mourned()));
    return all.flat().sort();
  }

  return {
    async publish(event) {
      const prepared = prepareEvent(event);
      const wanting = await endpoints.matching(prepared.type);
      if (wanting.length === 0) return { id: prepared.id, endpoints: [] };
      await shards.all();
      // First the payload, then what refers to it: a crash in between costs memory, not a delivery.
      const made = await payloads.put(prepared, wanting.length);
      const added = await Promise.all(wanting.map((id) => enqueue(id, [prepared.id], false)));
      const surplus = added.flat().filter((one) => isSurplus(one, made)).length;
      if (surplus > 0) await payloads.release(prepared.id, surplus);
      return { id: prepared.id, endpoints: wanting };
    },

    worker(workerOptions = {}) {
      const started = startWorker(
        connection,
        shards,
        {
          payloads,
          directory,
          attempter,
          nextDelay,
          leaseMs,
          now,
          maxRetryAfterMs,
          breaker,
          logEntries,
          logMs,
          timeoutMs,
        },
        workerOptions,
      );
      const worker: WebhookWorker = {
        async close() {
          await started.close();
          workers.delete(worker);
        },
      };
      workers.add(worker);
      return worker;
    },

    async pause(endpoint) {
      if (endpoint === undefined) {
        await Promise.all((await shards.all()).map(({ jobs }) => jobs.pause()));
        return;
      }
      await assertEndpoint(endpoint);
      await (await ledgerOf(endpoint)).pause(endpoint);
    },
    async resume(endpoint) {
      if (endpoint === undefined) {
        await Promise.all((await shards.all()).map(({ jobs }) => jobs.resume()));
        return;
      }
      await assertEndpoint(endpoint);
      const { ledger, jobs } = await shards.at(endpoint);
      await jobs.queueUp(endpoint, await ledger.resume(endpoint));
    },
    async redeliver(id) {
      const colon = id.indexOf(':');
      if (colon < 1)
        throw new WebhookError('ERR_WEBHOOKS_DELIVERY_UNKNOWN', 'an id is endpoint:event');
      const [endpoint, event] = [id.slice(0, colon), id.slice(colon + 1)];
      await assertEndpoint(endpoint);
      const [outcome] = await redeliver(endpoint, [event]);
      if (outcome !== undefined) return;
      throw new WebhookError(
        'ERR_WEBHOOKS_DELIVERY_UNKNOWN',
        `the payload of ${event} is not kept any more`,
      );
    },
    async redeliverSince(endpoint, sinceMs) {
      if (!Number.isFinite(sinceMs)) throw new TypeError('sinceMs must be milliseconds since 1970');
      await assertEndpoint(endpoint);
      let count = 0;
      const ledger = await ledgerOf(endpoint);
      for await (const events of ledger.since(endpoint, sinceMs)) {
        const outcomes = await redeliver(endpoint, events);
        count += outcomes.filter(Boolean).length;
      }
      return count;
    },
    async deadLetters({ endpoint, offset = 0, limit = 100 } = {}) {
      assertWhole('offset', offset, 0, Number.MAX_SAFE_INTEGER);
      assertWhole('limit', limit, 1, 1000);
      const ids = endpoint === undefined ? await mourned() : [endpoint];
      const letters: DeadLetter[] = [];
      let skipped = 0;
      for (let first = 0; first < ids.length && letters.length < limit; first += STATES_AT_ONCE) {
        const some = ids.slice(first, first + STATES_AT_ONCE);
        const states = await Promise.all(
          some.map(async (id) => await (await ledgerOf(id)).state(id)),
        );
        for (const [index, id] of some.entries()) {
          const from = Math.max(0, offset - skipped);
          const { dead: count } = states[index] as EndpointState;
          skipped += Math.min(count, offset - skipped);
          if (from >= count || letters.length >= limit) continue;
          const dead = await (await ledgerOf(id)).dead(id, from, limit - letters.length);
          for (const letter of dead) {
            letters.push({ id: `${id}:${letter.event}`, endpoint: id, ...letter });
          }
        }
      }
      return letters;
    },
    async attempts(endpoint, limit = 100) {
      assertWhole('limit', limit, 1, 10_000);
      const lines = await (await ledgerOf(endpoint)).log(endpoint, limit);
      return lines.map(([event, line]) => ({ event, ...(JSON.parse(line) as AttemptOutcome) }));
    },
    stats,
    state: async (endpoint) => await (await ledgerOf(endpoint)).state(endpoint),
    async drained(signal) {
      while ((await stats()).pending > 0) {
        signal?.throwIfAborted();
        await new Promise((resolve) => setTimeout(resolve, 50));
      }
    },
    async close() {
      await Promise.all([...workers].map((worker) => worker.close()));
      const closing = Array.from({ length: shardCount }, (_, index) =>
        shards.shard(index).jobs.close(),
      );
      await Promise.allSettled(closing);
      await directory.close();
      await attempter.close();
    },
  };
}

/**
 * The payload's reference that was taken for it is not needed.
 * @param made - the payload was not there any more, nor what was counted.
 */
function isSurplus(enqueued: Enqueued | undefined, made: boolean): boolean {
  if (enqueued?.counted) return !made;
  return !enqueued?.added;
}

function assertBreaker(breaker: BreakerSettings): void {
  const { failures, cooldownMs, maxCooldownMs, disableAfterMs, probeEveryMs, ...unknown } = breaker;
  assertKnown(unknown, {}, 'breaker.');
  assertWhole('breaker.failures', failures, 1, 1_000_000);
  assertWhole('breaker.cooldownMs', cooldownMs, 1, MOST_MS);
  assertWhole('breaker.maxCooldownMs', maxCooldownMs, cooldownMs, MOST_MS);
  assertWhole('breaker.disableAfterMs', disableAfterMs, 0, MOST_MS);
  assertWhole('breaker.probeEveryMs', probeEveryMs, 1, MOST_MS);
}

/** After 5 failures in a row: probes after 5 s, 10 s, … 10 min. After 5 days: disabled, probed every hour. */
export const defaultBreaker: BreakerSettings = Object.freeze({
  failures: 5,
  cooldownMs: 5 * SECOND_MS,
  maxCooldownMs: 600 * SECOND_MS,
  disableAfterMs: 5 * DAY_MS,
  probeEveryMs: HOUR_MS,
});
