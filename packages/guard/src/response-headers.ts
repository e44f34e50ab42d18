import { type OutgoingHttpHeader, type OutgoingHttpHeaders, ServerResponse } from 'node:http';
import { append, blockOf, canAppend, type HeaderBlock, joined } from './static-headers.ts';
import type { HeaderEntry } from './verdict.ts';

/** Fields whose lines stand beside those of the handler; of every other field the guards' line replaces the handler's. */
const listed: ReadonlySet<string> = new Set([
  'access-control-expose-headers',
  'link',
  'proxy-authenticate',
  'ratelimit',
  'ratelimit-policy',
  'server-timing',
  'set-cookie',
  'vary',
  'www-authenticate',
]);

/** What runs here is nobody's business. */
const dropped: ReadonlySet<string> = new Set(['server', 'x-powered-by']);

/** Removing them would tell node:http to leave them out for good. */
const ofConnection: ReadonlySet<string> = new Set(['connection', 'date', 'keep-alive']);

const additionsOf = Symbol('countersign.guard.headers');

/** What guards add to one response. */
interface Additions {
  entries: readonly HeaderEntry[];
  /** Whether the fields must be readable (`getHeader`) when the head has been written. */
  readable: boolean;
}

/** The header fields that `writeHead` takes, in any of its three shapes. */
export type Fields =
  | OutgoingHttpHeaders
  | readonly OutgoingHttpHeader[]
  | readonly [string, OutgoingHttpHeader][];
type Guarded = ServerResponse & { [additionsOf]?: Additions };
type WriteHead = (status: number, reason?: string | Fields, fields?: Fields) => ServerResponse;

/**
 * Puts headers on whatever response will be sent, by whomever: every response of node:http passes through `writeHead`,
 * also one that is written by `end` or by a framework's error page.
 */
export function addHeaders(res: ServerResponse, entries: readonly HeaderEntry[]): void {
  const known = (res as Guarded)[additionsOf];
  if (known) known.entries = joined(known.entries, entries);
  else watch(res, { entries, readable: false });
}

/** The lines at the beginning of a list that are the same on every response. */
export function staticBlock(entries: readonly HeaderEntry[]): HeaderBlock | undefined {
  return blockOf(entries, isListed);
}

function isListed(name: string): boolean {
  return listed.has(name);
}

/** Whether guards have had their say on this response. */
export function isGuarded(res: ServerResponse): boolean {
  return (res as Guarded)[additionsOf] !== undefined;
}

/** Makes `headerLines` tell all that was sent, also what the handler gave to `writeHead` alone. */
export function keepReadable(res: ServerResponse): void {
  const known = (res as Guarded)[additionsOf];
  if (known) known.readable = true;
}

/** Takes back a head that was composed and has not left; of its fields only the guards' remain. */
export function takeBackHead(res: ServerResponse): void {
  // node:http keeps what it composed here until the first bytes leave, and has no other way to give it up.
  Object.assign(res, { _header: null, _contentLength: null, chunkedEncoding: false });
  res.statusMessage = '';
  for (const name of res.getHeaderNames()) if (!ofConnection.has(name)) res.removeHeader(name);
  merge(res, (res as Guarded)[additionsOf]?.entries ?? []);
}

/** The header field lines a response carries, their names in lower case. */
export function headerLines(res: ServerResponse): HeaderEntry[] {
  return res.getHeaderNames().flatMap((name) => {
    const value = res.getHeader(name) ?? [];
    return Array.isArray(value)
      ? value.map((line): HeaderEntry => [name, line])
      : [[name, String(value)] satisfies HeaderEntry];
  });
}

/** What `writeHead` does with its fields, done with the methods it documents. */
export function setFields(res: ServerResponse, fields: Fields): void {
  if (!Array.isArray(fields)) {
    for (const [name, value] of Object.entries(fields)) {
      res.setHeader(name, value as OutgoingHttpHeader);
    }
    return;
  }
  const pairs = pairsOf(fields);
  for (const [name] of pairs) res.removeHeader(name);
  for (const [name, value] of pairs) {
    res.appendHeader(name, Array.isArray(value) ? value : String(value));
  }
}

function watch(res: ServerResponse, additions: Additions): void {
  (res as Guarded)[additionsOf] = additions;
  // Whoever stands between may keep the head to himself, and there would be nothing to put a block behind.
  const isDirect = canAppend && res.writeHead === ServerResponse.prototype.writeHead;
  const writeHead = res.writeHead.bind(res) as WriteHead;
  let written = false;
  res.writeHead = ((status, reason, fields) => {
    const given = typeof reason === 'string' ? fields : (fields ?? reason);
    const phrase = typeof reason === 'string' ? reason : undefined;
    if (written || res.headersSent || isOdd(given)) return writeHead(status, reason, fields);
    const block = isDirect ? fittingBlock(res, given as Fields | undefined, additions) : undefined;
    const head =
      block?.length === additions.entries.length
        ? (given as Fields | undefined)
        : composed(res, given as Fields | undefined, additions, block?.length);
    if (phrase === undefined) writeHead(status, head);
    else writeHead(status, phrase, head);
    if (block) append(res, block);
    // Who keeps it to himself may find that it cannot be sent, and another follows.
    written = res.headersSent;
    return res;
  }) as WriteHead as ServerResponse['writeHead'];
}

