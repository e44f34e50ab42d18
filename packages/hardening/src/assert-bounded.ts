import * as z from 'zod';
import { MAX_PATTERN_STEPS, patternSteps } from './pattern.ts';

/** Deeper than anybody writes a schema; only one that makes a new schema at each level gets there. */
const MAX_LEVELS = 100;
const MAX_NAMED = 50;

/** A part of a schema that lets in more than it should. */
interface Finding {
  /** `#/items/[]/name`. */
  readonly path: string;
  readonly problem: string;
}

/** Formats that zod checks without running their pattern. */
const formatsWithoutPattern = ['starts_with', 'ends_with', 'includes'];
/** Formats whose pattern, where it is zod's own, reads each character once. */
const linearFormats = ['lowercase', 'uppercase'];

/** A character of a URL's host can become three bytes, each percent-encoded. */
const MAX_HOST_GROWTH = 9;

/** What `normalize('NFKC')` can make of one character, the most of all that zod changes a text with. */
const MAX_OVERWRITE_GROWTH = 18;

/**
 * Walks a schema when the service starts and names each part without a bound: strings without a maximum length, numbers without both ends, lists without a
 * maximum, objects that take any key, and schemas that take anything; each coercion (`z.coerce.number()` turns `''` and `null` into 0); and each regular
 * expression that runs before the length is known to be bounded (`.max(n, { abort: true })`, `text()`), or that could take longer than 5 ms within it; what
 * changes a text (`.normalize()`, `.toUpperCase()`) may make it 18 times as long. The expressions of zod's own formats are taken as they are; what a transformation or a refinement of your own does is not seen. A part that occurs in
 * several places is named once, and again where a pipe around it makes a difference.
 * @throws TypeError that names them all, at most 50.
 */
export function assertBounded(schema: z.core.$ZodType): void {
  if (schema?._zod === undefined) throw new TypeError('expected a schema of zod 4');
  const findings: Finding[] = [];
  walk(schema, { path: '#', level: 0, maxLength: undefined, isPiped: false }, findings, new Map());
  if (findings.length > 0) throw unbounded(findings);
}

function unbounded(findings: readonly Finding[]): TypeError {
  const lines = findings.slice(0, MAX_NAMED).map(({ path, problem }) => `  ${path}: ${problem}`);
  const rest = findings.length - lines.length;
  if (rest > 0) lines.push(`  and ${rest} more`);
  return new TypeError(`the schema is not bounded:\n${lines.join('\n')}`);
}

/** Where the walk is. */
interface Place {
  readonly path: string;
  readonly level: number;
  /** Of a text that an earlier schema in a pipe has measured; `true` for a value of another kind that has passed one. */
  readonly maxLength: number | true | undefined;
  /** Whether a later schema in a pipe says what is let in. */
  readonly isPiped: boolean;
}

type Report = (problem: string) => void;

/** Reports what is wrong below, and returns the maximum length that what comes out is known to have. */
function walk(
  schema: z.core.$ZodType,
  place: Place,
  findings: Finding[],
  seen: Seen,
): number | true | undefined {
  const report = (problem: string): void => {
    findings.push({ path: place.path, problem });
  };
  if (place.level > MAX_LEVELS) {
    report('schema without end');
    // Each of its branches would be as deep, and there may be more of them than can be counted.
    throw unbounded(findings);
  }
  const maxLength = walkKind(schema, place, findings, seen, report);
  // The checks of a text run in turn with those of its length; those of a union or an optional behind all that is inside.
  if (!measuresItself.has(kindOf(schema))) {
    for (const check of checksOf(schema)) {
      if (check.check === 'string_format') checkFormat(check, lengthOf({ maxLength }), report);
    }
  }
  return maxLength;
}

const measuresItself: ReadonlySet<string> = new Set(['string', 'template_literal']);

