import { type RedisClient, withDeadline } from '@countersign/redis';
import { type ConnectionOptions, Queue } from 'bullmq';
import type { Ledger, Wake } from './ledger.ts';

/** What a job of BullMQ says: drain this endpoint, unless a job with a later number took over. */
export interface DrainJob {
  readonly endpoint: string;
  readonly seq: number;
}

/** The drain jobs of one shard: one for each endpoint with a backlog. */
export interface DrainJobs {
  /** Begins every key of BullMQ. */
  readonly prefix: string;
  /** Queues a job for the endpoint, when somebody is to come. Rejects when Redis does not answer; then a sweep comes for it. */
  queueUp(endpoint: string, wake: Wake | undefined): Promise<void>;
  /** Removes a job that another took over from. One that runs refuses, and sees for itself that it is stale. */
  withdraw(job: DrainJob): Promise<void>;
  /** Comes for endpoints whose job was never queued, or was lost: their publisher or worker crashed. */
  sweep(): Promise<void>;
  pause(): Promise<void>;
  resume(): Promise<void>;
  close(): Promise<void>;
}

export const DRAIN_QUEUE = 'drain';
const SWEEP_GRACE_MS = 10_000;
const SWEEP_AT_ONCE = 1000;

export function createDrainJobs(
  connection: RedisClient,
  {
    ledger,
    prefix,
    timeoutMs,
  }: { readonly ledger: Ledger; readonly prefix: string; readonly timeoutMs: number },
): DrainJobs {
  const queue = new Queue<DrainJob>(DRAIN_QUEUE, {
    connection: connection as unknown as ConnectionOptions,
    prefix,
    defaultJobOptions: { removeOnComplete: true, removeOnFail: true, attempts: 1 },
    // Nobody reads BullMQ's own events.
    streams: { events: { maxLen: 100 } },
  });
  queue.on('error', () => undefined);

  async function queueUp(endpoint: string, wake: Wake | undefined): Promise<void> {
    if (!wake) return;
    const { seq, delayMs } = wake;
    const job = { endpoint, seq };
    const adding = queue.add('drain', job, { jobId: jobId(job), delay: delayMs });
    // The one before may rest until a retry that is hours away, and would be left behind.
    const removing = withdraw({ endpoint, seq: seq - 1 });
    // BullMQ would wait for Redis to come back; the publisher is told instead, and a sweep comes for the endpoint.
    await withDeadline(adding, timeoutMs);
    await removing;
  }

  async function withdraw(job: DrainJob): Promise<void> {
    const removing = queue.remove(jobId(job), { removeChildren: false });
    // What is left behind costs memory until it wakes up, nothing else.
    await withDeadline(removing, timeoutMs).catch(() => undefined);
  }

  return {
    prefix,
    queueUp,
    withdraw,
    async sweep() {
      for (const endpoint of await ledger.overdue(SWEEP_GRACE_MS, SWEEP_AT_ONCE)) {
        const id = jobId({ endpoint, seq: await ledger.sequence(endpoint) });
        const state = await queue.getJobState(id);
        // It was queued by a clock that is ahead of the others.
        if (state === 'delayed') await promote(queue, id);
        // It waits for its turn behind others: to queue it again would send it to the end.
        if (state !== 'unknown') continue;
        await queueUp(endpoint, await ledger.revive(endpoint, SWEEP_GRACE_MS));
      }
    },
    pause: async () => await queue.pause(),
    resume: async () => await queue.resume(),
    close: async () => await withDeadline(queue.close(), timeoutMs),
  };
}

function jobId({ endpoint, seq }: DrainJob): string {
  return `${endpoint}.${seq}`;
}

async function promote(queue: Queue<DrainJob>, id: string): Promise<void> {
  const job = await queue.getJob(id);
  // Somebody else may be faster.
  await job?.promote().catch(() => undefined);
}
