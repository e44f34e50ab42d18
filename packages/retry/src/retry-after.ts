import { parseHttpDate } from './http-date.ts';

/**
 * Reads a `Retry-After` field value (RFC 9110 §10.2.3): delay-seconds, or an HTTP-date in any of its three forms.
 * @param nowMs - the wall clock, in milliseconds since the epoch.
 * @returns how long to wait from `nowMs`, in milliseconds: never negative (a moment in the past is 0), at most
 * `Number.MAX_SAFE_INTEGER`. `undefined` when the value is absent or is neither: fractions, signs, several values.
 */
export function parseRetryAfter(
  value: string | null | undefined,
  nowMs: number,
): number | undefined {
  const text = value?.trim();
  if (!text) return undefined;
  if (/^\d+$/.test(text)) return Math.min(Number(text) * 1000, Number.MAX_SAFE_INTEGER);
  const dateMs = parseHttpDate(text, nowMs);
  return dateMs === undefined ? undefined : Math.max(0, dateMs - nowMs);
}
