import { EventEmitter, once } from 'node:events';
import { createServer, type Server, Socket } from 'node:net';
import { setTimeout as delay } from 'node:timers/promises';

const host = '127.0.0.1';
const maxQueuedBytes = 1 << 20;
const bandwidthSliceMs = 10;

/** What happens to the bytes that travel in one direction. */
export interface LinkFaults {
  /** Every byte arrives this much later; order is kept. */
  readonly latencyMs?: number;
  /** At most so many bytes per second for each connection. */
  readonly bytesPerSecond?: number;
  /** Nothing arrives, not even the end of the stream, until the fault is lifted; then everything does, in order. */
  readonly blackhole?: boolean;
  /** A connection is reset (RST) once so many bytes have travelled under this fault. */
  readonly resetAfterBytes?: number;
}

export type Direction = 'toServer' | 'toClient' | 'both';

/** A TCP proxy in front of a real server, whose faults can be changed while connections are open. */
export interface FaultProxy {
  readonly host: string;
  readonly port: number;
  /** Client connections open now. */
  readonly open: number;
  /** Client connections accepted since the start. */
  readonly accepted: number;
  /** Bytes delivered since the start. */
  readonly delivered: { readonly toServer: number; readonly toClient: number };
  /** Replaces the faults of one direction or both; also for connections that are open already. */
  set(direction: Direction, faults: LinkFaults): void;
  /** Resets (RST) every open connection. */
  reset(): void;
  /** Refuses new connections (ECONNREFUSED) until `heal()`; open ones live on. */
  refuse(): void;
  /** Lifts every fault and accepts connections again. */
  heal(): Promise<void>;
  stop(): Promise<void>;
}

/** Starts a proxy on a free port that forwards to `target` and, at first, does no harm. */
export async function startFaultProxy(target: {
  readonly host?: string;
  readonly port: number;
}): Promise<FaultProxy> {
  const conditions = {
    toServer: new LinkCondition(),
    toClient: new LinkCondition(),
  };
  const sockets = new Set<Socket>();
  const clients = new Set<Socket>();
  const delivered = { toServer: 0, toClient: 0 };
  let accepted = 0;

  const server = createServer({ allowHalfOpen: true }, (client) => {
    accepted += 1;
    const upstream = new Socket({ allowHalfOpen: true });
    upstream.connect(target.port, target.host ?? host);
    clients.add(client);
    for (const [socket, other] of [
      [client, upstream],
      [upstream, client],
    ] as const) {
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on('error', () => other.resetAndDestroy());
      socket.on('close', () => {
        sockets.delete(socket);
        clients.delete(socket);
      });
    }
    const cut = (): void => {
      client.resetAndDestroy();
      upstream.resetAndDestroy();
    };
    forward(client, upstream, conditions.toServer, cut, (bytes) => {
      delivered.toServer += bytes;
    });
    forward(upstream, client, conditions.toClient, cut, (bytes) => {
      delivered.toClient += bytes;
    });
  });
  await listen(server, 0);
  const { port } = server.address() as { port: number };

  const set = (direction: Direction, faults: LinkFaults): void => {
    if (direction !== 'toClient') conditions.toServer.replace(faults);
    if (direction !== 'toServer') conditions.toClient.replace(faults);
  };
  const reset = (): void => {
    for (const socket of sockets) socket.resetAndDestroy();
  };
  return {
    host,
    port,
    get open() {
      return clients.size;
    },
    get accepted() {
      return accepted;
    },
    delivered,
    set,
    reset,
    refuse() {
      // `close` stops listening at once; its callback would wait for open connections, so nobody waits for it.
      if (server.listening) server.close();
    },
    async heal() {
      set('both', {});
      if (!server.listening) await listen(server, port);
    },
    async stop() {
      reset();
      if (server.listening) server.close();
      await Promise.all([...sockets].map((socket) => once(socket, 'close')));
    },
  };
}

/** The faults of one direction, and a signal when they change. */
class LinkCondition extends EventEmitter {
  faults: LinkFaults = {};

