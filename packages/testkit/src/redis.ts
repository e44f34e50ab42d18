import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Cluster, type ClusterOptions, Redis, type RedisOptions } from 'ioredis';

const host = '127.0.0.1';
const slotCount = 16_384;

/** ioredis' options; its types make `replyMapping` a parameter of the client's own type, so it is left out. */
export type RedisClientOptions = Omit<RedisOptions, 'replyMapping'>;
export type ClusterClientOptions = Omit<ClusterOptions, 'redisOptions'> & {
  readonly redisOptions?: Omit<NonNullable<ClusterOptions['redisOptions']>, 'replyMapping'>;
};

export interface RedisServerOptions {
  /** `aof` keeps every acknowledged write across `kill()` and `restart()`. Default `none`. */
  readonly persistence?: 'none' | 'aof';
  /** Further `redis.conf` settings, e.g. `{ 'maxmemory': '10mb' }`. */
  readonly settings?: Readonly<Record<string, string>>;
}

/** A redis-server of our own, on a free port and in a directory of its own. */
export interface RedisServer {
  readonly url: string;
  readonly host: string;
  readonly port: number;
  /** The process id of the running server; changes with `restart()`. */
  readonly pid: number;
  /** A new connection. It is closed by `stop()`, and reports connection errors to nobody unless you listen. */
  client(options?: RedisClientOptions): Redis;
  /** SIGKILL. The port stays reserved for `restart()` only as far as nobody else takes it. */
  kill(): Promise<void>;
  /** Starts the server again on the same port and directory, killing it first when it runs. */
  restart(): Promise<void>;
  /** SIGSTOP: connections stay open, nothing is answered until `resume()`. */
  pause(): void;
  resume(): void;
  /** `DEBUG SLEEP`: the server blocks for this long. Resolves once the command has been sent. */
  sleep(ms: number): Promise<void>;
  /** Ends the server, closes the clients and removes the directory. */
  stop(): Promise<void>;
}

/** Starts a single redis-server. */
export async function startRedis(options: RedisServerOptions = {}): Promise<RedisServer> {
  return await inDirectory('redis', (dir) => launch({ dir, args: serverArguments(options) }));
}

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
  const total = serving + spareCount;
  const ports = await freePorts(total * 2);
  const topology = Array.from({ length: total }, (_, index): ClusterNode => {
    const master = index % masterCount;
    return {
      id: randomBytes(20).toString('hex'),
      port: ports[index] as number,
      busPort: ports[index + total] as number,
      dir: join(root, String(index)),
      master: index < masterCount || index >= serving ? undefined : master,
      slots:
        index < masterCount
          ? ` ${Math.ceil((slotCount * master) / masterCount)}-${Math.ceil((slotCount * (master + 1)) / masterCount) - 1}`
          : '',
    };
  });
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

