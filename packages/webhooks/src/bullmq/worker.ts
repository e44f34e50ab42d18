import { assertKnown, type OptionNames } from '@countersign/options';
import type { RedisClient } from '@countersign/redis';
import { type ConnectionOptions, DelayedError, Worker } from 'bullmq';
import { assertWhole } from '../range.ts';
import { closeWorker, ownWorker } from './closing.ts';
import { type DrainSettings, drain } from './drain.ts';
import { DRAIN_QUEUE, type DrainJob } from './drain-jobs.ts';
import type { Shards } from './shards.ts';

export interface WorkerOptions {
  /** Endpoints drained at the same time, in each shard. Default 100. */
  readonly concurrency?: number;
  /** Which shards to serve. Default: all. */
  readonly shards?: readonly number[];
  /** An endpoint with a long backlog lets others have its place after this long, in milliseconds. Default 5,000. */
  readonly sliceMs?: number;
  /** How often to look for endpoints that nobody came for, in milliseconds. Default 30,000. */
  readonly sweepMs?: number;
  /** Told about errors of Redis and BullMQ. Default: they are swallowed, work goes on when Redis is back. */
  readonly onError?: (error: Error) => void;
}

const known: OptionNames<WorkerOptions> = {
  concurrency: true,
  shards: true,
  sliceMs: true,
  sweepMs: true,
  onError: true,
};

export interface WebhookWorker {
  /**
   * Takes nothing new, waits for the attempts that are being made, and gives the rest back. While Redis is away, it
   * takes no longer than `attemptTimeoutMs + timeoutMs` and 5 seconds; what could not be settled is attempted again.
   */
  close(): Promise<void>;
}

const HOUR_MS = 3_600_000;

/**
 * Starts to deliver in this process.
 * @throws TypeError when an option is out of range.
 */
export function startWorker(
  connection: RedisClient,
  shards: Shards,
  settings: Omit<DrainSettings, 'ledger' | 'sliceMs'> & { readonly timeoutMs: number },
  options: WorkerOptions,
): WebhookWorker {
  assertKnown(options, known);
  const { concurrency = 100, sliceMs = 5000, sweepMs = 30_000, onError } = options;
  const { shards: served = Array.from({ length: shards.count }, (_, index) => index) } = options;
  assertWhole('concurrency', concurrency, 1, 10_000);
  assertWhole('sliceMs', sliceMs, 1, HOUR_MS);
  assertWhole('sweepMs', sweepMs, 1, HOUR_MS);
  if (served.length === 0 || new Set(served).size < served.length) {
    throw new TypeError('shards must name at least one shard, and each once');
  }
  for (const shard of served) assertWhole('shards', shard, 0, shards.count - 1);
  const { leaseMs, timeoutMs } = settings;
  const stop = new AbortController();
  const failed = (error: unknown): void => onError?.(error as Error);

  const running = served.map((index) => {
    const { ledger, jobs } = shards.shard(index);
    const make = () =>
      new Worker<DrainJob>(
        DRAIN_QUEUE,
        async (job, token) => {
          const { endpoint, seq } = job.data;
          const ofShard = { ...settings, ledger, sliceMs };
          const restMs = await drain(endpoint, seq, stop.signal, ofShard);
          if (restMs === undefined) return;
          // By the clock that BullMQ looks at.
          await job.moveToDelayed(Date.now() + restMs, token);
          // Whoever took over before it lay down could not remove it.
          const latest = await ledger.sequence(endpoint).catch(() => seq);
          if (latest !== seq) await jobs.withdraw(job.data);
          throw new DelayedError();
        },
        {
          connection: connection as unknown as ConnectionOptions,
          prefix: jobs.prefix,
          concurrency,
          // A drain job is never given up: what it stands for is in the ledger, and it may crash any number of times.
          maxStalledCount: Number.MAX_SAFE_INTEGER,
          lockDuration: leaseMs,
          // Looked for more often, so that what a worker that is gone was draining waits for little longer than the lease.
          stalledInterval: Math.ceil(leaseMs / 4),
          removeOnComplete: { count: 0 },
          removeOnFail: { count: 0 },
        },
      );
    const owned = ownWorker(connection, make);
    const { worker } = owned;
    worker.on('error', failed);
    // An endpoint that cannot be read or called as it is stored. Its deliveries wait; a sweep comes for it again.
    worker.on('failed', (_, error) => failed(error));
    return owned;
  });

  async function sweep(): Promise<void> {
    try {
      await shards.all();
    } catch (error) {
      if ((error as { code?: unknown }).code === 'ERR_WEBHOOKS_SHARDS_CHANGED') await refuse(error);
      else failed(error);
      return;
    }
    await Promise.all(served.map((index) => shards.shard(index).jobs.sweep().catch(failed)));
  }

  /** Others look elsewhere for what this worker would be asked to deliver. */
  async function refuse(error: unknown): Promise<void> {
    if (onError) failed(error);
    else process.emitWarning(error as Error);
    await close();
  }

  async function close(): Promise<void> {
    clearInterval(timer);
    stop.abort();
    // BullMQ would wait for Redis to come back. Attempts have ended, and were settled if that was possible, by then;
    // what was not is attempted again when its lease ends.
    const timeLimitMs = leaseMs + timeoutMs;
    await Promise.all(running.map((owned) => closeWorker(owned, timeLimitMs).catch(failed)));
  }

  const timer = setInterval(() => void sweep(), sweepMs).unref();
  void sweep();
  return { close };
}
