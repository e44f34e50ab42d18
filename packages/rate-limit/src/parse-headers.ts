import { parseRetryAfter } from '@countersign/retry';
import { parseList, Token } from 'structured-headers';

/** What a server says of one of its limits. */
export interface ServerLimit {
  /** The policy's name; `undefined` where the fields have none. */
  readonly name?: string;
  readonly limit?: number;
  /** What is counted, where the server says so (`qu`): `request`, `content-bytes`, `concurrent-requests`. */
  readonly unit?: string;
  readonly remaining: number;
  /** Milliseconds until the quota resets. */
  readonly resetMs?: number;
}

export interface ServerLimits {
  readonly limits: readonly ServerLimit[];
  /** Milliseconds to stay away for, from `Retry-After`; it takes precedence over any reset. */
  readonly retryAfterMs?: number;
}

/** Looks up a header field without regard to case; several lines joined by a comma, or `undefined`. */
export type HeaderLookup = (name: string) => string | undefined;

/**
 * Reads what a server says of its limits, in any of the usual forms: the IETF drafts 8 and later (`"name";r=…;t=…`), draft 7
 * (`limit=…, remaining=…, reset=…`), earlier drafts (`RateLimit-Remaining` and so on), `X-RateLimit-*` and `X-Rate-Limit-*` with a
 * reset in seconds from now, Unix seconds or Unix milliseconds, and `Retry-After`. What is malformed is ignored.
 * @param nowMs - the wall clock; default `Date.now()`.
 */
export function parseRateLimitHeaders(
  headers:
    | HeaderLookup
    | Headers
    | Readonly<Record<string, string | readonly string[] | undefined>>,
  nowMs: number = Date.now(),
): ServerLimits {
  const get = lookup(headers);
  const retryAfterMs = parseRetryAfter(get('retry-after'), nowMs);
  const limits = structured(get) ?? combined(get) ?? separate(get, nowMs) ?? [];
  return { limits, ...(retryAfterMs !== undefined && { retryAfterMs }) };
}

function structured(get: HeaderLookup): ServerLimit[] | undefined {
  const items = listOf(get('ratelimit'));
  const quotas = new Map(listOf(get('ratelimit-policy'))?.map((quota) => [quota.name, quota]));
  const limits = items?.flatMap(({ name, r, t }): ServerLimit[] => {
    if (r === undefined) return [];
    const { q, qu } = quotas.get(name) ?? {};
    return [
      {
        name,
        remaining: r,
        ...(q !== undefined && { limit: q }),
        ...(qu !== undefined && { unit: qu }),
        ...(t !== undefined && { resetMs: t * 1000 }),
      },
    ];
  });
  return limits?.length ? limits : undefined;
}

interface ParsedItem {
  readonly name: string;
  readonly r: number | undefined;
  readonly t: number | undefined;
  readonly q: number | undefined;
  readonly qu: string | undefined;
}

function listOf(value: string | undefined): ParsedItem[] | undefined {
  if (value === undefined) return undefined;
  try {
    return parseList(value).flatMap(([name, parameters]): ParsedItem[] =>
      Array.isArray(name)
        ? []
        : [
            {
              name: String(name),
              r: count(parameters.get('r')),
              t: count(parameters.get('t')),
              q: count(parameters.get('q')),
              qu: textOf(parameters.get('qu')),
            },
          ],
    );
  } catch {
    return undefined;
  }
}

function combined(get: HeaderLookup): ServerLimit[] | undefined {
  const value = get('ratelimit');
  if (value === undefined) return undefined;
  const members = new Map(
    [...value.matchAll(/(limit|remaining|reset)\s*=\s*(\d{1,15})/g)].map(([, name, digits]) => [
      name,
      Number(digits),
    ]),
  );
  const remaining = members.get('remaining');
  if (remaining === undefined) return undefined;
  return limitOf(members.get('limit'), remaining, secondsToMs(members.get('reset')));
}

function separate(get: HeaderLookup, nowMs: number): ServerLimit[] | undefined {
  for (const prefix of ['ratelimit', 'x-ratelimit', 'x-rate-limit']) {
    const left = numbers(get(`${prefix}-remaining`));
    if (left.length === 0) continue;
    const most = numbers(get(`${prefix}-limit`));
    const resets = numbers(get(`${prefix}-reset`));
    // One policy after the other, or one line of a proxy's and one of the server's: what is said once holds for all.
    return left.flatMap((remaining, position) =>
      limitOf(most[position], Math.floor(remaining), fromNow(resets[position] ?? resets[0], nowMs)),
    );
  }
  return undefined;
}

function limitOf(
  limit: number | undefined,
  remaining: number,
  resetMs: number | undefined,
): ServerLimit[] {
  return [
    { remaining, ...(limit !== undefined && { limit }), ...(resetMs !== undefined && { resetMs }) },
  ];
}

/** Nobody resets a window 30 years from now: larger numbers are moments, in seconds or milliseconds. */
function fromNow(reset: number | undefined, nowMs: number): number | undefined {
  if (reset === undefined) return undefined;
  if (reset > 1e11) return Math.max(0, reset - nowMs);
  return Math.ceil(reset > 1e9 ? Math.max(0, reset * 1000 - nowMs) : reset * 1000);
}

function secondsToMs(seconds: number | undefined): number | undefined {
  return seconds === undefined ? undefined : seconds * 1000;
}

/** The numbers of a field, without what is written behind them (`10;w=1`); none when one of them is none. */
function numbers(value: string | undefined): number[] {
  if (value === undefined) return [];
  const texts = value
    .split(',')
    .map((item) => /^\s*(\d{1,15}(?:\.\d{1,9})?)\s*(?:;.*)?$/.exec(item)?.[1]);
  return texts.includes(undefined) ? [] : texts.map(Number);
}

/** A String or a Token. */
function textOf(value: unknown): string | undefined {
  return typeof value === 'string' || value instanceof Token ? value.toString() : undefined;
}

function count(value: unknown): number | undefined {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : undefined;
}

function lookup(headers: Parameters<typeof parseRateLimitHeaders>[0]): HeaderLookup {
  if (typeof headers === 'function') return headers;
  if (isHeaders(headers)) return (name) => headers.get(name) ?? undefined;
  const lower = new Map(
    Object.entries(headers).map(([name, value]) => [name.toLowerCase(), value]),
  );
  return (name) => {
    const value = lower.get(name);
    return typeof value === 'string' || value === undefined ? value : value.join(', ');
  };
}

/** Of any implementation: those of undici's own `fetch` are of another class than the global one. */
function isHeaders(headers: object): headers is Headers {
  return 'get' in headers && typeof headers.get === 'function';
}
