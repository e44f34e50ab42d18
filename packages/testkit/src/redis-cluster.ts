import { randomBytes } from 'node:crypto';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Cluster, type ClusterOptions, type Redis } from 'ioredis';
import {
  freePorts,
  host,
  ignore,
  isReplicating,
  launch,
  type RedisServer,
  serverArguments,
} from './redis-server.ts';
import { allOrNone, inDirectory, until } from './starting.ts';

const slotCount = 16_384;

/** ioredis' options, without `replyMapping` as for a single server. */
export type ClusterClientOptions = Omit<ClusterOptions, 'redisOptions'> & {
  readonly redisOptions?: Omit<NonNullable<ClusterOptions['redisOptions']>, 'replyMapping'>;
};

export interface RedisClusterOptions {
  /** Default 3. */
  readonly masters?: number;
  /** Replicas of each master. Default 0. */
  readonly replicas?: 0 | 1;
  /** Masters that have no slots yet. Default 0. */
  readonly spares?: number;
  /** How long a node may be silent before the others call it failed; default 1000 ms. */
  readonly nodeTimeoutMs?: number;
  /** Further `redis.conf` settings of every node. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** A Redis Cluster of our own: real servers in cluster mode. */
export interface RedisClusterServers {
  /** The servers that began as masters, in slot order. */
  readonly masters: readonly RedisServer[];
  /** `replicas[i]` began as the replica of `masters[i]`. Empty without replicas. */
  readonly replicas: readonly RedisServer[];
  readonly spares: readonly RedisServer[];
  readonly nodes: readonly { readonly host: string; readonly port: number }[];
  /** A new cluster client. It is closed by `stop()`. */
  client(options?: ClusterClientOptions): Cluster;
  /** Makes `replicas[index]` the master of its slots (`CLUSTER FAILOVER`, or `TAKEOVER` when the master is dead). */
  failover(index: number): Promise<void>;
  /** Begins to move a slot: from now on the master that has it answers `ASK` for keys that it does not have. */
  migration(slot: number, to: RedisServer): Promise<SlotMigration>;
  stop(): Promise<void>;
}

export interface SlotMigration {
  /** Moves these keys, or all that the slot has. */
  move(...keys: string[]): Promise<void>;
  /** Gives the slot to its new master; every node knows it then. */
  finish(): Promise<void>;
}

/** Starts a Redis Cluster and waits until every node calls it ok (Redis itself insists on two seconds). */
export async function startRedisCluster(
  options: RedisClusterOptions = {},
): Promise<RedisClusterServers> {
  return await inDirectory('redis-cluster', (root) => startClusterIn(root, options));
}

async function startClusterIn(
  root: string,
  options: RedisClusterOptions,
): Promise<RedisClusterServers> {
  const {
    masters: masterCount = 3,
    replicas: replicaCount = 0,
    spares: spareCount = 0,
    nodeTimeoutMs = 1000,
  } = options;
  const serving = masterCount * (1 + replicaCount);
  const topology = await plan(root, masterCount, serving, serving + spareCount);
  // Starting from a written topology spares the MEET handshake and the gossip that follows it.
  const servers = await allOrNone(
    topology.map(async (node) => {
      await mkdir(node.dir);
      await writeFile(join(node.dir, 'nodes.conf'), nodesConf(topology, node));
      const args = [
        serverArguments({ ...(options.settings && { settings: options.settings }) }),
        ['--cluster-enabled', 'yes', '--cluster-port', String(node.busPort)],
        ['--cluster-node-timeout', String(nodeTimeoutMs), '--cluster-config-file', 'nodes.conf'],
      ].flat();
      return await launch({ dir: node.dir, within: root, args, port: node.port });
    }),
  );
  const admins = servers.map((server) => server.client({ lazyConnect: false }));
  const clients = new Set<Cluster>();
  const nodes = servers.map(({ port }) => ({ host, port }));

  const stop = async (): Promise<void> => {
    for (const client of clients) client.disconnect();
    await Promise.all(servers.map((server) => server.stop()));
    await rm(root, { recursive: true, force: true });
  };
  try {
    await Promise.all(admins.map((admin) => until(() => isClusterOk(admin), 'the cluster is ok')));
    await Promise.all(
      admins
        .slice(masterCount, serving)
        .map((admin) => until(() => isReplicating(admin), 'the replica follows its master')),
    );
  } catch (error) {
    await stop();
    throw error;
  }

  return {
    masters: servers.slice(0, masterCount),
    replicas: servers.slice(masterCount, serving),
    spares: servers.slice(serving),
    nodes,
    client(clientOptions = {}) {
      const client = new Cluster([...nodes], clientOptions);
      client.on('error', ignore);
      clients.add(client);
      return client;
    },
    async failover(index) {
      const replica = admins[masterCount + index];
      const id = topology[masterCount + index]?.id;
      if (!replica || !id) throw new TypeError(`failover: there is no replica ${index}`);
      const masterIsUp = /master_link_status:up/.test(await replica.info('replication'));
      await (masterIsUp
        ? replica.call('CLUSTER', 'FAILOVER')
        : replica.call('CLUSTER', 'FAILOVER', 'TAKEOVER'));
      await Promise.all(
        admins.map((admin, position) =>
          until(
            async () => !servers[position]?.pid || (await isMaster(admin, id)),
            'every node knows the new master',
          ),
        ),
      );
    },
    async migration(slot, to) {
      const ranges = (await admins[0]?.call('CLUSTER', 'SLOTS')) as [
        number,
        number,
        [string, number],
      ][];
      const range = ranges.find(([first, last]) => first <= slot && slot <= last);
      const source = servers.findIndex(({ port }) => port === range?.[2][1]);
      const target = servers.indexOf(to);
      const [from, into] = [admins[source], admins[target]];
      if (!from || !into) throw new TypeError(`migration: nobody has slot ${slot}`);
      const idOf = (index: number): string => topology[index]?.id as string;
      await into.call('CLUSTER', 'SETSLOT', slot, 'IMPORTING', idOf(source));
      await from.call('CLUSTER', 'SETSLOT', slot, 'MIGRATING', idOf(target));
      return {
        async move(...wanted) {
          const keys = wanted.length
            ? wanted
            : ((await from.call('CLUSTER', 'GETKEYSINSLOT', slot, 1_000_000)) as string[]);
          for (const key of keys) await from.call('MIGRATE', host, to.port, key, 0, 5000);
        },
        async finish() {
          const alive = admins.filter((_, index) => servers[index]?.pid);
          // The new master first, or the old one would send its clients to a node that refuses them.
          await into.call('CLUSTER', 'SETSLOT', slot, 'NODE', idOf(target));
          await from.call('CLUSTER', 'SETSLOT', slot, 'NODE', idOf(target));
          await Promise.all(
            alive.map((admin) =>
              until(() => knowsOwner(admin, slot, to.port), 'every node knows who has the slot'),
            ),
          );
        },
      };
    },
    stop,
  };
}

/** Who has which slots, and who replicates whom: first the masters, then their replicas, then the spares. */
async function plan(
  root: string,
  masters: number,
  serving: number,
  total: number,
): Promise<readonly ClusterNode[]> {
  const ports = await freePorts(total * 2);
  const firstSlot = (master: number): number => Math.ceil((slotCount * master) / masters);
  return Array.from({ length: total }, (_, index): ClusterNode => {
    const master = index % masters;
    return {
      id: randomBytes(20).toString('hex'),
      port: ports[index] as number,
      busPort: ports[index + total] as number,
      dir: join(root, String(index)),
      master: index < masters || index >= serving ? undefined : master,
      slots: index < masters ? ` ${firstSlot(index)}-${firstSlot(index + 1) - 1}` : '',
    };
  });
}

interface ClusterNode {
  readonly id: string;
  readonly port: number;
  readonly busPort: number;
  readonly dir: string;
  /** The position of the master it replicates. */
  readonly master: number | undefined;
  /** With a space before it, or nothing. */
  readonly slots: string;
}

/** The node's own view of the cluster, in the format of `cluster-config-file`. */
function nodesConf(topology: readonly ClusterNode[], self: ClusterNode): string {
  const lines = topology.map((node, index) => {
    const flags = `${node === self ? 'myself,' : ''}${node.master === undefined ? 'master' : 'slave'}`;
    const master = node.master === undefined ? '-' : topology[node.master]?.id;
    const epoch = (node.master ?? index) + 1;
    return `${node.id} ${host}:${node.port}@${node.busPort} ${flags} ${master} 0 0 ${epoch} connected${node.slots}`;
  });
  return `${lines.join('\n')}\nvars currentEpoch ${topology.length} lastVoteEpoch 0\n`;
}

async function isClusterOk(admin: Redis): Promise<boolean> {
  return /cluster_state:ok/.test(String(await admin.call('CLUSTER', 'INFO')));
}

async function isMaster(admin: Redis, id: string): Promise<boolean> {
  const nodes = String(await admin.call('CLUSTER', 'NODES'));
  const line = nodes.split('\n').find((candidate) => candidate.startsWith(id));
  return line !== undefined && /\bmaster\b.*connected \d/.test(line);
}

async function knowsOwner(admin: Redis, slot: number, port: number): Promise<boolean> {
  const ranges = (await admin.call('CLUSTER', 'SLOTS')) as [number, number, [string, number]][];
  return ranges.some(([first, last, node]) => first <= slot && slot <= last && node[1] === port);
}
