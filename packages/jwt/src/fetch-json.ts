/** What is needed of `fetch`. undici's own, bound to an agent, fits as well as the built-in one. */
export type FetchLike = (url: string, init: FetchLikeInit) => Promise<FetchLikeResponse>;

export interface FetchLikeInit {
  readonly headers: Record<string, string>;
  readonly redirect: 'error';
  readonly signal: AbortSignal;
}

export interface FetchLikeResponse {
  readonly status: number;
  /** Refused when true: not every `fetch` is told what to do with redirects. */
  readonly redirected?: boolean;
  readonly body: AsyncIterable<Uint8Array> | null;
}

export interface FetchJsonOptions {
  readonly fetch: FetchLike;
  readonly maxBytes: number;
  readonly signal: AbortSignal;
}

/** Fetches a JSON object: status 200 only, no redirects, not a byte more than `maxBytes`. */
export async function fetchJson(
  url: string,
  options: FetchJsonOptions,
): Promise<Readonly<Record<string, unknown>>> {
  const response = await options.fetch(url, {
    headers: { accept: 'application/json, application/jwk-set+json' },
    redirect: 'error',
    signal: options.signal,
  });
  const bytes = await readBounded(response, url, options);
  if (response.redirected) throw new Error(`${url} was redirected`);
  if (response.status !== 200) throw new Error(`${url} answered ${response.status}`);
  let value: unknown;
  try {
    value = JSON.parse(bytes.toString('utf8'));
  } catch {
    throw new Error(`${url} did not answer with JSON`);
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new Error(`${url} did not answer with a JSON object`);
  return value as Record<string, unknown>;
}

/** Reads the body whatever the status, so that the connection can be used again. */
async function readBounded(
  response: FetchLikeResponse,
  url: string,
  { maxBytes, signal }: FetchJsonOptions,
): Promise<Buffer> {
  const chunks: Uint8Array[] = [];
  let size = 0;
  for await (const chunk of response.body ?? []) {
    // A body that trickles for ever must not outlive the deadline.
    signal.throwIfAborted();
    size += chunk.byteLength;
    if (size > maxBytes) throw new Error(`${url} answered with more than ${maxBytes} bytes`);
    chunks.push(chunk);
  }
  return Buffer.concat(chunks);
}