function walkKind(
  schema: z.core.$ZodType,
  place: Place,
  findings: Finding[],
  seen: Seen,
  report: Report,
): number | true | undefined {
  const inside = (part: z.core.$ZodType, segment: string, isPiped = false): void => {
    const below = { path: `${place.path}/${segment}`, level: place.level + 1 };
    walk(part, { ...below, maxLength: undefined, isPiped }, findings, seen);
  };
  const same = (part: z.core.$ZodType, change: Partial<Place> = {}): number | true | undefined =>
    walk(part, { ...place, level: place.level + 1, ...change }, findings, seen);

  const { def } = (schema as z.core.$ZodTypes)._zod;
  if ('coerce' in def && def.coerce === true) report('coerces what is of another type');
  switch (def.type) {
    case 'string':
      return walkString(schema as z.core.$ZodString, place, report);
    case 'template_literal':
      return walkTemplate(schema as z.core.$ZodTemplateLiteral, place, report);
    case 'number':
    case 'bigint':
      if (!hasBothEnds(checksOf(schema))) report(`${def.type} without a minimum and a maximum`);
      return true;
    case 'any':
    case 'unknown':
      if (!place.isPiped) report('takes anything');
      return undefined;
    case 'custom':
      if (!place.isPiped && !hasMaximum(checksOf(schema))) report('takes anything');
      return undefined;
    case 'transform':
      // In a wrapper: one that stands in a pipe by itself is the pipe's.
      if (place.maxLength !== undefined) return true;
      if (!place.isPiped) report('takes anything');
      return undefined;
    case 'array':
      if (!hasMaximum(leadingSizes(checksOf(schema))) && place.maxLength === undefined) {
        report(
          hasMaximum(checksOf(schema))
            ? 'list whose items are looked at before they are counted: put .max(n) before other checks'
            : 'list without a maximum length',
        );
      }
      once(schema, String(place.isPiped), seen, () => inside(def.element, '[]', place.isPiped));
      return true;
    case 'tuple':
      if (def.rest && place.maxLength === undefined) report('list without a maximum length');
      for (const [index, item] of def.items.entries()) inside(item, String(index));
      if (def.rest) inside(def.rest, '[]');
      return true;
    case 'object':
      if (def.catchall && kindOf(def.catchall) !== 'never') report('takes keys of any name');
      once(schema, String(place.isPiped), seen, () => {
        for (const [name, part] of Object.entries(def.shape)) inside(part, name, place.isPiped);
      });
      return true;
    case 'record':
      if (def.mode === 'loose') report('takes keys of any name');
      inside(def.keyType, '{key}');
      inside(def.valueType, '{}');
      return true;
    case 'map':
    case 'set':
    case 'file':
      if (!hasMaximum(checksOf(schema))) report(`${def.type} without a maximum size`);
      if (def.type === 'map') inside(def.keyType, '{key}');
      if (def.type !== 'file') inside(def.valueType, '{}');
      return true;
    case 'union':
      return longest(def.options.map((option) => same(option)));
    case 'intersection':
      same(def.left);
      same(def.right);
      return place.maxLength;
    case 'lazy':
      once(schema, `${place.isPiped} ${place.maxLength}`, seen, () => same(def.getter()));
      return place.maxLength;
    case 'pipe':
      return walkPipe(def, same);
    case 'optional':
    case 'nullable':
    case 'default':
    case 'prefault':
    case 'catch':
    case 'readonly':
    case 'nonoptional':
    case 'success':
      return same(def.innerType);
    case 'promise':
    case 'function':
    case 'symbol':
      report(`${def.type} cannot be sent`);
      return undefined;
    default:
      return undefined;
  }
}

function longest(lengths: readonly (number | true | undefined)[]): number | true | undefined {
  if (lengths.every((length) => typeof length === 'number')) return Math.max(...lengths);
  return lengths.includes(undefined) ? undefined : true;
}

/** What the second schema lets in has passed the first: it is as short as the first says. */
function walkPipe(
  def: z.core.$ZodPipeDef,
  same: (part: z.core.$ZodType, change?: Partial<Place>) => number | true | undefined,
): number | true | undefined {
  if (kindOf(def.in) === 'transform') return same(def.out);
  const maxLength = same(def.in, { isPiped: kindOf(def.out) !== 'transform' });
  if (kindOf(def.out) === 'transform') return true;
  return same(def.out, { maxLength, isPiped: false });
}

function walkString(schema: z.core.$ZodString, place: Place, report: Report): number | undefined {
  const before = lengthOf(place);
  let measured = before;
  let shortest = before;
  for (const check of checksOf(schema)) {
    const maximum = maximumOf(check);
    if (maximum !== undefined) shortest = Math.min(shortest, maximum);
    if (maximum !== undefined && check.abort === true) measured = Math.min(measured, maximum);
    if (check.check === 'overwrite') {
      measured *= MAX_OVERWRITE_GROWTH;
      shortest *= MAX_OVERWRITE_GROWTH;
    }
    if (check.check === 'string_format') checkFormat(check, measured, report);
  }
  if (shortest === Number.POSITIVE_INFINITY) report('string without a maximum length');
  return shortest === Number.POSITIVE_INFINITY ? undefined : shortest;
}

function walkTemplate(
  schema: z.core.$ZodTemplateLiteral,
  place: Place,
  report: Report,
): number | true {
  const measured = lengthOf(place);
  if (measured === Number.POSITIVE_INFINITY) report(unmeasured('a template'));
  else checkPattern(`the template ${schema._zod.pattern}`, schema._zod.pattern, measured, report);
  return place.maxLength ?? true;
}

function lengthOf({ maxLength }: Pick<Place, 'maxLength'>): number {
  return typeof maxLength === 'number' ? maxLength : Number.POSITIVE_INFINITY;
}

