/** One header field line. */
type HeaderEntry = readonly [name: string, value: string];

/** A response as it is kept and replayed. */
export interface StoredResponse {
  readonly status: number;
  readonly headers: readonly HeaderEntry[];
  /** The exact bytes; `undefined` when they were not kept. */
  readonly body?: Uint8Array | undefined;
}

/** The header fields that a replay carries unless told otherwise: those that describe the outcome. */
export const defaultReplayHeaders: readonly string[] = [
  'allow',
  'cache-control',
  'content-disposition',
  'content-encoding',
  'content-language',
  'content-location',
  'content-type',
  'deprecation',
  'etag',
  'last-modified',
  'link',
  'location',
  'retry-after',
  'sunset',
  'vary',
  'www-authenticate',
];

/** Belongs to one connection, one exchange or one session, never to a replay (RFC 9110 §7.6.1). */
const neverReplayed = new Set([
  'connection',
  'content-length',
  'date',
  'keep-alive',
  'proxy-authenticate',
  'proxy-connection',
  'set-cookie',
  'set-cookie2',
  'te',
  'trailer',
  'transfer-encoding',
  'upgrade',
  'correlation-id',
  'idempotency-expires',
  'idempotency-replayed',
  'request-id',
  'server-timing',
  'traceparent',
  'tracestate',
  'x-correlation-id',
  'x-request-id',
]);

/** The names, lower case, of the header fields to keep. */
export function replayList(extra: readonly string[]): ReadonlySet<string> {
  if (!Array.isArray(extra) || !extra.every((name) => typeof name === 'string'))
    throw new TypeError('replayHeaders: expected a list of names');
  const added = extra.map((name) => name.toLowerCase());
  const refused = added.find((name) => neverReplayed.has(name));
  if (refused) throw new TypeError(`replayHeaders: "${refused}" must not be replayed`);
  const malformed = added.find((name) => !/^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name));
  if (malformed !== undefined) throw new TypeError('replayHeaders: expected header field names');
  return new Set([...defaultReplayHeaders, ...added]);
}

/** Guards' own lines of these stand beside those of the replay, and the same line must be recognised. */
const listed: ReadonlySet<string> = new Set(['link', 'vary', 'www-authenticate']);

/** Several lines of one field as one (RFC 9110 §5.3): of most fields, an answer of a guard has one line. */
export function joined(headers: readonly HeaderEntry[]): readonly HeaderEntry[] {
  const isRepeated = ([name]: HeaderEntry, at: number): boolean =>
    headers.findIndex(([other]) => other === name) < at;
  if (!headers.some(isRepeated)) return headers;
  return headers.flatMap((entry): HeaderEntry[] => {
    const [name] = entry;
    if (listed.has(name)) return [entry];
    const lines = headers.filter(([other]) => other === name);
    return lines[0] === entry ? [[name, lines.map(([, value]) => value).join(', ')]] : [];
  });
}

/**
 * Writes a response as bytes: a status line, header lines and, after an empty line, the body as it is.
 * `201\ncontent-type: text/plain\n\nhello`. A body that was not kept is marked by `-` after the status.
 */
export function encodeResponse({ status, headers, body }: StoredResponse): Uint8Array {
  let head = `${status}${body ? '' : ' -'}\n`;
  for (const [name, value] of headers) head += `${name}: ${value}\n`;
  head += '\n';
  const bytes = Buffer.allocUnsafe(head.length + (body?.byteLength ?? 0));
  bytes.write(head, 'latin1');
  if (body) bytes.set(body, head.length);
  return bytes;
}

/** Reads what {@link encodeResponse} wrote; `undefined` when it is something else. */
export function decodeResponse(bytes: Uint8Array): StoredResponse | undefined {
  const buffer = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const end = buffer.indexOf('\n\n');
  if (end < 3) return undefined;
  const lines = buffer.toString('latin1', 0, end).split('\n');
  const [, status, omitted] = /^([1-9]\d\d)( -)?$/.exec(lines[0] ?? '') ?? [];
  if (!status) return undefined;
  const headers: HeaderEntry[] = [];
  for (let at = 1; at < lines.length; at += 1) {
    const line = lines[at] as string;
    const colon = line.indexOf(': ');
    headers.push([line.slice(0, colon), line.slice(colon + 2)]);
  }
  return { status: Number(status), headers, body: omitted ? undefined : buffer.subarray(end + 2) };
}
