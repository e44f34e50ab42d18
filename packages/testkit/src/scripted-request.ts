/** A request as it came over the wire. */
export interface ScriptedRequest {
  /** Which connection it came on, from 1. */
  readonly connection: number;
  /** Request line and header lines, untouched. */
  readonly head: string;
  readonly method: string;
  /** The request target: path and query. */
  readonly target: string;
  /** Names in lower case; repeated ones joined with `, `. */
  readonly headers: Readonly<Record<string, string>>;
  /** Decoded when it was chunked; complete once a script that waits for the request runs. */
  readonly body: Buffer;
}

interface Reading {
  readonly request: ScriptedRequest;
  /** Reads the body into `request.body`; resolves with the bytes after it, which belong to the next request. */
  body(): Promise<Buffer>;
}

/** Reads one request's head; undefined when the peer has none left to send. */
export async function readRequest(
  bytes: AsyncIterator<Buffer>,
  already: Buffer,
  connection: number,
): Promise<Reading | undefined> {
  let buffer = already;
  const more = async (): Promise<void> => {
    const { value, done } = await bytes.next();
    if (done) throw new Error('the peer left in the middle of a request');
    buffer = Buffer.concat([buffer, value]);
  };
  const until = async (mark: string): Promise<string> => {
    let at = buffer.indexOf(mark);
    for (; at < 0; at = buffer.indexOf(mark)) await more();
    const text = buffer.toString('latin1', 0, at);
    buffer = buffer.subarray(at + mark.length);
    return text;
  };
  const take = async (length: number): Promise<Buffer> => {
    while (buffer.length < length) await more();
    const taken = buffer.subarray(0, length);
    buffer = buffer.subarray(length);
    return taken;
  };

  if (buffer.length === 0) {
    const { value, done } = await bytes.next();
    if (done) return undefined;
    buffer = value;
  }
  const head = await until('\r\n\r\n');
  const [line = '', ...lines] = head.split('\r\n');
  const [method = '', target = ''] = line.split(' ');
  const headers = headerFields(lines);
  const request: { -readonly [K in keyof ScriptedRequest]: ScriptedRequest[K] } = {
    connection,
    head,
    method,
    target,
    headers,
    body: Buffer.alloc(0),
  };
  const body = async () => {
    if (headers['transfer-encoding']?.includes('chunked')) {
      const chunks: Buffer[] = [];
      for (;;) {
        const size = Number.parseInt(await until('\r\n'), 16);
        if (size === 0) break;
        chunks.push(await take(size));
        await until('\r\n');
      }
      while ((await until('\r\n')) !== '');
      request.body = Buffer.concat(chunks);
    } else request.body = await take(Number(headers['content-length'] ?? 0));
    return buffer;
  };
  return { request, body };
}

function headerFields(lines: readonly string[]): Record<string, string> {
  const fields: Record<string, string> = {};
  for (const line of lines) {
    const colon = line.indexOf(':');
    const name = line.slice(0, colon).toLowerCase();
    const value = line.slice(colon + 1).trim();
    fields[name] = fields[name] === undefined ? value : `${fields[name]}, ${value}`;
  }
  return fields;
}