  constructor() {
    super();
    this.setMaxListeners(0);
  }

  replace(faults: LinkFaults): void {
    this.faults = faults;
    this.emit('change');
  }
}

interface Parcel {
  /** `undefined`: the end of the stream. */
  readonly bytes: Buffer | undefined;
  readonly arrivedAt: number;
}

function forward(
  source: Socket,
  sink: Socket,
  condition: LinkCondition,
  cut: () => void,
  count: (bytes: number) => void,
): void {
  const queue: Parcel[] = [];
  let queuedBytes = 0;
  let pumping = false;
  let travelled = 0;
  const closed = new AbortController();
  const forget = (): void => {
    travelled = 0;
  };
  condition.on('change', forget);
  sink.once('close', () => {
    condition.off('change', forget);
    closed.abort();
  });

  const add = (bytes: Buffer | undefined): void => {
    queue.push({ bytes, arrivedAt: performance.now() });
    queuedBytes += bytes?.length ?? 0;
    if (queuedBytes > maxQueuedBytes) source.pause();
    if (!pumping) pump().catch(cut);
  };
  source.on('data', add);
  source.on('end', () => add(undefined));

  const pump = async (): Promise<void> => {
    pumping = true;
    for (let parcel = queue[0]; parcel; parcel = queue[0]) {
      await whenDue(parcel, condition, closed.signal);
      if (closed.signal.aborted) return;
      queue.shift();
      if (!parcel.bytes) {
        sink.end();
        continue;
      }
      await deliver(parcel.bytes);
      queuedBytes -= parcel.bytes.length;
      if (queuedBytes <= maxQueuedBytes) source.resume();
    }
    pumping = false;
  };

  const deliver = async (bytes: Buffer): Promise<void> => {
    for (let offset = 0; offset < bytes.length && !closed.signal.aborted; ) {
      const { bytesPerSecond, resetAfterBytes = Number.POSITIVE_INFINITY } = condition.faults;
      const slice = bytesPerSecond
        ? Math.max(1, Math.ceil((bytesPerSecond * bandwidthSliceMs) / 1000))
        : bytes.length;
      const end = Math.min(offset + slice, offset + resetAfterBytes - travelled, bytes.length);
      const part = bytes.subarray(offset, end);
      const flowing = sink.write(part);
      count(part.length);
      travelled += part.length;
      offset = end;
      if (travelled >= resetAfterBytes) {
        // The bytes that may still arrive have to leave before the RST overtakes them.
        await new Promise((resolve) => sink.write('', resolve));
        cut();
        return;
      }
      if (bytesPerSecond) await pause((part.length / bytesPerSecond) * 1000, closed.signal);
      if (!flowing && !closed.signal.aborted) await drained(sink, closed.signal);
    }
  };
}

/** Waits out latency and blackhole, and looks again whenever the faults change. */
async function whenDue(
  parcel: Parcel,
  condition: LinkCondition,
  closed: AbortSignal,
): Promise<void> {
  for (;;) {
    const { latencyMs = 0, blackhole = false } = condition.faults;
    const remainingMs = parcel.arrivedAt + latencyMs - performance.now();
    if (closed.aborted || (!blackhole && (latencyMs === 0 || remainingMs <= 0))) return;
    const changed = new AbortController();
    const wake = (): void => changed.abort();
    condition.once('change', wake);
    const either = AbortSignal.any([closed, changed.signal]);
    await pause(blackhole ? 2 ** 30 : remainingMs, either);
    condition.off('change', wake);
  }
}

async function pause(ms: number, signal: AbortSignal): Promise<void> {
  await delay(ms, undefined, { signal, ref: false }).catch(() => undefined);
}

async function drained(sink: Socket, signal: AbortSignal): Promise<void> {
  await once(sink, 'drain', { signal }).catch(() => undefined);
}

async function listen(server: Server, port: number): Promise<void> {
  server.listen(port, host);
  await once(server, 'listening');
}
