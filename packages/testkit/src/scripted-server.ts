import { once } from 'node:events';
import { type AddressInfo, createServer, type Socket } from 'node:net';
import { createServer as createTlsServer, type TlsOptions } from 'node:tls';
import { brotliCompressSync, gzipSync } from 'node:zlib';
import { readRequest, type ScriptedRequest } from './scripted-request.ts';

export type { ScriptedRequest } from './scripted-request.ts';

/** One exchange, as a script sees it. */
export interface Exchange {
  readonly request: ScriptedRequest;
  readonly socket: Socket;
  /** Aborts when the connection is gone, or the server stops: what a script waits on must end then. */
  readonly signal: AbortSignal;
  /** Resolves when the bytes were taken; rejects when nobody is there to take them. */
  readonly write: (bytes: string | Uint8Array) => Promise<void>;
}

/**
 * What the server does with one request. `at` says when it begins: as soon as a connection is accepted (nothing was
 * read, `request` is empty), when the request's head has arrived, or when all of it has.
 */
export interface Script {
  readonly at: 'accept' | 'head' | 'request';
  run(exchange: Exchange): void | Promise<void>;
}

export type Headers = Readonly<Record<string, string | readonly string[]>>;

export interface ResponseParts {
  /** Default 200. */
  readonly status?: number;
  readonly headers?: Headers;
  readonly body?: string | Uint8Array;
}

export interface ScriptedServer {
  readonly origin: string;
  readonly port: number;
  /** Every request in the order in which its script began. */
  readonly requests: readonly ScriptedRequest[];
  /** Connections accepted so far. */
  readonly connections: number;
  /** The next requests follow these scripts, one each. */
  enqueue(...scripts: readonly Script[]): void;
  stop(): Promise<void>;
}

export interface ScriptedServerOptions {
  /** Followed when no script is queued; default {@link respond} with 200. */
  readonly otherwise?: Script | ((request: ScriptedRequest) => Script);
  readonly host?: string;
  readonly tls?: TlsOptions;
}

/** A server on raw sockets that does exactly, and only, what its scripts say, however wrong that is. */
export async function startScriptedServer(
  options: ScriptedServerOptions = {},
): Promise<ScriptedServer> {
  const queue: Script[] = [];
  const requests: ScriptedRequest[] = [];
  const sockets = new Set<Socket>();
  const otherwise = options.otherwise ?? respond();
  let connections = 0;

  const serve = async (socket: Socket, connection: number): Promise<void> => {
    const gone = new AbortController();
    socket.once('close', () => gone.abort());
    const play = async (script: Script, request: ScriptedRequest) => {
      requests.push(request);
      await script.run({ request, socket, signal: gone.signal, write: writer(socket) });
    };
    if (queue[0]?.at === 'accept') {
      await play(queue.shift() as Script, emptyRequest(connection));
      return;
    }
    const bytes = socket[Symbol.asyncIterator]() as AsyncIterator<Buffer>;
    let rest: Buffer = Buffer.alloc(0);
    while (!socket.destroyed) {
      const reading = await readRequest(bytes, rest, connection);
      if (!reading) return;
      const script =
        queue.shift() ?? (typeof otherwise === 'function' ? otherwise(reading.request) : otherwise);
      if (script.at === 'request') rest = await reading.body();
      await play(script, reading.request);
      if (script.at === 'head') return;
    }
  };

  const accept = (socket: Socket) => {
    connections += 1;
    sockets.add(socket);
    // Peers that leave in the middle are what this server is for.
    socket.on('error', () => {});
    socket.once('close', () => sockets.delete(socket));
    serve(socket, connections).catch(() => socket.destroy());
  };
  const server = options.tls ? createTlsServer(options.tls, accept) : createServer(accept);
  const host = options.host ?? '127.0.0.1';
  server.listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;

  return {
    origin: `${options.tls ? 'https' : 'http'}://${host}:${port}`,
    port,
    requests,
    get connections() {
      return connections;
    },
    enqueue: (...scripts) => {
      queue.push(...scripts);
    },
    stop: async () => {
      for (const socket of sockets) socket.destroy();
      server.close();
      await once(server, 'close');
    },
  };
}

/** A correct response; the connection stays open for the next request. */
export function respond(parts: ResponseParts = {}): Script {
  return onRequest(({ write, request }) => {
    const body = Buffer.from(parts.body ?? '');
    const head = responseHead(parts.status ?? 200, {
      'content-length': String(body.length),
      ...parts.headers,
    });
    return write(request.method === 'HEAD' ? head : Buffer.concat([Buffer.from(head), body]));
  });
}

/** A correct response with a JSON body. */
export function respondJson(value: unknown, parts: ResponseParts = {}): Script {
  return respond({
    ...parts,
    headers: { 'content-type': 'application/json', ...parts.headers },
    body: JSON.stringify(value),
  });
}

/** A RST as soon as the connection is there, before anything was read. */
export function resetOnAccept(): Script {
  return { at: 'accept', run: ({ socket }) => void socket.resetAndDestroy() };
}

/** A RST after the request's head, while its body may still be on its way. */
export function resetOnHead(): Script {
  return { at: 'head', run: ({ socket }) => void socket.resetAndDestroy() };
}

