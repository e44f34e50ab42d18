import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { Redis, type RedisOptions } from 'ioredis';
import { inDirectory } from './starting.ts';

export const host = '127.0.0.1';

/** ioredis' options; its types make `replyMapping` a parameter of the client's own type, so it is left out. */
export type RedisClientOptions = Omit<RedisOptions, 'replyMapping'>;

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

export function serverArguments({
  persistence = 'none',
  settings = {},
}: RedisServerOptions): string[] {
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

export interface Launch {
  readonly dir: string;
  /** The directory that `dir` is in, when whoever started several servers there removes it. */
  readonly within?: string;
  readonly args: readonly string[];
  readonly port?: number;
  /** A sentinel's configuration file. */
  readonly conf?: string;
}

export async function launch({
  dir,
  within,
  args,
  port: wanted,
  conf,
}: Launch): Promise<RedisServer> {
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

export async function freePorts(count: number): Promise<number[]> {
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

export async function isReplicating(admin: Redis): Promise<boolean> {
  return /master_link_status:up/.test(await admin.info('replication'));
}

/** For errors that whoever asks learns of elsewhere. */
export function ignore(): void {}