function checkFormat(check: Check, measured: number, report: Report): void {
  const { format = '', pattern, hostname, protocol } = check;
  const isOwn = isOfZod(check);
  if (check.fn === undefined && formatsWithoutPattern.includes(format)) return;
  if (check.fn === undefined && linearFormats.includes(format) && isOwn) return;
  const name = format === 'regex' ? String(pattern) : `the format ${format}`;
  if (measured === Number.POSITIVE_INFINITY) {
    report(unmeasured(name));
    return;
  }
  if (pattern && !isOwn) checkPattern(String(pattern), pattern, measured, report);
  if (hostname && !isKnown(hostname)) {
    checkPattern(`the hostname ${hostname}`, hostname, measured * MAX_HOST_GROWTH, report);
  }
  if (protocol && !isKnown(protocol)) {
    checkPattern(`the protocol ${protocol}`, protocol, measured, report);
  }
}

function checkPattern(name: string, pattern: RegExp, length: number, report: Report): void {
  if (patternSteps(pattern, length) <= MAX_PATTERN_STEPS) return;
  report(`${name} may take too long on ${length} characters`);
}

/** Whether zod would have chosen the same pattern for the format: those of dates and of UUIDs are made to measure. */
function isOfZod({ pattern, constr, def }: Check): boolean {
  if (pattern === undefined || isKnown(pattern)) return true;
  const plain = new constr({ ...def, pattern: undefined, checks: [] });
  return isSame((plain._zod.def as Partial<Check>).pattern, pattern);
}

function isKnown(pattern: RegExp): boolean {
  return Object.values(z.regexes).some((known) => isSame(known, pattern));
}

function isSame(one: unknown, other: RegExp): boolean {
  return one instanceof RegExp && one.source === other.source && one.flags === other.flags;
}

function unmeasured(pattern: string): string {
  return `${pattern} runs before the length is checked: put .max(n, { abort: true }) or text({ max: n }) before it`;
}

/** What is read of zod's checks. */
interface Check extends CheckDef {
  readonly def: CheckDef;
  /** Makes a check of the same kind. */
  readonly constr: new (
    def: object,
  ) => z.core.$ZodType;
}

interface CheckDef {
  readonly check: string;
  readonly abort?: boolean;
  readonly format?: string;
  readonly pattern?: RegExp;
  /** Of a format of the user's own. */
  readonly fn?: unknown;
  readonly hostname?: RegExp;
  readonly protocol?: RegExp;
  readonly maximum?: number;
  readonly length?: number;
  readonly size?: number;
  readonly value?: number | bigint;
}

function checksOf(schema: z.core.$ZodType): readonly Check[] {
  const { def } = schema._zod;
  // The own format of `z.email()` and its like is the first check of all.
  const own = 'check' in def ? [schema] : [];
  return [...own, ...(def.checks ?? [])].map((check) => {
    const internals = check._zod as unknown as Pick<Check, 'def' | 'constr'>;
    return { ...internals.def, def: internals.def, constr: internals.constr };
  });
}

function maximumOf({ check, maximum, length, size }: Check): number | undefined {
  switch (check) {
    case 'max_length':
    case 'max_size':
      return maximum;
    case 'length_equals':
      return length;
    case 'size_equals':
      return size;
    default:
      return undefined;
  }
}

/** zod counts a list first only by the checks of its size that come before any other. */
function leadingSizes(checks: readonly Check[]): readonly Check[] {
  const other = checks.findIndex(({ check }) => !/_(?:length|size|equals)$/.test(check));
  return other === -1 ? checks : checks.slice(0, other);
}

function hasMaximum(checks: readonly Check[]): boolean {
  return checks.some((check) => Number.isFinite(maximumOf(check)));
}

function hasBothEnds(checks: readonly Check[]): boolean {
  // `z.int()` alone has the ends of what a double can hold, which bounds nothing.
  const isRanged = checks.some(({ format }) => /^u?int(?:32|64)$/.test(format ?? ''));
  const has = (end: string): boolean =>
    checks.some(({ check, value }) => check === end && isFiniteEnd(value));
  return isRanged || (has('greater_than') && has('less_than'));
}

function isFiniteEnd(value: number | bigint | undefined): boolean {
  return typeof value === 'bigint' || Number.isFinite(value);
}

function kindOf(schema: z.core.$ZodType): string {
  return (schema as z.core.$ZodTypes)._zod.def.type;
}

/** The schemas that were entered, each with what decided about what is in it. */
type Seen = Map<z.core.$ZodType, Set<string>>;

/** A schema that contains itself is entered once for each thing that may be known of the value. */
function once(schema: z.core.$ZodType, known: string, seen: Seen, enter: () => void): void {
  const entered = seen.get(schema) ?? new Set();
  if (entered.has(known)) return;
  seen.set(schema, entered.add(known));
  enter();
}
