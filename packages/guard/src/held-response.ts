import type { ServerResponse } from 'node:http';
import { strictest } from './chain.ts';
import { reportSettleFailure } from './events.ts';
import { headerLines, keepReadable, takeBackHead } from './response-headers.ts';
import type { Outcome, Pass, Reply, Streaming } from './verdict.ts';

export interface HoldLimits {
  /** How many bytes of a body are held back until it is complete. */
  readonly maxSettleBytes: number;
  /** How long a handler whose caller went away has for its response, when nothing tells that it has ended. */
  readonly abortGraceMs: number;
}

/** A guard that let the request pass and wants to see the response. */
type Settler = Pick<Pass<unknown>, 'settle' | 'streaming'>;
type Callback = (error?: Error | null) => void;

/** A chunk that the handler wrote and that has not left yet. */
interface Chunk {
  readonly bytes: Buffer;
  readonly callback?: Callback | undefined;
}

const heldOf = Symbol('countersign.guard.held');
type Held = ServerResponse & { [heldOf]?: HeldResponse };

/** Holds a response back until `settle` has seen it. Several may: the one that came last sees it first. */
export function holdResponse(res: ServerResponse, settler: Settler, limits: HoldLimits): void {
  let held = heldResponse(res);
  if (!held) {
    held = new HeldResponse(res, limits);
    (res as Held)[heldOf] = held;
  }
  held.add(settler);
}

export function heldResponse(res: ServerResponse): HeldResponse | undefined {
  return (res as Held)[heldOf];
}

/**
 * Stands before `write`, `end` and `flushHeaders` of one response. The head is composed when the handler asks for it
 * (node:http keeps it until the first bytes of the body), so `headersSent` and `setHeader` behave as ever; only the
 * bytes wait.
 *
 * holding → the handler is writing, nothing has left · settling → the guards look at it · released → as without us.
 * A response that streams is settled early, or held all the same, or replaced: what the guards asked for.
 */
class HeldResponse {
  private readonly settlers: Settler[] = [];
  private streaming: Streaming | undefined;
  private readonly res: ServerResponse;
  private readonly limits: HoldLimits;
  /** What stood there before. Not bound: called on `res`. */
  private readonly native: Pick<ServerResponse, 'write' | 'end' | 'flushHeaders'>;
  private phase: 'holding' | 'settling' | 'released' = 'holding';
  private chunks: Chunk[] = [];
  private bytes = 0;
  private ended = false;
  private endCallback: Callback | undefined;
  private flushed = false;
  private replaced = false;
  private refused = false;
  private reached = true;
  private wantsDrain = false;
  private handler: Promise<unknown> | undefined;

  constructor(res: ServerResponse, limits: HoldLimits) {
    this.res = res;
    this.limits = limits;
    keepReadable(res);
    this.native = { write: res.write, end: res.end, flushHeaders: res.flushHeaders };
    res.write = write as ServerResponse['write'];
    res.end = end as ServerResponse['end'];
    res.flushHeaders = flushHeaders;
    Object.defineProperty(res, 'writableEnded', unended);
    if (res.destroyed) this.abandonLater();
    else res.once('close', () => this.abandonLater());
  }

  add(settler: Settler): void {
    this.settlers.unshift(settler);
    this.streaming = strictest(this.streaming, settler.streaming);
  }

  /** Who produces the response: when the caller is gone and this is over, there will be none. */
  producedBy(handler: Promise<unknown>): void {
    this.handler = handler;
  }

  /** A guard answers: the handler will not be called. */
  refuse(): void {
    this.refused = true;
  }

  /** Something may still answer in front of the handler. */
  awaitHandler(): void {
    this.reached = false;
  }

  reachHandler(): void {
    this.reached = true;
  }

