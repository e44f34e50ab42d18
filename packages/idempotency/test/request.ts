import type { GuardRequest, HeaderEntry, Pass, Reply, Verdict } from '@countersign/guard';
import type { Execution } from '../src/idempotency.ts';

export interface RequestInit {
  readonly method?: string;
  readonly path?: string;
  readonly query?: string;
  readonly route?: string;
  readonly headers?: readonly HeaderEntry[];
  readonly key?: string;
  readonly body?: string | Uint8Array;
  readonly signal?: AbortSignal;
}

/** A request as an adapter would hand it to a guard. */
export function requestOf(init: RequestInit = {}): GuardRequest {
  const { method = 'POST', path = '/payments', query = '', route, key, body = '' } = init;
  const headers = [
    ['content-type', 'application/json'] as const,
    ...(key === undefined ? [] : [['Idempotency-Key', key] as const]),
    ...(init.headers ?? []),
  ];
  const all = (name: string): string[] =>
    headers
      .filter(([candidate]) => candidate.toLowerCase() === name.toLowerCase())
      .map(([, value]) => value);
  return {
    method,
    path,
    query: new URLSearchParams(query),
    search: query && `?${query}`,
    ...(route !== undefined && { route }),
    headers: { all, get: (name) => (all(name).length > 0 ? all(name).join(', ') : undefined) },
    remoteAddress: '127.0.0.1',
    secure: true,
    signal: init.signal ?? new AbortController().signal,
    rawBody: async () => (typeof body === 'string' ? Buffer.from(body) : body),
  };
}

/** The pass, or an error that says what the answer was. */
export function passed(verdict: Verdict<Execution>): Pass<Execution> {
  if (!verdict.pass) throw new Error(`refused: ${verdict.status} ${String(verdict.body)}`);
  return verdict;
}

/** The reply, or an error. */
export function refused(verdict: Verdict<unknown>): Reply {
  if (verdict.pass) throw new Error('passed');
  return verdict;
}

/** The members of a problem document. */
export function problemIn(reply: Reply): Record<string, unknown> {
  return JSON.parse(String(reply.body)) as Record<string, unknown>;
}
