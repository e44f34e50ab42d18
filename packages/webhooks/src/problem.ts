/** An answer to the sender, as `application/problem+json` (RFC 9457) when it is a refusal. */
export interface Answer {
  readonly status: number;
  readonly headers: readonly (readonly [name: string, value: string])[];
  readonly body?: string;
}

const TITLES: Readonly<Record<number, string>> = {
  400: 'Bad Request',
  403: 'Forbidden',
  409: 'Conflict',
  413: 'Content Too Large',
  503: 'Service Unavailable',
};

/** A refusal that says no more than its status: the details go to the diagnostics channel. */
export function refusal(status: number, retryAfterMs?: number): Answer {
  return {
    status,
    headers: [
      ['content-type', 'application/problem+json'],
      ['cache-control', 'no-store'],
      ...(retryAfterMs === undefined
        ? []
        : [['retry-after', String(Math.max(1, Math.ceil(retryAfterMs / 1000)))] as const]),
    ],
    body: JSON.stringify({ type: 'about:blank', title: TITLES[status] ?? 'Error', status }),
  };
}

/** An empty success. */
export function accepted(status: number): Answer {
  return { status, headers: [['cache-control', 'no-store']] };
}
