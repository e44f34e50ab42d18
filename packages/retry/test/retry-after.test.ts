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
    ['1, 30', 30_000],
    ['30,1', 30_000],
    ['1, soon', 1000],
    [' , 5 ,', 5000],
    ['5, Mon, 23 Nov 2026 12:00:30 GMT', 30_000],
    ['Monday, 23-Nov-26 12:00:30 GMT, 60', 60_000],
    ['Mon, 23 Nov 2026 12:00:30 GMT, Mon, 23 Nov 2026 12:02:00 GMT', 120_000],
    ['Mon Nov 23 12:00:30 2026, 7', 30_000],
  ])('of several values that a proxy has joined the longest counts: %j', (value, expected) => {
    expect(parseRetryAfter(value, NOW)).toBe(expected);
  });

  test('joined in any order, it is the longest of those that can be read', () => {
    const value = fc.oneof(
      fc.nat({ max: 10_000 }).map(String),
      fc.integer({ min: 0, max: 4e9 }).map((seconds) => new Date(seconds * 1000).toUTCString()),
      fc.constantFrom('soon', '-1', '1.5', ''),
    );
    fc.assert(
      fc.property(fc.array(value, { minLength: 1, maxLength: 5 }), (values) => {
        const waits = values.map((each) => parseRetryAfter(each, NOW));
        const known = waits.filter((wait) => wait !== undefined);
        const longest = known.length === 0 ? undefined : Math.max(...known);
        expect(parseRetryAfter(values.join(', '), NOW)).toBe(longest);
      }),
    );
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
    'soon, later',
    'Mon, soon',
    ',',
    ' , ,',
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
