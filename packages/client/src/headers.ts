import type { Dispatcher } from 'undici';

/** A response's headers; names in lower case, a repeated field as an array. */
export type ResponseHeaders = Readonly<Record<string, string | string[] | undefined>>;

/** What a header's name, or a scheme's, is made of (RFC 9110 §5.6.2). */
const TOKEN = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]+$/;

/** Asked of a value rather than of its text: `null` is none. */
export function isToken(value: unknown): value is string {
  return typeof value === 'string' && TOKEN.test(value);
}

type RequestHeaders = Dispatcher.DispatchOptions['headers'];

/** Whether a request has a header, whichever form of headers undici was given. `name` is lower case. */
export function hasHeader(headers: RequestHeaders, name: string): boolean {
  return headerOf(headers, name) !== undefined;
}

/** The first value of a request's header, whichever form of headers undici was given. `name` is lower case. */
export function headerOf(headers: RequestHeaders, name: string): string | undefined {
  const found = entries(headers).find(([candidate]) => candidate.toLowerCase() === name);
  const [value] = [found?.[1]].flat();
  return value === undefined || value === null ? undefined : text(value);
}

/** The headers with these added, in place of those with the same name. Names are lower case. */
export function addHeaders(
  headers: RequestHeaders,
  added: Readonly<Record<string, string>>,
): Record<string, string | string[]> {
  const merged: Record<string, string | string[]> = {};
  for (const [name, value] of entries(headers)) {
    const key = name.toLowerCase();
    if (value === undefined || value === null || key in added) continue;
    const line = Array.isArray(value) ? value.map(text) : text(value);
    const before = merged[key];
    merged[key] = before === undefined ? line : [before, line].flat();
  }
  return Object.assign(merged, added);
}

function text(value: unknown): string {
  return `${value as string | number}`;
}

function entries(headers: RequestHeaders): (readonly [string, unknown])[] {
  if (!headers) return [];
  if (Array.isArray(headers)) {
    const pairs: [string, unknown][] = [];
    for (let index = 0; index < headers.length; index += 2) {
      pairs.push([String(headers[index]), headers[index + 1]]);
    }
    return pairs;
  }
  if (Symbol.iterator in headers) return [...(headers as Iterable<[string, unknown]>)];
  return Object.entries(headers);
}
