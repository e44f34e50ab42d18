import type { GuardRequest } from '@countersign/guard';

export interface RequestParts {
  readonly method?: string;
  readonly path?: string;
  readonly query?: string;
  /** Field lines by name, in lower case. */
  readonly headers?: Readonly<Record<string, readonly string[]>>;
}

/** A request as an adapter would pass it on. */
export function request(parts: RequestParts = {}): GuardRequest {
  const { method = 'GET', path = '/orders', query = '', headers = {} } = parts;
  return {
    method,
    path,
    query: new URLSearchParams(query),
    headers: {
      get: (name) => headers[name.toLowerCase()]?.join(', '),
      all: (name) => headers[name.toLowerCase()] ?? [],
    },
    remoteAddress: '192.0.2.1',
    secure: true,
    signal: new AbortController().signal,
    rawBody: () => Promise.resolve(new Uint8Array()),
  };
}
