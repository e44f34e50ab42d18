import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { Redis } from 'ioredis';
import {
  host,
  ignore,
  isReplicating,
  launch,
  type RedisClientOptions,
  type RedisServer,
  startRedis,
} from './redis-server.ts';
import { allOrNone, inDirectory, until } from './starting.ts';

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
