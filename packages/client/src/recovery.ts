import { createHash } from 'node:crypto';
import type { ClientResponse } from './accept.ts';
import type { Order } from './call.ts';
import { ClientError } from './errors.ts';
import type { JournalEntry } from './store.ts';

/** What became of a call that a crash had interrupted. */
export type Recovery =
  /** The server has answered; the entry is gone. `response` may be a replay: `replayed` says so. */
  | {
      readonly status: 'completed';
      readonly entry: JournalEntry;
      readonly response: ClientResponse;
    }
  /** The server has refused it for good; the entry is gone. */
  | { readonly status: 'refused'; readonly entry: JournalEntry; readonly error: ClientError }
  /** No clear answer yet; the entry stays for the next `recover()`. */
  | { readonly status: 'pending'; readonly entry: JournalEntry; readonly error: ClientError }
  /** The server may have forgotten the key: sending again could do the work twice. The entry stays until you `settle` it. */
  | { readonly status: 'expired'; readonly entry: JournalEntry };

/**
 * Whether the server refused for good. Not when it did the work and only its answer was of no use, when it did not know
 * the caller (401), or when the first attempt may still be at work (409).
 */
export function isRefusal({ status, stopped }: ClientError): boolean {
  return status !== undefined && status >= 400 && stopped === 'final' && !UNDECIDED.has(status);
}

const UNDECIDED: ReadonlySet<number> = new Set([401, 409]);

/** What is attached to a request as identity does not belong on a disk, and is attached again. */
const IDENTITY_HEADERS: ReadonlySet<string> = new Set([
  'authorization',
  'proxy-authorization',
  'cookie',
  'x-api-key',
]);

/**
 * Writes down what is needed to make the call again.
 * @throws TypeError when its body is a stream.
 */
export function entryOf(
  order: Order,
  key: string,
  given: Readonly<Record<string, string>>,
  keyLifetimeMs: number,
  now: number,
): JournalEntry {
  const { identity, target, payload, headers } = order;
  const { method } = identity;
  const body = bytesOf(payload);
  const contentType = headers['content-type'];
  const kept = Object.entries(given).filter(([name]) => !IDENTITY_HEADERS.has(name));
  return {
    version: 1,
    key,
    origin: target.origin,
    method,
    path: target.path,
    headers: {
      ...Object.fromEntries(kept),
      ...(contentType === undefined ? {} : { 'content-type': contentType }),
    },
    ...(body === undefined ? {} : { body: body.toString('base64') }),
    fingerprint: fingerprint(method, target.path, body),
    createdAtMs: now,
    deadlineAtMs: now + order.deadline.remaining(),
    expiresAtMs: now + keyLifetimeMs,
  };
}

/** The body of an entry. @throws ClientError `ERR_CLIENT_JOURNAL` when it is not what was written. */
export function bodyOf({
  method,
  path,
  body,
  fingerprint: written,
}: JournalEntry): Buffer | undefined {
  const bytes = body === undefined ? undefined : Buffer.from(body, 'base64');
  if (fingerprint(method, path, bytes) === written) return bytes;
  throw new ClientError('ERR_CLIENT_JOURNAL', 'the journal cannot be used: an entry was altered');
}

function bytesOf(payload: Order['payload']): Buffer | undefined {
  if (payload === null || payload === undefined) return undefined;
  if (typeof payload === 'string') return Buffer.from(payload);
  if (payload instanceof Uint8Array) return Buffer.from(payload);
  throw new TypeError('a body that is a stream cannot be journaled: give it as bytes');
}

function fingerprint(method: string, path: string, body: Uint8Array | undefined): string {
  const hash = createHash('sha256').update(`${method}\n${path}\n`);
  return (body ? hash.update(body) : hash).digest('hex');
}
