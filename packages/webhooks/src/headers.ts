import { WebhookError } from './errors.ts';

/** Anything with a `get`: the Fetch API's `Headers`, or a guard's `RequestHeaders`, which also shows duplicates. */
export interface HeaderLookup {
  get(name: string): string | null | undefined;
  all?(name: string): readonly string[];
}

/** Received headers: a plain record (such as `request.headers` in Node.js, any letter case), or a lookup. */
export type HeadersInput =
  | HeaderLookup
  | Readonly<Record<string, string | readonly string[] | undefined>>;

/** Reads the headers of one scheme; the values stand in the order of the names. */
export type HeaderReader = (headers: HeadersInput) => readonly (string | undefined)[];

/**
 * Compiles a reader for a few header names (lower case; `undefined` for one that the scheme does not have). Names match without regard to case; a header that occurs
 * twice is refused, because two readers could pick different ones.
 */
export function headerReader(names: readonly (string | undefined)[]): HeaderReader {
  const positions = new Map<string, number>();
  const lengths: boolean[] = [];
  for (const [index, name] of names.entries()) {
    if (name === undefined) continue;
    positions.set(name, index);
    lengths[name.length] = true;
  }

  function fromRecord(record: Readonly<Record<string, unknown>>): (string | undefined)[] {
    const values: (string | undefined)[] = names.map(() => undefined);
    for (const key of Object.keys(record)) {
      // Most headers are told apart by their length, which spares a lower-cased copy of every name.
      if (lengths[key.length] !== true) continue;
      const position = positions.get(key) ?? positions.get(key.toLowerCase());
      if (position === undefined) continue;
      const value = single(record[key], names[position]);
      if (value === undefined) continue;
      if (values[position] !== undefined) throw duplicate(names[position]);
      values[position] = value;
    }
    return values;
  }

  return (headers) => {
    if (typeof headers !== 'object' || headers === null) {
      throw new WebhookError(
        'ERR_WEBHOOKS_HEADER_MISSING',
        'headers must be an object or a Headers',
      );
    }
    if (!isLookup(headers)) return fromRecord(headers);
    return names.map((name) =>
      name === undefined
        ? undefined
        : single(headers.all?.(name) ?? headers.get(name) ?? undefined, name),
    );
  };
}

function isLookup(headers: HeadersInput): headers is HeaderLookup {
  return typeof headers.get === 'function';
}

function single(value: unknown, name: string | undefined): string | undefined {
  if (typeof value === 'string' || value === undefined) return value;
  if (!Array.isArray(value)) {
    throw new WebhookError('ERR_WEBHOOKS_HEADER_MALFORMED', `the header ${name} is not text`);
  }
  if (value.length > 1) throw duplicate(name);
  return single(value[0], name);
}

function duplicate(name: string | undefined): WebhookError {
  return new WebhookError('ERR_WEBHOOKS_HEADER_DUPLICATE', `the header ${name} occurs twice`);
}
