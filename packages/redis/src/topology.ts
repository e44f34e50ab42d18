import calculateSlot from 'cluster-key-slot';
import type { Cluster, Redis } from 'ioredis';
import { Lane, type LaneObserver } from './lane.ts';

/** A client of ioredis: single node, Sentinel or Cluster. */
export type RedisClient = Redis | Cluster;

/** Which server runs what. */
export interface Topology {
  slotOf(key: string): number;
  /** The lane to the server that has this slot; `undefined` while that is not known. */
  laneOf(slot: number): Lane | undefined;
  /** The lane to a node that an ASK redirection named. */
  laneAt(address: string): Lane | undefined;
  /** Asks the servers again who has what; `done` is called when there may be news. */
  refresh(done: () => void): void;
  close(): void;
}

export function isCluster(client: RedisClient): client is Cluster {
  return client.isCluster;
}

/** One server, or the master that a Sentinel names: everything goes over one lane. */
export function singleTopology(redis: Redis, observer: LaneObserver): Topology {
  const lane = new Lane(redis, observer);
  return {
    slotOf: () => 0,
    laneOf: () => lane,
    laneAt: () => undefined,
    refresh: () => {},
    close: () => lane.close(),
  };
}

/** A lane for each master, made when it is first needed; ioredis keeps the map of slots. */
export function clusterTopology(cluster: Cluster, observer: LaneObserver): Topology {
  const lanes = new Map<string, Lane>();
  const laneAt = (address: string): Lane | undefined => {
    const known = lanes.get(address);
    if (known) return known;
    const node = cluster.nodes('all').find((candidate) => addressOf(candidate) === address);
    if (!node) return undefined;
    const lane = new Lane(node, observer);
    lanes.set(address, lane);
    return lane;
  };
  const forgetGoneNodes = (): void => {
    const present = new Set(cluster.nodes('all').map(addressOf));
    for (const [address, lane] of lanes) {
      if (present.has(address) || !lane.idle) continue;
      lanes.delete(address);
      lane.close();
    }
  };
  const refreshed = (): void => {
    forgetGoneNodes();
    observer.ready();
  };
  cluster.on('ready', refreshed);
  cluster.on('refresh', refreshed);
  if (cluster.status === 'wait') cluster.connect().catch(() => {});
  return {
    slotOf: (key) => calculateSlot(key),
    laneOf(slot) {
      const address = cluster.status === 'ready' ? cluster.slots[slot]?.[0] : undefined;
      return address === undefined ? undefined : laneAt(address);
    },
    laneAt,
    refresh(done) {
      if (cluster.status === 'ready') cluster.refreshSlotsCache(() => done());
    },
    close() {
      cluster.off('ready', refreshed);
      cluster.off('refresh', refreshed);
      for (const lane of lanes.values()) lane.close();
    },
  };
}

function addressOf({ options }: Redis): string {
  return `${options.host}:${options.port}`;
}