/** The static lines, when nothing else on the response is of their names: they need not be looked at one by one then. */
function fittingBlock(
  res: ServerResponse,
  given: Fields | undefined,
  { entries, readable }: Additions,
): HeaderBlock | undefined {
  if (readable || Array.isArray(given)) return undefined;
  const block = staticBlock(entries);
  if (!block) return undefined;
  for (const name of res.getHeaderNames()) {
    if (dropped.has(name)) res.removeHeader(name);
    else if (block.names.has(name)) return undefined;
  }
  for (const name of Object.keys(given ?? {})) if (!isFree(name, block)) return undefined;
  for (let at = block.length; at < entries.length; at += 1) {
    if (!isFree((entries[at] as HeaderEntry)[0], block)) return undefined;
  }
  return block;
}

function isFree(name: string, { names }: HeaderBlock): boolean {
  const lower = name.toLowerCase();
  return !names.has(lower) && !dropped.has(lower);
}

/** A malformed list is for node:http to refuse. */
function isOdd(fields: unknown): boolean {
  return Array.isArray(fields) && fields.length % 2 === 1 && !Array.isArray(fields[0]);
}

/**
 * The fields to write, with the entries from `start` on, or none when they have been set. A response that has no fields yet gets all of them as a list,
 * which node:http writes as it is: that costs half of setting one after the other.
 */
function composed(
  res: ServerResponse,
  given: Fields | undefined,
  { entries: all, readable }: Additions,
  start = 0,
): Fields | undefined {
  const entries = start === 0 ? all : all.slice(start);
  const isDelicate = entries.some(hasLetters);
  if (!readable && !isDelicate && res.getHeaderNames().length === 0) {
    return flat(given ?? {}, entries);
  }
  if (given) setFields(res, given);
  merge(res, entries);
  if (isDelicate) putLengthLast(res);
  return undefined;
}

/** Whether it is the one field whose letters beyond ASCII node:http treats by rules of their own. */
function hasLetters([name, value]: HeaderEntry): boolean {
  return (
    name.length === 19 && name.toLowerCase() === 'content-disposition' && /[\x80-\xff]/.test(value)
  );
}

/** Where node:http knows the body's length when it comes to that field, it spoils its letters, or throws at them in a list. */
function putLengthLast(res: ServerResponse): void {
  const length = res.getHeader('content-length');
  Object.assign(res, { _contentLength: null });
  if (length === undefined) return;
  res.removeHeader('content-length');
  res.setHeader('content-length', length);
}

function flat(given: Fields, entries: readonly HeaderEntry[]): OutgoingHttpHeader[] {
  const out: OutgoingHttpHeader[] = [];
  const own = (name: string, value: OutgoingHttpHeader): void => {
    const lower = name.toLowerCase();
    if (!dropped.has(lower) && (listed.has(lower) || !names(entries, lower))) out.push(name, value);
  };
  if (Array.isArray(given)) for (const [name, value] of pairsOf(given)) own(name, value);
  else for (const name of Object.keys(given)) own(name, Reflect.get(given, name));
  for (let at = 0; at < entries.length; at += 1) {
    const [name, value] = entries[at] as HeaderEntry;
    const lower = name.toLowerCase();
    const isNew = listed.has(lower) ? !has(out, lower, value) : !names(entries, lower, at + 1);
    if (isNew) out.push(name, value);
  }
  return out;
}

/** Whether an entry from `start` on is of that name. */
function names(entries: readonly HeaderEntry[], lower: string, start = 0): boolean {
  for (let at = start; at < entries.length; at += 1) {
    const name = (entries[at] as HeaderEntry)[0];
    if (name.length === lower.length && name.toLowerCase() === lower) return true;
  }
  return false;
}

function has(out: readonly OutgoingHttpHeader[], lower: string, value: string): boolean {
  for (let at = 0; at < out.length; at += 2) {
    if (String(out[at]).toLowerCase() !== lower) continue;
    const lines = out[at + 1];
    if (Array.isArray(lines) ? lines.includes(value) : lines === value) return true;
  }
  return false;
}

function pairsOf(fields: readonly unknown[]): [string, OutgoingHttpHeader][] {
  if (Array.isArray(fields[0])) return fields as [string, OutgoingHttpHeader][];
  return Array.from({ length: fields.length / 2 }, (_, index) => [
    String(fields[2 * index]),
    fields[2 * index + 1] as OutgoingHttpHeader,
  ]);
}

function merge(res: ServerResponse, entries: readonly HeaderEntry[]): void {
  for (const name of dropped) res.removeHeader(name);
  for (const [name, value] of entries) {
    if (!listed.has(name.toLowerCase())) res.setHeader(name, value);
    else if (!valuesOf(res, name).includes(value)) res.appendHeader(name, value);
  }
}

function valuesOf(res: ServerResponse, name: string): readonly string[] {
  const value = res.getHeader(name);
  if (value === undefined) return [];
  return Array.isArray(value) ? value : [String(value)];
}
