import type { Decision } from './decision.ts';
import { assertFunction } from './policy.ts';
import type { PolicyStatus } from './store.ts';

/** One header field line. */
export type HeaderLine = readonly [name: string, value: string];

export interface RateLimitHeadersOptions {
  /**
   * - `legacy`: `X-RateLimit-Limit`, `-Remaining` and `-Reset` (Unix seconds), about the limit that binds.
   * - `ietf`: `RateLimit-Policy` and `RateLimit`, about every limit.
   * - `both`: default.
   */
  readonly style?: 'legacy' | 'ietf' | 'both';
  /** Which revision of draft-ietf-httpapi-ratelimit-headers to write. It still changes; default and only one so far: 10. */
  readonly draft?: 10;
  /** The wall clock in milliseconds, for `X-RateLimit-Reset`. Default `Date.now`. */
  readonly now?: () => number;
}

/**
 * The header fields that tell a client where it stands. Adds `Retry-After` (RFC 9110 §10.2.3) when it was refused and waiting
 * helps; rounded up, so never earlier than the truth.
 */
export function rateLimitHeaders(
  decision: Decision,
  options: RateLimitHeadersOptions = {},
): HeaderLine[] {
  assertHeadersOptions(options);
  const { style = 'both', now = Date.now } = options;
  const lines: HeaderLine[] = [];
  const known = decision.policies.length > 0;
  if (known && style !== 'ietf') {
    const untilMs = comesBack(decision) ? decision.retryAfterMs : decision.resetMs;
    lines.push(
      ['x-ratelimit-limit', String(decision.limit)],
      ['x-ratelimit-remaining', String(decision.remaining)],
      ['x-ratelimit-reset', String(Math.ceil((now() + untilMs) / 1000))],
    );
  }
  if (known && style !== 'legacy') {
    lines.push(
      ['ratelimit-policy', decision.policies.map(policyItem).join(', ')],
      ['ratelimit', decision.policies.map((policy) => statusItem(policy, decision)).join(', ')],
    );
  }
  if (comesBack(decision)) lines.push(['retry-after', String(seconds(decision.retryAfterMs))]);
  return lines;
}

/** @throws TypeError naming the option that makes no sense. */
export function assertHeadersOptions(
  { style = 'both', draft = 10, now }: RateLimitHeadersOptions,
  prefix = '',
): void {
  if (style !== 'both' && style !== 'ietf' && style !== 'legacy')
    throw new TypeError(`${prefix}style: expected 'legacy', 'ietf' or 'both'`);
  if (draft !== 10) throw new TypeError(`${prefix}draft: expected 10`);
  assertFunction(`${prefix}now`, now);
}

/** Draft-10 §3: a List of Strings with parameters; names are safe inside quotes by construction. */
function policyItem({ name, limit, windowSeconds, concurrent }: PolicyStatus): string {
  return concurrent
    ? `"${name}";q=${limit};qu="concurrent-requests"`
    : `"${name}";q=${limit};w=${windowSeconds}`;
}

function statusItem(policy: PolicyStatus, decision: Decision): string {
  return `"${policy.name}";r=${policy.remaining};t=${seconds(resetOf(policy, decision))}`;
}

/** The moment to come back at is the same in every field (draft-10 §5): that of `Retry-After` for who was refused. */
function resetOf({ resetMs, retryAfterMs }: PolicyStatus, decision: Decision): number {
  if (!comesBack(decision)) return resetMs;
  const { policies, retryAfterMs: wholeMs } = decision;
  // No limit asks for so long: the subject is paused as a whole.
  const paused = policies.every((policy) => policy.retryAfterMs < wholeMs);
  return paused ? wholeMs : retryAfterMs || resetMs;
}

/** It was refused, and waiting helps. */
function comesBack({ allowed, retryAfterMs }: Decision): boolean {
  return !allowed && Number.isFinite(retryAfterMs);
}

function seconds(ms: number): number {
  return Math.ceil(ms / 1000);
}
