import { STATUS_CODES } from 'node:http';
import { GuardError } from './errors.ts';
import type { HeaderEntry, Reply } from './verdict.ts';

/** The members of a problem (RFC 9457 §3.1); any further member is an extension (§3.2). */
export interface ProblemDetails {
  /** A URI reference that names the kind of problem. Default `about:blank`: the status says it all. */
  readonly type?: string;
  /** Default: the status's own phrase. */
  readonly title?: string;
  /** 400 to 599. */
  readonly status: number;
  /** About this occurrence, for whoever reads it: never a secret, never an internal. */
  readonly detail?: string;
  readonly instance?: string;
  readonly [extension: string]: unknown;
}

/**
 * Answers with `application/problem+json`.
 * @param headers - further field lines, such as `WWW-Authenticate` or `Retry-After`.
 * @throws TypeError when `status` is no error status.
 */
export function problem(
  details: ProblemDetails,
  headers: readonly HeaderEntry[] = [],
): Reply & { readonly body: string } {
  const { type = 'about:blank', status } = details;
  if (!Number.isInteger(status) || status < 400 || status > 599) {
    throw new TypeError('problem: status must be an integer from 400 to 599');
  }
  const title = details.title ?? STATUS_CODES[status] ?? 'Error';
  return {
    pass: false,
    status,
    headers: [['content-type', 'application/problem+json'], ...headers],
    body: JSON.stringify({ ...details, type, title }),
  };
}

/** The answer to a body that could not be read for a reason on the caller's side; `undefined` for any other error. */
export function refusalOf(error: unknown): Reply | undefined {
  if (!(error instanceof GuardError)) return undefined;
  if (error.code === 'ERR_GUARD_BODY_TOO_LARGE') return problem({ status: 413 });
  if (error.code === 'ERR_GUARD_BODY_ABORTED') return problem({ status: 400 });
  return undefined;
}
