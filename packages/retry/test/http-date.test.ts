import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parseHttpDate } from '../src/index.ts';

const NOW = Date.UTC(2026, 10, 23);
const EXAMPLE = Date.UTC(1994, 10, 6, 8, 49, 37);
const DAYS = ['Sun', 'Mon', 'Tue', 'Wed', 'Thu', 'Fri', 'Sat'];
const LONG_DAYS = [
  'Sunday',
  'Monday',
  'Tuesday',
  'Wednesday',
  'Thursday',
  'Friday',
  'Saturday',
] as const;

/** The three forms of one moment, written by other means than those that read them. */
function forms(ms: number): { imf: string; rfc850: string; asctime: string } {
  const date = new Date(ms);
  const imf = date.toUTCString();
  const [, day = '', month = '', year = '', time = ''] = imf.split(' ');
  const weekday = date.getUTCDay();
  return {
    imf,
    rfc850: `${LONG_DAYS[weekday]}, ${day}-${month}-${year.slice(-2)} ${time} GMT`,
    asctime: `${DAYS[weekday]} ${month} ${String(Number(day)).padStart(2)} ${time} ${year}`,
  };
}

const moment = fc
  .integer({ min: Date.UTC(1000, 0), max: Date.UTC(9999, 11, 31) })
  .map((ms) => Math.floor(ms / 1000) * 1000);

describe('parseHttpDate', () => {
  test.each([
    'Sun, 06 Nov 1994 08:49:37 GMT',
    'Sunday, 06-Nov-94 08:49:37 GMT',
    'Sun Nov  6 08:49:37 1994',
  ])('reads the example of the specification: %s', (text) => {
    expect(parseHttpDate(text, NOW)).toBe(EXAMPLE);
  });

  test('reads back every moment in the two forms with a full year', () => {
    fc.assert(
      fc.property(moment, (ms) => {
        const { imf, asctime } = forms(ms);
        expect(parseHttpDate(imf, NOW)).toBe(ms);
        expect(parseHttpDate(asctime, NOW)).toBe(ms);
      }),
    );
  });

  test('a two-digit year is the latest one that is not more than 50 years ahead', () => {
    const years = (ms: number, count: number) =>
      new Date(ms).setUTCFullYear(new Date(ms).getUTCFullYear() + count);
    fc.assert(
      fc.property(moment, fc.double({ min: -0.999, max: 0.999, noNaN: true }), (nowMs, share) => {
        const edge = share < 0 ? years(nowMs, -50) : years(nowMs, 50);
        const ms = Math.floor((nowMs + Math.abs(share) * (edge - nowMs)) / 1000) * 1000;
        fc.pre(!(new Date(ms).getUTCMonth() === 1 && new Date(ms).getUTCDate() === 29));
        expect(parseHttpDate(forms(ms).rfc850, nowMs)).toBe(ms);
      }),
    );
  });

  test.each([
    ['Monday, 23-Nov-76 00:00:00 GMT', 2076],
    ['Tuesday, 24-Nov-76 00:00:00 GMT', 1976],
    ['Saturday, 01-Jan-00 00:00:00 GMT', 2000],
    ['Saturday, 01-Jan-77 00:00:00 GMT', 1977],
  ])('in 2026, %s is in the year %i', (text, year) => {
    expect(new Date(parseHttpDate(text, NOW) ?? Number.NaN).getUTCFullYear()).toBe(year);
  });

  test('near the end of a century, low years are in the next one', () => {
    const ms = parseHttpDate('Saturday, 01-Jan-01 00:00:00 GMT', Date.UTC(2099, 5));
    expect(new Date(ms ?? Number.NaN).getUTCFullYear()).toBe(2101);
  });

  test('a leap second is the first second of the next minute', () => {
    expect(parseHttpDate('Sat, 31 Dec 2016 23:59:60 GMT', NOW)).toBe(Date.UTC(2017, 0));
  });

  test.each([
    'Sun, 31 Apr 2026 00:00:00 GMT',
    'Sun, 29 Feb 2025 00:00:00 GMT',
    'Sun, 00 Nov 1994 08:49:37 GMT',
    'Sun, 06 Nov 1994 24:00:00 GMT',
    'Sun, 06 Nov 1994 08:60:37 GMT',
    'Sun, 06 Nov 1994 08:49:61 GMT',
    'Sun, 06 Nov 1994 08:49:37 UTC',
    'Sun, 06 Nov 1994 08:49:37 +0000',
    'Sun, 06 Nov 1994 08:49:37 GMT ',
    'Sun, 6 Nov 1994 08:49:37 GMT',
    'Son, 06 Nov 1994 08:49:37 GMT',
    'sun, 06 nov 1994 08:49:37 gmt',
    'Sun, 06-Nov-94 08:49:37 GMT',
    'Sunday, 06-Nov-1994 08:49:37 GMT',
    'Sun Nov 6 08:49:37 1994',
    '1994-11-06T08:49:37Z',
    '784111777',
    '',
  ])('does not read %j', (text) => {
    expect(parseHttpDate(text, NOW)).toBeUndefined();
  });
});
