import { type RedisClient, script } from '@countersign/redis';
import { WebhookError } from '../errors.ts';
import { createDrainJobs, type DrainJobs } from './drain-jobs.ts';
import { createLedger, type Ledger, type LedgerOptions } from './ledger.ts';
import { shardOf, shardPrefix } from './shard.ts';

/** A part of the endpoints: their deliveries, and the jobs that make them. */
export interface Shard {
  readonly index: number;
  readonly ledger: Ledger;
  readonly jobs: DrainJobs;
}

/** The methods reject with `ERR_WEBHOOKS_SHARDS_CHANGED` when what is in Redis is spread over another number of shards. */
export interface Shards {
  readonly count: number;
  all(): Promise<readonly Shard[]>;
  /** The one that an endpoint is in. */
  at(endpoint: string): Promise<Shard>;
  /** Without asking Redis. */
  shard(index: number): Shard;
}

/** Whoever comes first decides. */
const agreeScript = script<readonly [count: number], number>(
  `
redis.call('SET', KEYS[1], ARGV[1], 'NX')
return tonumber(redis.call('GET', KEYS[1]))
`,
  { keys: 1 },
);

export function createShards(
  connection: RedisClient,
  options: Omit<LedgerOptions, 'shard'> & { readonly count: number },
): Shards {
  const { count, ...settings } = options;
  const { prefix, timeoutMs } = settings;
  const shards = Array.from({ length: count }, (_, index): Shard => {
    const ledger = createLedger(connection, { ...settings, shard: index });
    const of = { ledger, prefix: shardPrefix(prefix, index), timeoutMs };
    return { index, ledger, jobs: createDrainJobs(connection, of) };
  });
  let agreed: Promise<void> | undefined;

  async function agree(): Promise<void> {
    const found = await agreeScript(connection, [`${prefix}:shards`], [count], { timeoutMs });
    if (found === count) return;
    throw new WebhookError(
      'ERR_WEBHOOKS_SHARDS_CHANGED',
      `there are ${found} shards under ${prefix}, not ${count}: what waits there would be looked for in the wrong ones`,
    );
  }

  async function agreement(): Promise<void> {
    agreed ??= agree();
    try {
      await agreed;
    } catch (error) {
      agreed = undefined;
      throw error;
    }
  }

  const shard = (index: number): Shard => shards[index] as Shard;
  return {
    count,
    shard,
    async all() {
      await agreement();
      return shards;
    },
    async at(endpoint) {
      await agreement();
      return shard(shardOf(endpoint, count));
    },
  };
}
