import { assertKnown, type OptionNames } from '@countersign/options';
import { assertRedisClient, type RedisClient, withDeadline } from '@countersign/redis';
import type { SealKeySource } from '@countersign/seal';
import { type Job as BullJob, type ConnectionOptions, DelayedError, Queue, Worker } from 'bullmq';
import type { Webhook } from '../admission.ts';
import { WebhookError } from '../errors.ts';
import { handleTimeout, storeKey } from '../lease.ts';
import { assertWhole } from '../range.ts';
import { createVault, readAgainMs } from '../seal.ts';
import { closeWorker, ownWorker } from './closing.ts';

export interface InboxOptions<T> {
  /** An ioredis client (`Redis` or `Cluster`) with `maxRetriesPerRequest: null`. It stays yours to close. */
  readonly connection: RedisClient;
  /**
   * Processes one webhook; a rejection has it processed again. `signal` aborts when the worker is closed (then a rejection uses up
   * no try), or when it takes longer than `handleTimeoutMs`.
   */
  readonly handle: (webhook: InboxWebhook<T>, signal: AbortSignal) => void | Promise<void>;
  /**
   * How long one try may take, in milliseconds, 1 to 86,400,000; default 300,000. Then it counts as failed, is not waited for any
   * more, and is made again, although what it began may be going on: heed the signal.
   */
  readonly handleTimeoutMs?: number;
  /** The queue's name; default `inbox`. */
  readonly name?: string;
  /** Begins every key; default `{webhooks}`. On a cluster it must have a hash tag. */
  readonly prefix?: string;
  /** How often a webhook is tried, up to 1,000; default 10. Then it stays in BullMQ's failed set for `failedMs`. */
  readonly attempts?: number;
  /**
   * The wait before the second try, in milliseconds; doubles each time, without an end, and is up to a half shorter. Default 1,000:
   * 10 tries take 4 to 9 minutes, 20 take days, 30 years.
   */
  readonly backoffMs?: number;
  /**
   * How long a webhook that was given up is kept, in milliseconds, in steps of seconds; default 30 days. BullMQ removes
   * old ones when it gives up another. One that was processed is removed at once.
   */
  readonly failedMs?: number;
  /**
   * Encrypts payloads at rest: keys of `@countersign/seal`, 32 bytes or what gets them; the first encrypts, all decrypt. What
   * no key opens is tried again every 10 minutes, and uses up no attempt. Default: not encrypted.
   */
  readonly encryptionKeys?: readonly SealKeySource[];
  /** How long Redis may take to store a webhook, and to close, in milliseconds. Default 5,000. */
  readonly timeoutMs?: number;
}

const known: OptionNames<InboxOptions<unknown>> = {
  connection: true,
  handle: true,
  handleTimeoutMs: true,
  name: true,
  prefix: true,
  attempts: true,
  backoffMs: true,
  failedMs: true,
  encryptionKeys: true,
  timeoutMs: true,
};

/** A webhook as it comes out of the queue: without its raw body. */
export type InboxWebhook<T> = Pick<
  Webhook<T>,
  'id' | 'source' | 'timestampMs' | 'payload' | 'keyIndex'
>;

/** A durable queue between a receiver and its handler: give `inbox.add` to `createReceiver` as `handOver`. */
export interface Inbox<T> {
  /** Resolves once the webhook is in Redis. The same id is queued once while it is pending; given up, it starts anew. */
  readonly add: (webhook: Webhook<T>) => Promise<void>;
  /**
   * Starts to process in this process, so many at the same time (default 10). `onError` is told about every try that failed, what
   * cannot be read, and errors of Redis and BullMQ.
   */
  worker(options?: { readonly concurrency?: number; readonly onError?: (error: Error) => void }): {
    close(): Promise<void>;
  };
  /** Closes the workers, then the queue. */
  close(): Promise<void>;
}

interface Job {
  /** JSON, or base64 of sealed JSON. */
  readonly webhook: string;
  readonly sealed: boolean;
}

const DAY_MS = 86_400_000;

/** Until a worker that is being closed takes no more. */
const ELSEWHERE_MS = 1000;

/** BullMQ takes errors only: of anything else it would lose track until the job's lock ends. */
function failureOf(thrown: unknown): Error {
  if (thrown instanceof Error) return thrown;
  return new Error(`handle threw ${String(thrown)}`, { cause: thrown });
}

/** Has a job come back without having used up a try. Never resolves. */
async function putOff(job: BullJob, delayMs: number, token: string | undefined): Promise<never> {
  // By the clock that BullMQ looks at.
  await job.moveToDelayed(Date.now() + delayMs, token);
  throw new DelayedError();
}

/**
 * Creates an inbox on BullMQ: at least once, through crashes of workers and of Redis (with AOF).
 * @throws TypeError when an option is missing or out of range.
 */