  write(chunk: unknown, encoding?: unknown, callback?: unknown): boolean {
    if (this.replaced) return this.discard(encoding, callback);
    if (this.phase === 'released' || !isBytes(chunk)) {
      return this.nativeWrite(chunk, encoding, callback);
    }
    const done = (typeof encoding === 'function' ? encoding : callback) as Callback | undefined;
    if (this.ended) return this.lateWrite(done);
    if (!this.res.headersSent) this.res.writeHead(this.res.statusCode);
    const bytes = toBuffer(chunk, encoding);
    const waits = this.phase === 'settling';
    this.hold({ bytes, callback: waits ? done : undefined });
    if (!waits && done) process.nextTick(done);
    if (this.isEventStream()) this.stream();
    if (this.outgrown()) this.flow();
    this.wantsDrain ||= this.phase !== 'holding';
    return this.phase === 'holding';
  }

  end(chunk?: unknown, encoding?: unknown, callback?: unknown): ServerResponse {
    if (this.replaced) {
      this.discard(chunk, encoding, callback);
      return this.res;
    }
    if (
      this.phase === 'released' ||
      !(chunk == null || typeof chunk === 'function' || isBytes(chunk))
    ) {
      return this.nativeEnd(chunk, encoding, callback);
    }
    const done = [chunk, encoding, callback].find((given) => typeof given === 'function');
    if (this.ended) {
      if (done) process.nextTick(done, failure('ERR_STREAM_ALREADY_FINISHED', 'end'));
      return this.res;
    }
    const whole = this.chunks.length === 0;
    const bytes = isBytes(chunk) ? toBuffer(chunk, encoding) : undefined;
    // First: a head that cannot be written is an error, and what was to follow it no part of the answer to that.
    if (!this.res.headersSent) this.writeHead(whole ? (bytes?.length ?? 0) : undefined);
    if (bytes) this.hold({ bytes });
    this.markEnded();
    this.endCallback = done as Callback | undefined;
    if (this.phase === 'holding') this.settle(this.outgrown() ? undefined : this.body());
    return this.res;
  }

  flushHeaders(): void {
    if (this.replaced) return;
    if (!this.res.headersSent) this.res.writeHead(this.res.statusCode);
    this.flushed = true;
    if (this.phase === 'released') this.native.flushHeaders.call(this.res);
    else this.stream();
  }

  /** A body that is given whole to `end` gets its length, as node:http would give it. */
  private writeHead(length: number | undefined): void {
    const { res } = this;
    const framed = ['content-length', 'transfer-encoding', 'trailer'].some((name) =>
      res.hasHeader(name),
    );
    if (length !== undefined && !framed && hasBody(this.res))
      res.setHeader('content-length', length);
    res.writeHead(res.statusCode);
  }

  private hold(chunk: Chunk): void {
    this.chunks.push(chunk);
    this.bytes += chunk.bytes.length;
  }

  private outgrown(): boolean {
    return this.bytes > this.limits.maxSettleBytes;
  }

  /** Its events must arrive when they happen. */
  private isEventStream(): boolean {
    return String(this.res.getHeader('content-type')).startsWith('text/event-stream');
  }

  private body(): Uint8Array {
    return hasBody(this.res)
      ? Buffer.concat(this.chunks.map(({ bytes }) => bytes))
      : new Uint8Array();
  }

  /** The handler wants its bytes to leave before there are all of them. */
  private stream(): void {
    const { streaming } = this;
    if (streaming === undefined) this.flow();
    else if (streaming !== 'buffer' && this.phase === 'holding' && hasBody(this.res)) {
      this.replace(streaming());
    }
  }

  private flow(): void {
    if (this.phase === 'holding') this.settle(undefined);
  }

  /** Sends another answer; what the handler still writes goes nowhere. */
  private replace({ status, headers, body = '' }: Reply): void {
    const { res } = this;
    takeBackHead(res);
    res.statusCode = status;
    for (const [name, value] of headers) res.setHeader(name, value);
    const bytes = toBuffer(body, 'utf8');
    this.chunks = [{ bytes }];
    this.bytes = bytes.length;
    this.writeHead(bytes.length);
    this.replaced = true;
    this.markEnded();
    this.flushed = false;
    this.settle(this.body());
  }

  private discard(...args: readonly unknown[]): true {
    const done = args.find((arg) => typeof arg === 'function') as Callback | undefined;
    if (done) process.nextTick(done, failure('ERR_STREAM_DESTROYED', 'write'));
    return true;
  }

