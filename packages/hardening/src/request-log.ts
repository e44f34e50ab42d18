import type { Guard, GuardRequest, Pass } from '@countersign/guard';
import { isHeard, publish, type RequestLogEntry } from './events.ts';
import { assertFunction, assertKnown } from './options.ts';
import { redaction } from './redaction.ts';

/** What `requestLog` takes. `In` is what the guards before it found out. */
export interface RequestLogOptions<In> {
  /** The request fields that are logged. Default `accept`, `content-length`, `content-type`, `origin`, `user-agent`. */
  readonly headers?: readonly string[];
  /**
   * Further headers and parameters whose values are replaced by `[redacted]`. Those whose name speaks of credentials (`authorization`, `cookie`,
   * `x-api-key`, `token`, `signature`, `password`, …) always are, and so is every value that looks like one.
   */
  readonly redact?: readonly string[];
  /** The id of the request, from what the guards before this one found out. */
  readonly requestId?: (context: In) => string;
  /** Milliseconds since the epoch. Default `Date.now`. */
  readonly now?: () => number;
}

const usualHeaders = ['accept', 'content-length', 'content-type', 'origin', 'user-agent'];
const maxParameters = 50;
const untouched: Pass<undefined> = { pass: true, context: undefined };

/**
 * A guard that reports every request with its outcome, those that are refused behind it included. Mount it first, behind the one that finds the id.
 * Nothing is read, and no response held back, while nobody listens.
 * @throws TypeError for an unknown option, names that are none, and what is no function where one is expected.
 */
export function requestLog<In = object>(options: RequestLogOptions<In> = {}): Guard<undefined, In> {
  const known = ['headers', 'redact', 'requestId', 'now'];
  assertKnown('requestLog', options, known);
  const { requestId, now = Date.now } = options;
  assertFunction('requestLog: now', now);
  if (requestId !== undefined) assertFunction('requestLog: requestId', requestId);
  const names = fieldNames('headers', options.headers ?? usualHeaders);
  const redact = redaction(fieldNames('redact', options.redact ?? []));
  const describe = (
    request: GuardRequest,
  ): Pick<RequestLogEntry, 'path' | 'query' | 'headers'> => ({
    path: redact.path(request.path),
    query: [...request.query]
      .slice(0, maxParameters)
      .map(([name, value]) => [redact.name(name), redact.value(name, value)]),
    headers: Object.fromEntries(
      names.flatMap((name) => {
        const value = request.headers.get(name);
        return value === undefined ? [] : [[name, redact.value(name, value)]];
      }),
    ),
  });
  return (request, context) => {
    if (!isHeard('request')) return untouched;
    const startedAtMs = now();
    return {
      pass: true,
      context: undefined,
      settle: ({ status, aborted, refused = false }) =>
        publish('request', () => ({
          startedAtMs,
          durationMs: now() - startedAtMs,
          method: request.method,
          ...describe(request),
          ...(request.route !== undefined && { route: request.route }),
          remoteAddress: request.remoteAddress,
          secure: request.secure,
          status,
          aborted,
          refused,
          ...(requestId && { requestId: requestId(context) }),
        })),
    };
  };
}

function fieldNames(option: string, names: readonly string[]): readonly string[] {
  if (Array.isArray(names) && names.every((name) => typeof name === 'string' && name !== '')) {
    return names.map((name) => name.toLowerCase());
  }
  throw new TypeError(`requestLog: ${option} must be a list of names`);
}