export interface RedisSentinelServers {
  readonly name: string;
  readonly master: RedisServer;
  readonly replica: RedisServer;
  readonly sentinel: RedisServer;
  /** A new client that finds the master through the sentinel. It is closed by `stop()`. */
  client(options?: RedisClientOptions): Redis;
  /** `SENTINEL FAILOVER`; resolves when the other server is the master and the old one is its replica. */
  failover(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a master, its replica, and one sentinel that watches them. */
export async function startRedisSentinel(): Promise<RedisSentinelServers> {
  const [master, replica] = await allOrNone([startRedis(), startRedis()] as const);
  try {
    const admin = replica.client();
    await admin.replicaof(host, master.port);
    await until(() => isReplicating(admin), 'the replica follows its master');
    return await inDirectory('redis-sentinel', (dir) => watch(master, replica, dir));
  } catch (error) {
    await Promise.all([replica.stop(), master.stop()]);
    throw error;
  }
}

async function watch(
  master: RedisServer,
  replica: RedisServer,
  dir: string,
): Promise<RedisSentinelServers> {
  const name = 'primary';
  const conf = join(dir, 'sentinel.conf');
  await writeFile(
    conf,
    [
      `sentinel monitor ${name} ${host} ${master.port} 1`,
      `sentinel down-after-milliseconds ${name} 500`,
      `sentinel failover-timeout ${name} 2000`,
      'sentinel resolve-hostnames no',
      '',
    ].join('\n'),
  );
  const sentinel = await launch({ dir, args: [], conf });
  const clients = new Set<Redis>();
  const watcher = sentinel.client();
  const masterPort = async (): Promise<number> =>
    Number(((await watcher.call('SENTINEL', 'GET-MASTER-ADDR-BY-NAME', name)) as string[])[1]);
  const knowsReplica = async (): Promise<boolean> => {
    const known = String(await watcher.call('INFO', 'sentinel'));
    return known.includes('status=ok') && known.includes('slaves=1');
  };
  const stop = async (): Promise<void> => {
    for (const client of clients) client.disconnect();
    await Promise.all([sentinel.stop(), replica.stop(), master.stop()]);
  };
  try {
    await until(knowsReplica, 'the sentinel knows the replica');
  } catch (error) {
    await sentinel.stop();
    throw error;
  }
  return {
    name,
    master,
    replica,
    sentinel,
    client(options = {}) {
      const sentinels = [{ host, port: sentinel.port }];
      const client = new Redis({ sentinels, name, ...options });
      client.on('error', ignore);
      clients.add(client);
      return client;
    },
    async failover() {
      const before = await masterPort();
      // The sentinel answers NOGOODSLAVE until it has seen a recent INFO of the replica.
      await until(async () => {
        await watcher.call('SENTINEL', 'FAILOVER', name);
        return true;
      }, 'the sentinel starts the failover');
      await until(async () => (await masterPort()) !== before, 'the sentinel names a new master');
      // The sentinel would demote the old master too, but takes ten seconds or more over it.
      const [old, fresh] = before === master.port ? [master, replica] : [replica, master];
      await old.client().replicaof(host, fresh.port);
    },
    stop,
  };
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

function serverArguments({ persistence = 'none', settings = {} }: RedisServerOptions): string[] {
  const lasting =
    persistence === 'aof' ? ['--appendonly', 'yes', '--appendfsync', 'always'] : ['--save', ''];
  return [
    lasting,
    ['--enable-debug-command', 'yes'],
    // A replica need not wait five seconds for others to join its first synchronisation.
    ['--repl-diskless-sync-delay', '0'],
    Object.entries(settings).map(([name, value]) => [`--${name}`, value]),
  ].flat(2);
}

interface Launch {
  readonly dir: string;
  /** The directory that `dir` is in, when whoever started several servers there removes it. */
  readonly within?: string;
  readonly args: readonly string[];
  readonly port?: number;
  /** A sentinel's configuration file. */
  readonly conf?: string;
}

async function launch({ dir, within, args, port: wanted, conf }: Launch): Promise<RedisServer> {
  const clients = new Set<Redis>();
  let running: Running | undefined;
  let port = wanted ?? 0;

  const start = async (): Promise<void> => {
    const settled = port !== 0;
    for (let attempt = 1; ; attempt += 1) {
      if (!settled) [port] = (await freePorts(1)) as [number];
      try {
        running = await spawnServer({
          dir,
          port,
          args,
          ...(within && { within }),
          ...(conf && { conf }),
        });
        return;
      } catch (error) {
        // Somebody else may have taken the free port between our look and redis-server's.
        const portWasTaken = String(error).includes('Address already in use');
        if (settled || !portWasTaken || attempt === 5) throw error;
      }
    }
  };
  const kill = async (): Promise<void> => {
    const ending = running;
    running = undefined;
    await ending?.kill();
  };

  await start();
  return {
    url: `redis://${host}:${port}`,
    host,
    port,
    get pid() {
      return running?.pid ?? 0;
    },
    client(options = {}) {
      const client = new Redis({ host, port, ...options });
      client.on('error', ignore);
      clients.add(client);
      return client;
    },
    kill,
    async restart() {
      await kill();
      await start();
    },
    pause() {
      running?.signal('SIGSTOP');
    },
    resume() {
      running?.signal('SIGCONT');
    },
    async sleep(ms) {
      const client = new Redis({ host, port, maxRetriesPerRequest: 0, retryStrategy: () => null });
      client.on('error', ignore);
      await client.ping();
      client
        .call('DEBUG', 'SLEEP', String(ms / 1000))
        .catch(ignore)
        .finally(() => client.disconnect());
      // `call` wrote to the socket at once; a turn of the loop lets the bytes leave before the caller goes on.
      await new Promise((resolve) => setImmediate(resolve));
    },
    async stop() {
      for (const client of clients) client.disconnect();
      clients.clear();
      await kill();
      if (within === undefined) await rm(dir, { recursive: true, force: true });
    },
  };
}

interface Running {
  readonly pid: number;
  signal(name: NodeJS.Signals): void;
  kill(): Promise<void>;
}

async function spawnServer({
  dir,
  within,
  port,
  args,
  conf,
}: Launch & { port: number }): Promise<Running> {
  const argv = [conf ?? [], '--port', String(port), '--bind', host, '--dir', dir, args].flat();
  if (conf) argv.push('--sentinel');
  const child = await spawnFirst(['redis-server', 'valkey-server'], argv);
  const guard = watchdog(child.pid as number, dir, within);
  const kill = async (): Promise<void> => {
    child.ref();
    const exited = child.exitCode ?? child.signalCode ?? once(child, 'exit');
    child.kill('SIGKILL');
    await exited;
    guard.kill('SIGKILL');
  };
  try {
    await untilReady(child);
  } catch (error) {
    await kill();
    throw error;
  }
  child.unref();
  return { pid: child.pid as number, signal: (name) => void child.kill(name), kill };
}

async function spawnFirst(
  commands: readonly string[],
  argv: readonly string[],
): Promise<ChildProcess> {
  for (const command of commands) {
    const child = spawn(command, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
    try {
      await once(child, 'spawn');
      return child;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
  throw new Error(`none of ${commands.join(', ')} is on PATH: install the package redis-server`);
}

/**
 * Kills the server and removes its directory when this process is gone, even by SIGKILL (a test runner does that to
 * its workers): the pipe's end tells. Of several servers in one directory the last one takes that with it.
 */
function watchdog(pid: number, dir: string, within = ''): ChildProcess {
  const program = 'read -r _; kill -9 "$0"; rm -rf "$1"; [ -z "$2" ] || rmdir "$2" 2>/dev/null';
  const child = spawn('sh', ['-c', program, String(pid), dir, within], {
    stdio: ['pipe', 'ignore', 'ignore'],
    detached: true,
  });
  child.unref();
  child.stdin?.on('error', ignore);
  (child.stdin as unknown as { unref(): void }).unref();
  return child;
}

/** Rejects with what the server said when it ends instead. */
async function untilReady(child: ChildProcess): Promise<void> {
  const streams = [child.stdout, child.stderr] as Socket[];
  let output = '';
  await new Promise<void>((resolve, reject) => {
    for (const stream of streams) {
      stream.setEncoding('utf8').on('data', (text: string) => {
        output += text;
        if (/Ready to accept connections|Sentinel ID is/.test(output)) resolve();
      });
    }
    child.once('close', (code) => reject(new Error(`redis-server ended (${code}): ${output}`)));
  });
  for (const stream of streams) {
    // Unread, the pipe would fill up and block the server.
    stream.removeAllListeners('data').resume();
    stream.unref();
  }
}

async function freePorts(count: number): Promise<number[]> {
  const listeners = await Promise.all(
    Array.from({ length: count }, async () => {
      const listener = createServer().listen(0, host);
      await once(listener, 'listening');
      return listener;
    }),
  );
  return await Promise.all(
    listeners.map(async (listener) => {
      const { port } = listener.address() as { port: number };
      listener.close();
      await once(listener, 'close');
      return port;
    }),
  );
}

async function isClusterOk(admin: Redis): Promise<boolean> {
  return /cluster_state:ok/.test(String(await admin.call('CLUSTER', 'INFO')));
}

async function isReplicating(admin: Redis): Promise<boolean> {
  return /master_link_status:up/.test(await admin.info('replication'));
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

/** Asks again every few milliseconds; gives up, naming what it waited for, after 20 seconds. */
async function until(condition: () => Promise<boolean>, what: string): Promise<void> {
  const giveUpAt = performance.now() + 20_000;
  for (;;) {
    const [held, cause] = await condition().then(
      (value) => [value, undefined] as const,
      (error: unknown) => [false, error] as const,
    );
    if (held) return;
    if (performance.now() > giveUpAt) throw new Error(`waited in vain until ${what}`, { cause });
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Starts something in a temporary directory, which goes again when that fails. */
async function inDirectory<T>(name: string, start: (dir: string) => Promise<T>): Promise<T> {
  const dir = await mkdtemp(join(tmpdir(), `countersign-${name}-`));
  try {
    return await start(dir);
  } catch (error) {
    await rm(dir, { recursive: true, force: true });
    throw error;
  }
}

/** All of them, or, when one failed to start, none: the others are stopped. */
async function allOrNone<T extends readonly Promise<{ stop(): Promise<void> }>[]>(
  starting: T,
): Promise<{ -readonly [K in keyof T]: Awaited<T[K]> }> {
  const outcomes = await Promise.allSettled(starting);
  const failure = outcomes.find((outcome) => outcome.status === 'rejected');
  if (failure) {
    const started = outcomes.filter((outcome) => outcome.status === 'fulfilled');
    await Promise.all(started.map(({ value }) => value.stop()));
    throw failure.reason;
  }
  return outcomes.map((outcome) => (outcome as { value: unknown }).value) as never;
}

function ignore(): void {}
