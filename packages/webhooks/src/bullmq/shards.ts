import type { RedisClient } from '@countersign/redis';
import { createDrainJobs, type DrainJobs } from './drain-jobs.ts';
import { createLedger, type Ledger, type LedgerOptions } from './ledger.ts';
import { shardOf, shardPrefix } from './shard.ts';

/** A part of the endpoints: their deliveries, and the jobs that make them. */
export interface Shard {
  readonly index: number;
  readonly ledger: Ledger;
  readonly jobs: DrainJobs;
}

export interface Shards {
  readonly all: readonly Shard[];
  /** The one that an endpoint is in. */
  at(endpoint: string): Shard;
}

export function createShards(
  connection: RedisClient,
  options: Omit<LedgerOptions, 'shard'> & { readonly count: number },
): Shards {
  const { count, ...settings } = options;
  const { prefix, timeoutMs } = settings;
  const all = Array.from({ length: count }, (_, index): Shard => {
    const ledger = createLedger(connection, { ...settings, shard: index });
    const of = { ledger, prefix: shardPrefix(prefix, index), timeoutMs };
    return { index, ledger, jobs: createDrainJobs(connection, of) };
  });
  return { all, at: (endpoint) => all[shardOf(endpoint, count)] as Shard };
}
