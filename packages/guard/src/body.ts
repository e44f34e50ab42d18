import type { IncomingMessage, ServerResponse } from 'node:http';
import { GuardError } from './errors.ts';

/** Bodies that were read once: several chains may look at one request. */
const bodies = new WeakMap<IncomingMessage, Promise<Buffer>>();
const continued = new WeakSet<ServerResponse>();

/**
 * Reads the exact bytes of a request's body and puts them back: whoever reads the stream afterwards gets all of them.
 * @throws GuardError `ERR_GUARD_BODY_TOO_LARGE`, `ERR_GUARD_BODY_CONSUMED` or `ERR_GUARD_BODY_ABORTED`.
 */
export function readBody(
  req: IncomingMessage,
  res: ServerResponse,
  maxBytes: number,
): Promise<Buffer> {
  const known = bodies.get(req);
  const reading = known?.then((bytes) => bounded(bytes, maxBytes)) ?? read(req, res, maxBytes);
  if (!known) bodies.set(req, reading);
  // Whoever asked may be waiting for something else when the caller leaves: no caller shall end the process by that.
  reading.catch(() => {});
  return reading;
}

/** The body, when a guard has read it. */
export function knownBody(req: IncomingMessage): Promise<Buffer> | undefined {
  return bodies.get(req);
}

/** Tells a caller that waits for it (`Expect: 100-continue`, RFC 9110 §10.1.1) to send its body. Once. */
export function invite(req: IncomingMessage, res: ServerResponse): void {
  if (!awaitsInvitation(req, res)) return;
  continued.add(res);
  res.writeContinue();
}

/** Whether the caller holds its body back until it is told to send it. */
export function awaitsInvitation(req: IncomingMessage, res: ServerResponse): boolean {
  if (!/^100-continue$/i.test(req.headers.expect ?? '') || continued.has(res)) return false;
  // node:http sent it already, unless the listener is mounted on 'checkContinue'.
  return (res as { _sent100?: boolean })._sent100 !== true;
}

function read(req: IncomingMessage, res: ServerResponse, maxBytes: number): Promise<Buffer> {
  const length = req.headers['content-length'];
  // Without either field there is no body (RFC 9112 §6.3).
  if (length === undefined && req.headers['transfer-encoding'] === undefined) {
    return Promise.resolve(Buffer.alloc(0));
  }
  if (Number(length) > maxBytes) return Promise.reject(tooLarge(maxBytes));
  if (isConsumed(req)) return Promise.reject(consumed());
  if (req.destroyed) return Promise.reject(aborted());
  if (req.complete && req.readableLength === 0) return Promise.resolve(Buffer.alloc(0));
  invite(req, res);
  return collect(req, maxBytes);
}

/** In paused mode, so that the bytes can be put back before the stream has told anybody that it ended. */
function collect(req: IncomingMessage, maxBytes: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let length = 0;
    const leave = (): void => {
      req.off('readable', take).off('end', finish).off('error', fail).off('close', fail);
    };
    const fail = (error?: Error): void => {
      leave();
      reject(aborted(error));
    };
    const finish = (): void => {
      leave();
      const bytes = Buffer.concat(chunks, length);
      if (length > 0) req.unshift(bytes);
      resolve(bytes);
    };
    const take = (): void => {
      // What stands in for a request in tests (fastify.inject) knows no `complete`; it announces its end by having
      // nothing to read.
      const ended = (req.complete as boolean | undefined) ?? req.readableLength === 0;
      while (req.readableLength > 0) {
        const chunk = req.read() as Buffer;
        length += chunk.length;
        if (length > maxBytes) {
          leave();
          reject(tooLarge(maxBytes));
          return;
        }
        chunks.push(chunk);
      }
      // Still in the same turn: the stream emits its end in the next, and only when it is empty by then.
      if (ended) finish();
    };
    // Asks for the first bytes itself: a listener would, in a turn in which an empty body may have ended, and its end
    // would be told before whoever reads next is there to hear it.
    req.read(0);
    req.on('readable', take).on('end', finish).on('error', fail).on('close', fail);
  });
}

function isConsumed(req: IncomingMessage): boolean {
  return (
    req.readableDidRead ||
    req.readableFlowing === true ||
    req.readableEncoding !== null ||
    req.listenerCount('data') > 0
  );
}

function bounded(bytes: Buffer, maxBytes: number): Buffer {
  if (bytes.length > maxBytes) throw tooLarge(maxBytes);
  return bytes;
}

function tooLarge(maxBytes: number): GuardError {
  return new GuardError('ERR_GUARD_BODY_TOO_LARGE', `the body exceeds ${maxBytes} bytes`);
}

function aborted(cause?: Error): GuardError {
  return new GuardError(
    'ERR_GUARD_BODY_ABORTED',
    'the caller went away before its body was complete',
    cause && { cause },
  );
}

function consumed(): GuardError {
  return new GuardError(
    'ERR_GUARD_BODY_CONSUMED',
    'something read the body before the guards did, so its exact bytes are gone: mount the guards before express.json() ' +
      'and every other body parser (they still find the body afterwards)',
  );
}
