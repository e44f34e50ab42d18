import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseRetryAfter } from '../src/index.ts';

const NOW = Date.UTC(2026, 10, 23, 12);

describe('parseRetryAfter', () => {
  test.each([
    ['0', 0],
    ['120', 120_000],
    ['007', 7000],
    [' \t5 ', 5000],
    ['9'.repeat(400), Number.MAX_SAFE_INTEGER],
    ['Mon, 23 Nov 2026 12:00:30 GMT', 30_000],
    ['Monday, 23-Nov-26 12:00:30 GMT', 30_000],
    ['Mon Nov 23 12:00:30 2026', 30_000],
    ['Mon, 23 Nov 2026 11:59:59 GMT', 0],
  ])('%j is %i ms from now', (value, expected) => {
    expect(parseRetryAfter(value, NOW)).toBe(expected);
  });

  test.each([
    undefined,
    null,
    '',
    ' ',
    '-1',
    '+1',
    '1.5',
    '1e3',
    '0x10',
    '١٢',
    '1, 2',
    'soon',
    'NaN',
    'Infinity',
    '2026-11-23T12:00:30Z',
  ])('%j is not a Retry-After', (value) => {
    expect(parseRetryAfter(value, NOW)).toBeUndefined();
  });

  test('whatever it is given, it answers undefined or a wait that is finite and not negative', () => {
    const text = fc.oneof(
      fc.string({ unit: 'binary' }),
      fc.date({ noInvalidDate: true }).map((date) => date.toUTCString()),
      fc.stringMatching(/^[-+ ]?\d{0,400}(\.\d*)?$/),
    );
    fc.assert(
      fc.property(text, fc.integer({ min: 0, max: 8.64e15 }), (value, nowMs) => {
        const waitMs = parseRetryAfter(value, nowMs);
        expect(waitMs === undefined || (Number.isFinite(waitMs) && waitMs >= 0)).toBe(true);
      }),
    );
  });

  test('a date is never waited for short of its moment', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 4e12 }), fc.integer({ min: 0, max: 4e12 }), (a, b) => {
        const dateMs = Math.floor(a / 1000) * 1000;
        const waitMs = parseRetryAfter(new Date(dateMs).toUTCString(), b);
        expect(waitMs).toBe(Math.max(0, dateMs - b));
      }),
    );
  });
});
