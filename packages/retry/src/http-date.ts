const MONTHS = ['Jan', 'Feb', 'Mar', 'Apr', 'May', 'Jun', 'Jul', 'Aug', 'Sep', 'Oct', 'Nov', 'Dec'];
const DAY = '(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun)';
const LONG_DAY = '(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)';
const MONTH = `(?<month>${MONTHS.join('|')})`;
const TIME = '(?<hour>[01]\\d|2[0-3]):(?<minute>[0-5]\\d):(?<second>[0-5]\\d|60)';

const IMF_FIXDATE = new RegExp(`^${DAY}, (?<day>\\d{2}) ${MONTH} (?<year>\\d{4}) ${TIME} GMT$`);
const RFC850_DATE = new RegExp(
  `^${LONG_DAY}, (?<day>\\d{2})-${MONTH}-(?<year>\\d{2}) ${TIME} GMT$`,
);
const ASCTIME_DATE = new RegExp(`^${DAY} ${MONTH} (?<day>[ \\d]\\d) ${TIME} (?<year>\\d{4})$`);

interface Fields {
  readonly month: number;
  readonly day: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
}

/**
 * Parses an HTTP-date in any of its three forms (RFC 9110 §5.6.7), to milliseconds since the epoch.
 * Anything else, days that do not exist included, is `undefined`: `Date.parse` would accept far more.
 * The name of the weekday must be one, but need not be the right one.
 * @param nowMs - decides the century of a two-digit year: the latest that is not more than 50 years ahead.
 */
export function parseHttpDate(value: string, nowMs: number): number | undefined {
  const rfc850 = RFC850_DATE.exec(value)?.groups;
  if (rfc850) return withCentury(Number(rfc850['year']), fieldsOf(rfc850), nowMs);
  const groups = (IMF_FIXDATE.exec(value) ?? ASCTIME_DATE.exec(value))?.groups;
  return groups && utc(Number(groups['year']), fieldsOf(groups));
}

function fieldsOf(groups: Readonly<Record<string, string>>): Fields {
  return {
    month: MONTHS.indexOf(groups['month'] ?? ''),
    day: Number(groups['day']),
    hour: Number(groups['hour']),
    minute: Number(groups['minute']),
    second: Number(groups['second']),
  };
}

function withCentury(twoDigits: number, fields: Fields, nowMs: number): number | undefined {
  const now = new Date(nowMs);
  const limitMs = new Date(nowMs).setUTCFullYear(now.getUTCFullYear() + 50);
  let year = Math.floor(now.getUTCFullYear() / 100) * 100 + 100 + twoDigits;
  while (rolledOver(year, fields) > limitMs) year -= 100;
  return utc(year, fields);
}

function utc(year: number, fields: Fields): number | undefined {
  const { month, day } = fields;
  // The day after the 31st of April is the 1st of May: a date that moved its own day does not exist.
  const midnight = new Date(rolledOver(year, { month, day, hour: 0, minute: 0, second: 0 }));
  return midnight.getUTCDate() === day ? rolledOver(year, fields) : undefined;
}

function rolledOver(year: number, fields: Fields): number {
  const date = new Date(0);
  // Date.UTC would take the years 0 to 99 for 1900 to 1999.
  date.setUTCFullYear(year, fields.month, fields.day);
  return date.setUTCHours(fields.hour, fields.minute, fields.second);
}
