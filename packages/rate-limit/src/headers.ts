import { assertKnown, type OptionNames } from '@countersign/options';
import type { Decision } from './decision.ts';
import { assertFunction } from './options.ts';
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

const optionNames: OptionNames<RateLimitHeadersOptions> = { style: true, draft: true, now: true };

/**
 * The header fields that tell a client where it stands. Adds `Retry-After` (RFC 9110 §10.2.3) when it was refused and waiting
 * helps; rounded up, so never earlier than the truth.
 */
export function rateLimitHeaders(
  decision: Decision,
  options: RateLimitHeadersOptions = {},
): HeaderLine[] {
  assertHeadersOptions(options);
  return headerLines(decision, options);
}

/** The same, with options that were found good before. */
export function headerLines(
  decision: Decision,
  { style = 'both', now = Date.now }: RateLimitHeadersOptions,
): HeaderLine[] {
  const lines: HeaderLine[] = [];
  const known = decision.policies.length > 0;
  if (known && style !== 'ietf') {
    const { limit, remaining, resetMs, retryAfterMs } = shownOf(decision);
    const untilMs = comesBack(decision) ? retryAfterMs : resetMs;
    lines.push(
      ['x-ratelimit-limit', String(limit)],
      ['x-ratelimit-remaining', String(remaining)],
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
export function assertHeadersOptions(options: RateLimitHeadersOptions, prefix = ''): void {
  assertKnown(options, optionNames, prefix);
  const { style = 'both', draft = 10, now } = options;
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
  const resetMs = resetOf(policy, decision);
  const left = `"${policy.name}";r=${policy.remaining}`;
  return resetMs === undefined ? left : `${left};t=${seconds(resetMs)}`;
}

/** What is told where there is room for one limit: to who may go on, one that counts, as a slot that is taken keeps nobody waiting. */
function shownOf(
  decision: Decision,
): Pick<Decision, 'limit' | 'remaining' | 'resetMs' | 'retryAfterMs'> {
  const { allowed, policies } = decision;
  const counted = policies.filter(({ concurrent }) => !concurrent);
  if (!allowed || counted.length === 0 || counted.length === policies.length) return decision;
  return counted.reduce((least, other) => (other.remaining < least.remaining ? other : least));
}

/** The moment to come back at is the same in every field (draft-10 §5): that of `Retry-After` for who was refused. */
function resetOf(
  { concurrent, resetMs, retryAfterMs }: PolicyStatus,
  decision: Decision,
): number | undefined {
  // Slots are given back by the ends of responses, not by time.
  const ownMs = concurrent ? undefined : resetMs;
  if (!comesBack(decision)) return ownMs;
  const { policies, retryAfterMs: wholeMs } = decision;
  // No limit asks for so long: the subject is paused as a whole.
  const paused = policies.every((policy) => policy.retryAfterMs < wholeMs);
  return paused ? wholeMs : retryAfterMs || ownMs;
}

/** It was refused, and waiting helps. */
function comesBack({ allowed, retryAfterMs }: Decision): boolean {
  return !allowed && Number.isFinite(retryAfterMs);
}

function seconds(ms: number): number {
  return Math.ceil(ms / 1000);
}
