import type { Cluster, Redis } from 'ioredis';

/**
 * Lets time pass for the records in Redis without waiting: leases and lifetimes end earlier by this much.
 * Redis' own clock decides about them and cannot be moved.
 */
export async function rewind(redis: Redis | Cluster, prefix: string, ms: number): Promise<void> {
  const nodes = 'nodes' in redis ? redis.nodes('master') : [redis];
  for (const node of nodes) {
    for (const key of await node.keys(`${prefix}*`)) await rewindRecord(node, key, ms);
  }
}

async function rewindRecord(redis: Redis, key: string, ms: number): Promise<void> {
  const value = await redis.getBuffer(key);
  const leftMs = (await redis.pttl(key)) - ms;
  if (!value) return;
  if (leftMs <= 0) {
    await redis.del(key);
    return;
  }
  const line = value.toString('latin1', 0, value.indexOf('\n'));
  const [, state = '', rest = '', leaseUntil, owner] =
    /^1 ([pt]) (\d+ \S+) (\d+) (\S+)$/.exec(line) ?? [];
  const moved = state
    ? Buffer.from(`1 ${state} ${rest} ${Number(leaseUntil) - ms} ${owner}\n`)
    : value;
  await redis.set(key, moved, 'PX', leftMs);
}