/** A RST once the whole request has arrived: the work may have been done. */
export function resetOnRequest(): Script {
  return onRequest(({ socket }) => void socket.resetAndDestroy());
}

/** The response's head, which promises a body of `contentLength` bytes, then a RST. */
export function resetAfterHeaders(contentLength = 100, parts: ResponseParts = {}): Script {
  return resetMidBody({ ...parts, body: '' }, contentLength);
}

/** `parts.body`, short of the promised `contentLength`, then a RST. */
export function resetMidBody(parts: ResponseParts, contentLength: number): Script {
  return cutShort(parts, contentLength, (socket) => socket.resetAndDestroy());
}

/** A head that promises more than `parts.body`, then an orderly end. */
export function lyingContentLength(parts: ResponseParts, contentLength: number): Script {
  return cutShort(parts, contentLength, (socket) => socket.end());
}

/** Reads the request and never answers. */
export function silence(): Script {
  return onRequest(({ signal }) => ended(signal));
}

/** Reads nothing of the body and never answers, so that an upload stalls. */
export function stall(): Script {
  return { at: 'head', run: ({ signal }) => ended(signal) };
}

/** A correct response, byte by byte: one every `everyMs` (slowloris). */
export function drip(everyMs: number, parts: ResponseParts = {}): Script {
  return onRequest(async ({ write, signal }) => {
    const body = Buffer.from(parts.body ?? '');
    const head = responseHead(parts.status ?? 200, {
      'content-length': String(body.length),
      ...parts.headers,
    });
    for (const byte of Buffer.concat([Buffer.from(head), body])) {
      if (signal.aborted) return;
      await write(Uint8Array.of(byte));
      await pause(everyMs, signal);
    }
  });
}

/** A body that never ends, as fast as the reader takes it. */
export function endlessBody(parts: ResponseParts = {}): Script {
  return onRequest(async ({ write, signal }) => {
    const chunk = Buffer.alloc(64 * 1024, 'x');
    const headers = { 'transfer-encoding': 'chunked', ...parts.headers };
    await write(responseHead(parts.status ?? 200, headers));
    while (!signal.aborted) {
      await write(
        Buffer.concat([
          Buffer.from(`${chunk.length.toString(16)}\r\n`),
          chunk,
          Buffer.from('\r\n'),
        ]),
      );
    }
  });
}

/** A small body that decodes to `decodedBytes` zeros. */
export function decompressionBomb(
  decodedBytes: number,
  encoding: 'gzip' | 'br' = 'gzip',
  parts: ResponseParts = {},
): Script {
  const compress = encoding === 'gzip' ? gzipSync : brotliCompressSync;
  return respond({
    ...parts,
    headers: { 'content-encoding': encoding, ...parts.headers },
    body: compress(Buffer.alloc(decodedBytes)),
  });
}

/** `count` informational responses (default 103 Early Hints) before the real one. */
export function informationalFlood(count: number, then: Script = respond(), status = 103): Script {
  return onRequest(async (exchange) => {
    for (let sent = 0; sent < count && !exchange.signal.aborted; sent += 1) {
      await exchange.write(responseHead(status, { link: '</style.css>; rel=preload' }));
    }
    await then.run(exchange);
  });
}

/** A response with this `Retry-After`, garbage included. */
export function retryAfter(value: string, status = 503): Script {
  return respond({ status, headers: { 'retry-after': value } });
}

/** These bytes, as they are, and then the end of the connection. */
export function rawBytes(bytes: string | Uint8Array): Script {
  return onRequest(async ({ write, socket }) => {
    await write(bytes);
    socket.end();
  });
}

function onRequest(run: Script['run']): Script {
  return { at: 'request', run };
}

function cutShort(parts: ResponseParts, contentLength: number, cut: (socket: Socket) => void) {
  return onRequest(async ({ write, socket, signal }) => {
    const headers = { 'content-length': String(contentLength), ...parts.headers };
    await write(responseHead(parts.status ?? 200, headers));
    await write(parts.body ?? '');
    // A RST overtakes what the kernel has not delivered yet: give the peer a turn to read.
    await pause(20, signal);
    cut(socket);
  });
}

function responseHead(status: number, headers: Headers): string {
  const lines = Object.entries(headers).flatMap(([name, value]) =>
    [value].flat().map((one) => `${name}: ${one}\r\n`),
  );
  return `HTTP/1.1 ${status} Scripted\r\n${lines.join('')}\r\n`;
}

/** Others have a turn between two writes: who floods would keep timers and sockets of this process waiting for seconds. */
function writer(socket: Socket): Exchange['write'] {
  return (bytes) =>
    new Promise((resolve, reject) => {
      socket.write(bytes, (error) => (error ? reject(error) : setImmediate(resolve)));
    });
}

function ended(signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener('abort', () => resolve(), { once: true });
  });
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, ms);
    signal.addEventListener('abort', () => {
      clearTimeout(timer);
      resolve();
    });
  });
}

function emptyRequest(connection: number): ScriptedRequest {
  const nothing = Buffer.alloc(0);
  return { connection, head: '', method: '', target: '', headers: {}, body: nothing };
}