  private settle(body: Uint8Array | undefined): void {
    const { res } = this;
    const outcome = { status: res.statusCode, headers: headerLines(res), aborted: false };
    // What answered in front of the handler with anything but an error may have done its work.
    const refused = this.refused || (!this.reached && res.statusCode >= 400);
    this.inform({ ...outcome, ...(body && { body }), ...(refused && { refused }) });
  }

  private inform(outcome: Outcome): void {
    this.phase = 'settling';
    // node:http may refuse what it was given (a length that is not the body's): that ends one response, not the process.
    void settleAll(this.settlers, outcome)
      .then(() => this.release())
      .catch((error: Error) => this.res.destroy(error));
  }

  private release(): void {
    const { res, chunks } = this;
    this.phase = 'released';
    this.chunks = [];
    if (this.flushed) this.native.flushHeaders.call(res);
    if (this.ended) {
      const last = chunks.length === 1 ? chunks.pop() : undefined;
      this.replay(chunks);
      this.nativeEnd(last?.bytes, this.endCallback);
    } else if (this.replay(chunks) && this.wantsDrain) {
      res.emit('drain');
    }
  }

  private replay(chunks: readonly Chunk[]): boolean {
    let goesOn = true;
    for (const { bytes, callback } of chunks) goesOn = this.nativeWrite(bytes, callback);
    return goesOn;
  }

  private abandonLater(): void {
    if (this.phase !== 'holding') return;
    const abandon = (): void => this.abandon();
    // One tick later: the adapter may not have said yet whose response this is.
    setImmediate(() => {
      if (this.handler) this.handler.then(abandon, abandon);
      else setTimeout(abandon, this.limits.abortGraceMs).unref();
    });
  }

  private abandon(): void {
    if (this.phase === 'holding') this.inform({ status: 0, headers: [], aborted: true });
  }

  private markEnded(): void {
    this.ended = true;
    Object.assign(this.res, { writableEnded: true });
  }

  private nativeWrite(...args: readonly unknown[]): boolean {
    return Reflect.apply(this.native.write, this.res, args);
  }

  private nativeEnd(...args: readonly unknown[]): ServerResponse {
    const { res } = this;
    Reflect.apply(this.native.end, res, args);
    this.markEnded();
    return res;
  }

  private lateWrite(callback: Callback | undefined): false {
    const error = failure('ERR_STREAM_WRITE_AFTER_END', 'write');
    process.nextTick(() => {
      callback?.(error);
      this.res.emit('error', error);
    });
    return false;
  }
}

// One function for all responses, and a value that is kept up to date in place of a getter: with closures and accessors
// of its own each response would have a shape of its own, which costs more than everything else here, and outlives it.
const unended = { value: false, writable: true, configurable: true };

function write(this: Held, ...[chunk, encoding, callback]: unknown[]): boolean {
  return (this[heldOf] as HeldResponse).write(chunk, encoding, callback);
}

function end(this: Held, ...[chunk, encoding, callback]: unknown[]): ServerResponse {
  return (this[heldOf] as HeldResponse).end(chunk, encoding, callback);
}

function flushHeaders(this: Held): void {
  this[heldOf]?.flushHeaders();
}

async function settleAll(settlers: readonly Settler[], outcome: Outcome): Promise<void> {
  for (const settler of settlers) {
    try {
      await settler.settle?.(outcome);
    } catch (error) {
      reportSettleFailure({ guard: '', error });
    }
  }
}

/** Whether there are any bytes behind the head (RFC 9112 §6.3). */
export function hasBody({ req, statusCode }: ServerResponse): boolean {
  return req.method !== 'HEAD' && statusCode !== 204 && statusCode !== 304;
}

function isBytes(chunk: unknown): chunk is string | Uint8Array {
  return typeof chunk === 'string' || chunk instanceof Uint8Array;
}

/** A copy: who wrote it may use the memory again. */
function toBuffer(chunk: string | Uint8Array, encoding: unknown): Buffer {
  if (typeof chunk !== 'string') return Buffer.from(chunk);
  return Buffer.from(chunk, typeof encoding === 'string' ? (encoding as BufferEncoding) : 'utf8');
}

function failure(code: string, what: string): Error {
  return Object.assign(new Error(`${what} after end`), { code });
}
