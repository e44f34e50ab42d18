import type { OutgoingHttpHeader, OutgoingHttpHeaders, ServerResponse } from 'node:http';
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

const entriesOf = Symbol('countersign.guard.headers');

/** The header fields that `writeHead` takes, in any of its three shapes. */
export type Fields =
  | OutgoingHttpHeaders
  | readonly OutgoingHttpHeader[]
  | readonly [string, OutgoingHttpHeader][];
type Guarded = ServerResponse & { [entriesOf]?: HeaderEntry[] };

/**
 * Puts headers on whatever response will be sent, by whomever: every response of node:http passes through `writeHead`,
 * also one that is written by `end` or by a framework's error page.
 */
export function addHeaders(res: ServerResponse, entries: readonly HeaderEntry[]): void {
  const known = (res as Guarded)[entriesOf];
  if (known) known.push(...entries);
  else watch(res, [...entries]);
}

/** Whether guards have had their say on this response. */
export function isGuarded(res: ServerResponse): boolean {
  return (res as Guarded)[entriesOf] !== undefined;
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

function watch(res: ServerResponse, entries: HeaderEntry[]): void {
  (res as Guarded)[entriesOf] = entries;
  const writeHead: (...head: [number, string?]) => unknown = res.writeHead.bind(res);
  let written = false;
  res.writeHead = (status: number, reason?: string | Fields, fields?: Fields) => {
    const given = typeof reason === 'string' ? fields : (fields ?? reason);
    if (!written && !res.headersSent) {
      if (given) setFields(res, given);
      merge(res, entries);
    }
    if (typeof reason === 'string') writeHead(status, reason);
    else writeHead(status);
    written = true;
    return res;
  };
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

function pairsOf(fields: readonly unknown[]): [string, OutgoingHttpHeader][] {
  if (Array.isArray(fields[0])) return fields as [string, OutgoingHttpHeader][];
  return Array.from({ length: fields.length / 2 }, (_, index) => [
    String(fields[2 * index]),
    fields[2 * index + 1] as OutgoingHttpHeader,
  ]);
}

function merge(res: ServerResponse, entries: readonly HeaderEntry[]): void {
  // What runs here is nobody's business.
  res.removeHeader('x-powered-by');
  res.removeHeader('server');
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
