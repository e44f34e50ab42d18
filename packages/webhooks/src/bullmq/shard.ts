import { createHash } from 'node:crypto';

/** The keys of one endpoint. All of a shard's keys, BullMQ's included, share the hash tag, so one slot of a cluster. */
export interface EndpointKeys {
  /** Sorted set: pending events, by when they are due (FIFO: by their turn). */
  readonly due: string;
  /** Hash: what is known about the endpoint's health, and who drains it. */
  readonly state: string;
  /** Sorted set of the shard: endpoints, by when somebody comes for them. */
  readonly wakes: string;
  /** Sorted set: dead letters, by when they died. */
  readonly dead: string;
  /** Hash: attempts used up and why no more are made, by dead event. */
  readonly reasons: string;
  /** Hash: attempts used up, by pending event. */
  readonly tries: string;
  /** Sorted set: events published lately, by when. */
  readonly history: string;
  /** Stream: the latest attempts. */
  readonly log: string;
  /** Hash of the shard: counters. */
  readonly stats: string;
  /** Sorted set of the shard: endpoints with dead letters, by when the latest died. */
  readonly letters: string;
}

/** What begins every key of a shard; also the prefix of its BullMQ queue. */
export function shardPrefix(prefix: string, shard: number): string {
  return `${prefix}:{${shard}}`;
}

export function keysOf(prefix: string, shard: number, endpoint: string): EndpointKeys {
  const base = shardPrefix(prefix, shard);
  return {
    due: `${base}:due:${endpoint}`,
    state: `${base}:state:${endpoint}`,
    wakes: `${base}:wakes`,
    dead: `${base}:dead:${endpoint}`,
    reasons: `${base}:reasons:${endpoint}`,
    tries: `${base}:tries:${endpoint}`,
    history: `${base}:history:${endpoint}`,
    log: `${base}:log:${endpoint}`,
    stats: `${base}:stats`,
    letters: `${base}:letters`,
  };
}

/** Which shard an endpoint is in: always the same for the same number of shards. */
export function shardOf(endpoint: string, shards: number): number {
  return createHash('sha256').update(endpoint).digest().readUInt32BE(0) % shards;
}
