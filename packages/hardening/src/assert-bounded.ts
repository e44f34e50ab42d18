import type * as z from 'zod';
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

/** Formats that zod checks without a regular expression, or with one of its own that reads each character once. */
const harmlessFormats = ['starts_with', 'ends_with', 'includes', 'lowercase', 'uppercase'];

/**
 * Walks a schema when the service starts and names each part without a bound: strings without a maximum length, numbers without both ends, lists without a
 * maximum, objects that take any key, and schemas that take anything; each coercion (`z.coerce.number()` turns `''` and `null` into 0); and each regular
 * expression that runs before the length is known to be bounded (`.max(n, { abort: true })`, `text()`), or that could take longer than 5 ms within it.
 * What a transformation or a refinement of your own does is not seen. A part that occurs in several places is named once.
 * @throws TypeError that names them all, at most 50.
 */
export function assertBounded(schema: z.core.$ZodType): void {
  if (schema?._zod === undefined) throw new TypeError('expected a schema of zod 4');
  const findings: Finding[] = [];
  walk(schema, { path: '#', level: 0, maxLength: undefined, isPiped: false }, findings, new Set());
  if (findings.length === 0) return;
  const lines = findings.slice(0, MAX_NAMED).map(({ path, problem }) => `  ${path}: ${problem}`);
  const rest = findings.length - lines.length;
  if (rest > 0) lines.push(`  and ${rest} more`);
  throw new TypeError(`the schema is not bounded:\n${lines.join('\n')}`);
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

/** Reports what is wrong below, and returns the maximum length that what comes out is known to have. */
function walk(
  schema: z.core.$ZodType,
  place: Place,
  findings: Finding[],
  seen: Set<z.core.$ZodType>,
): number | true | undefined {
  const report = (problem: string): void => {
    findings.push({ path: place.path, problem });
  };
  const inside = (part: z.core.$ZodType, segment: string, isPiped = false): void => {
    const below = { path: `${place.path}/${segment}`, level: place.level + 1 };
    walk(part, { ...below, maxLength: undefined, isPiped }, findings, seen);
  };
  const same = (part: z.core.$ZodType, change: Partial<Place> = {}): number | true | undefined =>
    walk(part, { ...place, level: place.level + 1, ...change }, findings, seen);

  if (place.level > MAX_LEVELS) {
    report('schema without end');
    return undefined;
  }
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if ('coerce' in def && def.coerce === true) report('coerces what is of another type');
  switch (def.type) {
    case 'string':
      return walkString(schema as z.core.$ZodString, place, report);
    case 'template_literal':
      if (place.maxLength === undefined) report(unmeasured('a template'));
      return true;
    case 'number':
    case 'bigint':
      if (!hasBothEnds(checksOf(schema))) report(`${def.type} without a minimum and a maximum`);
      return true;
    case 'any':
    case 'unknown':
    case 'custom':
      if (!place.isPiped && !hasMaximum(checksOf(schema))) report('takes anything');
      return undefined;
    case 'array':
      if (!hasMaximum(leadingSizes(checksOf(schema))) && place.maxLength === undefined) {
        report(
          hasMaximum(checksOf(schema))
            ? 'list whose items are looked at before they are counted: put .max(n) before other checks'
            : 'list without a maximum length',
        );
      }
      once(schema, seen, () => inside(def.element, '[]', place.isPiped));
      return true;
    case 'tuple':
      if (def.rest && place.maxLength === undefined) report('list without a maximum length');
      for (const [index, item] of def.items.entries()) inside(item, String(index));
      if (def.rest) inside(def.rest, '[]');
      return true;
    case 'object':
      if (def.catchall && kindOf(def.catchall) !== 'never') report('takes keys of any name');
      once(schema, seen, () => {
        for (const [name, part] of Object.entries(def.shape)) inside(part, name, place.isPiped);
      });
      return true;
    case 'record':
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
      once(schema, seen, () => same(def.getter()));
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

function walkString(
  schema: z.core.$ZodString,
  place: Place,
  report: (problem: string) => void,
): number | undefined {
  // The own format of `z.email()` and its like is the first check of all.
  const format = 'format' in schema._zod.def ? [schema._zod.def as unknown as Check] : [];
  const before = place.maxLength === true ? Number.POSITIVE_INFINITY : place.maxLength;
  let measured = before ?? Number.POSITIVE_INFINITY;
  let shortest = measured;
  for (const check of [...format, ...checksOf(schema)]) {
    const maximum = maximumOf(check);
    if (maximum !== undefined) shortest = Math.min(shortest, maximum);
    if (maximum !== undefined && check.abort === true) measured = Math.min(measured, maximum);
    if (check.check === 'string_format' && !harmlessFormats.includes(check.format ?? '')) {
      checkPattern(check, measured, report);
    }
  }
  if (shortest === Number.POSITIVE_INFINITY) report('string without a maximum length');
  return shortest === Number.POSITIVE_INFINITY ? undefined : shortest;
}

function checkPattern(check: Check, measured: number, report: (problem: string) => void): void {
  const name = check.format === 'regex' ? String(check.pattern) : `the format ${check.format}`;
  if (measured === Number.POSITIVE_INFINITY) {
    report(unmeasured(name));
  } else if (
    check.format === 'regex' &&
    check.pattern &&
    patternSteps(check.pattern, measured) > MAX_PATTERN_STEPS
  ) {
    report(`${name} may take too long on ${measured} characters`);
  }
}

function unmeasured(pattern: string): string {
  return `${pattern} runs before the length is checked: put .max(n, { abort: true }) or text({ max: n }) before it`;
}

/** What is read of zod's checks. */
interface Check {
  readonly check: string;
  readonly abort?: boolean;
  readonly format?: string;
  readonly pattern?: RegExp;
  readonly maximum?: number;
  readonly length?: number;
  readonly size?: number;
  readonly value?: number | bigint;
}

function checksOf(schema: z.core.$ZodType): readonly Check[] {
  const { def } = schema._zod;
  const own = 'check' in def ? [def as unknown as Check] : [];
  return [...own, ...(def.checks ?? []).map((check) => check._zod.def as unknown as Check)];
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

/** A schema that contains itself is entered once. */
function once(schema: z.core.$ZodType, seen: Set<z.core.$ZodType>, enter: () => void): void {
  if (seen.has(schema)) return;
  seen.add(schema);
  enter();
}
