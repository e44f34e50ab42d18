import { parseHttpDate } from './http-date.ts';

/** A value and the comma after it. The comma in a date comes after the name of a weekday. */
const VALUES = /(?:\s*(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)[a-z]*,)?[^,]+/g;

/**
 * Reads a `Retry-After` field value (RFC 9110 §10.2.3): delay-seconds, or an HTTP-date in any of its three forms.
 * The field has one value; where several were joined by commas, as proxies do with repeated fields (§5.3), the longest
 * wait counts, since it keeps them all.
 * @param nowMs - the wall clock, in milliseconds since the epoch.
 * @returns how long to wait from `nowMs`, in milliseconds: never negative (a moment in the past is 0), at most
 * `Number.MAX_SAFE_INTEGER`. `undefined` when the value is absent or is neither: fractions, signs, words.
 */
export function parseRetryAfter(
  value: string | null | undefined,
  nowMs: number,
): number | undefined {
  let longest: number | undefined;
  for (const [text] of value?.matchAll(VALUES) ?? []) {
    const waitMs = parseOne(text.trim(), nowMs);
    if (waitMs !== undefined) longest = Math.max(longest ?? 0, waitMs);
  }
  return longest;
}

function parseOne(text: string, nowMs: number): number | undefined {
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, Number.MAX_SAFE_INTEGER);
  const dateMs = parseHttpDate(text, nowMs);
  return dateMs === undefined ? undefined : Math.max(0, dateMs - nowMs);
}
