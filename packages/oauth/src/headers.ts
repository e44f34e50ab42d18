import type { Dispatcher } from 'undici';

type RequestHeaders = Dispatcher.DispatchOptions['headers'];

/** Header fields of a request as undici takes them in all its forms: name and value alternating. */
export function headerList(headers: RequestHeaders): (string | string[])[] {
  if (headers === null || headers === undefined) return [];
  if (Array.isArray(headers)) return [...headers];
  const pairs: Iterable<readonly [string, string | string[] | number | undefined]> =
    Symbol.iterator in headers
      ? (headers as Iterable<[string, string | string[] | undefined]>)
      : Object.entries(headers);
  const list: (string | string[])[] = [];
  for (const [name, value] of pairs) {
    if (value !== undefined) list.push(name, Array.isArray(value) ? value : String(value));
  }
  return list;
}

export function hasHeader(list: readonly (string | string[])[], wanted: string): boolean {
  return list.some((name, index) => index % 2 === 0 && String(name).toLowerCase() === wanted);
}
