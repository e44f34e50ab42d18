import calculateSlot from 'cluster-key-slot';
import type { Cluster, Redis, RedisOptions } from 'ioredis';
import { type Address, Lane, type LaneObserver } from './lane.ts';

/** A client of ioredis: single node, Sentinel or Cluster. */
export type RedisClient = Redis | Cluster;

/** A connection to a node that is in no map is kept until nobody has needed it for so long, or up to twice that. */
const disuseMs = 5000;

/** Which server runs what. */
export interface Topology {
  slotOf(key: string): number;
  /** The lane to the server that has this slot; `undefined` while that is not known. */
  laneOf(slot: number): Lane | undefined;
  /** The lane to a node that a redirection named. */
  laneAt(address: string): Lane | undefined;
  /** The lane to the server that has this slot, until the servers are asked again. */
  moved(slot: number, lane: Lane): void;
  /** Asks the servers again who has what; `done` is called when there may be news. */
  refresh(done: () => void): void;
  close(): void;
}

/**
 * For who keeps a client to call scripts with: a mistake is noticed when it is made, not taken for a store that is down.
 * @throws TypeError naming the option, unless it is a client of ioredis.
 */
export function assertRedisClient(option: string, client: RedisClient): void {
  if (typeof client?.duplicate !== 'function' || typeof client.isCluster !== 'boolean')
    throw new TypeError(`${option}: expected a Redis or Cluster of ioredis`);
}

export function isCluster(client: RedisClient): client is Cluster {
  return client.isCluster;
}

/** One server, or the master that a Sentinel names: everything goes over one lane. */
export function singleTopology(redis: Redis, observer: LaneObserver): Topology {
  const lane = new Lane(() => redis, observer);
  return {
    slotOf: () => 0,
    laneOf: () => lane,
    laneAt: () => undefined,
    moved: () => {},
    refresh: () => {},
    close: () => lane.close(),
  };
}

/** A lane for each master, made when it is first needed; ioredis keeps the map of slots. */
export function clusterTopology(cluster: Cluster, observer: LaneObserver): Topology {
  const lanes = new Map<string, Lane>();
  const movedTo = new Map<number, Lane>();
  const nodeAt = (name: string): Redis | undefined =>
    cluster.nodes('all').find((node) => nameOf(node.options) === name);

  const laneTo = (address: Address): Lane | undefined => {
    const name = nameOf(address);
    const known = lanes.get(name);
    if (known) return known;
    // A node that has no slots yet is in no map, but it is reached in the same way as the others.
    const like = nodeAt(name) ?? cluster.nodes('all')[0];
    if (!like) return undefined;
    const lane = new Lane(() => nodeAt(name) ?? like, observer, address);
    lanes.set(name, lane);
    return lane;
  };
  let lookedAt = performance.now();
  const forgetGoneNodes = (): void => {
    // Maps may come one right after the other, and nobody had the time to need anything between them.
    const isTime = performance.now() - lookedAt >= disuseMs;
    if (isTime) lookedAt = performance.now();
    const present = new Set(cluster.nodes('all').map(({ options }) => nameOf(options)));
    for (const [name, lane] of lanes) {
      if (!lane.closed && (present.has(name) || !isTime || !lane.disused())) continue;
      lanes.delete(name);
      lane.close();
    }
  };
  const refreshed = (): void => {
    movedTo.clear();
    forgetGoneNodes();
    observer.ready();
  };
  // When its user closes it while it has no connection itself, ioredis never says that it has ended.
  const retire = (): void => {
    for (const lane of lanes.values()) lane.retire();
  };
  cluster.on('ready', refreshed);
  cluster.on('refresh', refreshed);
  cluster.on('disconnecting', retire);
  if (cluster.status === 'wait') cluster.connect().catch(() => {});
  return {
    slotOf: (key) => calculateSlot(key),
    laneOf(slot) {
      const name = cluster.status === 'ready' ? cluster.slots[slot]?.[0] : undefined;
      if (name === undefined) return undefined;
      return movedTo.get(slot) ?? lanes.get(name) ?? laneTo(addressIn(name));
    },
    laneAt(name) {
      const { natMap } = cluster.options;
      const mapped = typeof natMap === 'function' ? natMap(name) : natMap?.[name];
      const address = mapped ?? addressIn(name);
      // An address without a host would be taken for this machine.
      return address.host && address.port > 0 ? laneTo(address) : undefined;
    },
    moved: (slot, lane) => void movedTo.set(slot, lane),
    refresh(done) {
      if (cluster.status !== 'ready') return;
      cluster.refreshSlotsCache((error) => {
        if (error) noticeDeadNodes(cluster);
        done();
      });
    },
    close() {
      cluster.off('ready', refreshed);
      cluster.off('refresh', refreshed);
      cluster.off('disconnecting', retire);
      for (const lane of lanes.values()) lane.close();
    },
  };
}

/**
 * No node told who has what. ioredis turns to the nodes it was given at first once it has lost all the others, but notices
 * the loss of those only to which it has a connection; here the commands take other ones.
 */
function noticeDeadNodes(cluster: Cluster): void {
  for (const node of cluster.nodes('all'))
    if (node.status === 'wait') node.connect().catch(() => {});
}

function nameOf({ host, port }: Pick<RedisOptions, 'host' | 'port'>): string {
  return `${host}:${port}`;
}

function addressIn(name: string): Address {
  const colon = name.lastIndexOf(':');
  return { host: name.slice(0, colon), port: Number(name.slice(colon + 1)) };
}