export function createInbox<T = unknown>(options: InboxOptions<T>): Inbox<T> {
  assertKnown(options, known);
  const {
    handle,
    name = 'inbox',
    prefix = '{webhooks}',
    attempts = 10,
    backoffMs = 1000,
    failedMs = 30 * DAY_MS,
    handleTimeoutMs = 300_000,
    timeoutMs = 5000,
  } = options;
  if (!/^[^:]{1,64}$/.test(name))
    throw new TypeError('name must be 1 to 64 characters without ":"');
  if (prefix === '') throw new TypeError('prefix must not be empty');
  if (typeof handle !== 'function') throw new TypeError('handle must be a function');
  assertWhole('attempts', attempts, 1, 1000);
  assertWhole('backoffMs', backoffMs, 1, DAY_MS);
  assertWhole('failedMs', failedMs, 1000, 3650 * DAY_MS);
  assertWhole('handleTimeoutMs', handleTimeoutMs, 1, DAY_MS);
  assertWhole('timeoutMs', timeoutMs, 1, 3_600_000);
  assertRedisClient('connection', options.connection);
  const connection = options.connection as unknown as ConnectionOptions;
  const vault = options.encryptionKeys && createVault(options.encryptionKeys);
  const queue = new Queue<Job>(name, { connection, prefix });
  queue.on('error', () => undefined);
  const workers = new Set<{ close(): Promise<void> }>();
  const sealedAs = (jobId: string): string => `${name}:${jobId}`;

  async function encoded(webhook: Webhook<T>, jobId: string): Promise<Job> {
    const { id, source, timestampMs, payload, keyIndex } = webhook;
    const text = JSON.stringify({ id, source, timestampMs, payload, keyIndex });
    if (!vault) return { webhook: text, sealed: false };
    const sealed = await vault.seal(Buffer.from(text), sealedAs(jobId));
    return { webhook: sealed.toString('base64'), sealed: true };
  }

  async function decoded({
    id = '',
    data: { webhook, sealed },
  }: BullJob<Job>): Promise<InboxWebhook<T>> {
    if (!sealed) return JSON.parse(webhook) as InboxWebhook<T>;
    if (!vault) {
      throw new WebhookError(
        'ERR_WEBHOOKS_STORE_FAILED',
        'what is queued is encrypted, and there are no encryptionKeys',
      );
    }
    const text = await vault.open(Buffer.from(webhook, 'base64'), sealedAs(id));
    return JSON.parse(text.toString()) as InboxWebhook<T>;
  }

  /** One try, for as long as it may take. */
  async function attempt(webhook: InboxWebhook<T>, closing: AbortSignal): Promise<void> {
    const late = new AbortController();
    const over = Promise.withResolvers<never>();
    const timer = setTimeout(() => {
      const error = handleTimeout(handleTimeoutMs);
      late.abort(error);
      over.reject(error);
    }, handleTimeoutMs);
    const signal = AbortSignal.any([closing, late.signal]);
    try {
      await Promise.race([(async () => await handle(webhook, signal))(), over.promise]);
    } finally {
      clearTimeout(timer);
    }
  }

  async function put(webhook: Webhook<T>): Promise<void> {
    // BullMQ keeps ":" for itself, and ids from bodies may hold anything.
    const jobId = Buffer.from(storeKey(webhook.source, webhook.id)).toString('base64url');
    const data = await encoded(webhook, jobId);
    const before = await queue.getJob(jobId);
    if (before && (await before.isFailed())) return await again(before, data);
    await queue.add('webhook', data, {
      jobId,
      attempts,
      backoff: { type: 'exponential', delay: backoffMs, jitter: 0.5 },
      removeOnComplete: true,
      removeOnFail: { age: Math.floor(failedMs / 1000) },
    });
  }

  /** What was given up keeps its id, for which BullMQ would add nothing: it starts anew, with what came now. */
  async function again(job: BullJob<Job>, data: Job): Promise<void> {
    try {
      await job.updateData(data);
      await job.retry('failed', { resetAttemptsMade: true, resetAttemptsStarted: true });
    } catch (error) {
      // Somebody else was faster; when the job is still there, or nowhere, the sender must come back.
      const state = await job.getState();
      if (state === 'failed' || state === 'unknown') throw error;
    }
  }

  return {
    async add(webhook) {
      // BullMQ would wait for Redis to come back; the sender is told to come back instead.
      await withDeadline(put(webhook), timeoutMs);
    },
    worker(workerOptions = {}) {
      assertKnown(workerOptions, { concurrency: true, onError: true });
      const { concurrency = 10, onError } = workerOptions;
      assertWhole('concurrency', concurrency, 1, 10_000);
      const stop = new AbortController();
      const failed = (error: unknown): void => onError?.(error as Error);
      const handling = new Set<Promise<void>>();
      const make = () =>
        new Worker<Job>(
          name,
          async (job, token) => {
            // A worker that is being closed still takes what it has asked for.
            if (stop.signal.aborted) return await putOff(job, ELSEWHERE_MS, token);
            let webhook: InboxWebhook<T>;
            try {
              webhook = await decoded(job);
            } catch (error) {
              failed(error);
              return await putOff(job, readAgainMs(error), token);
            }
            const work = attempt(webhook, stop.signal);
            handling.add(work);
            try {
              await work;
            } catch (error) {
              if (!stop.signal.aborted) throw failureOf(error);
              // It was told to stop: whoever comes next makes the same try.
              await putOff(job, ELSEWHERE_MS, token);
            } finally {
              handling.delete(work);
            }
          },
          // With BullMQ's default of 1, a webhook whose worker crashes twice would be given up.
          {
            connection,
            prefix,
            concurrency,
            maxStalledCount: Number.MAX_SAFE_INTEGER,
          },
        );
      const owned = ownWorker(options.connection, make);
      owned.worker.on('error', failed);
      // A try that failed: nobody else hears of it, since the sender was answered long ago.
      owned.worker.on('failed', (_, error) => failed(error));
      const handleOf = {
        async close() {
          stop.abort();
          void owned.worker.close();
          // Handlers take as long as they may; Redis does not.
          await Promise.allSettled(handling);
          await closeWorker(owned, timeoutMs).catch(failed);
          workers.delete(handleOf);
        },
      };
      workers.add(handleOf);
      return handleOf;
    },
    async close() {
      await Promise.all([...workers].map((worker) => worker.close()));
      await withDeadline(queue.close(), timeoutMs).catch(() => undefined);
    },
  };
}
