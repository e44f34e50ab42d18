import * as z from 'zod';
import { assertBounded } from './assert-bounded.ts';
import { type FieldError, HardeningError } from './errors.ts';
import { publish } from './events.ts';
import { fieldErrors } from './field-error.ts';
import {
  type Bounds,
  type InputBounds,
  inputBounds,
  malformed,
  measureValue,
  parseJson,
  tooManyKeys,
} from './json.ts';
import { assertKnown } from './options.ts';
import { strict } from './strict.ts';

/** What `input` takes. */
export interface InputOptions extends InputBounds {
  /** Characters of each value of a query. Default 500. */
  readonly maxQueryText?: number;
}

/** What a service takes in: a schema and the bounds around it. */
export interface Input<Schema extends z.ZodType = z.ZodType> {
  /** The schema in force: a copy of the one given, in which every object refuses the keys it does not name. */
  readonly schema: Schema;
  /** The bounds in force, in bytes, levels and names. */
  readonly bounds: Required<InputBounds>;
  /**
   * Reads JSON: measures it, parses it, validates it. A refinement or transformation of yours that throws has refused it: what it threw is reported
   * on `countersign:hardening:input-check-failed` and in no error.
   * @throws HardeningError `ERR_HARDENING_INPUT_…`, with `errors` where fields were refused.
   */
  parse(body: Uint8Array | string): z.output<Schema>;
  /**
   * The same for a value that somebody else has parsed.
   * @throws HardeningError as `parse`.
   */
  check(value: unknown): z.output<Schema>;
  /**
   * The same for schemas that have to wait, such as `upload({ scan })`; the others throw a TypeError on them.
   * @throws HardeningError as `parse`; and whatever a check throws, because who has to be waited for may be out of reach.
   */
  checkAsync(value: unknown): Promise<z.output<Schema>>;
  /**
   * The same for a query: a parameter is a text, or a list of texts where the schema has a list. One that is given twice and is no list is refused.
   * @throws HardeningError as `parse`. TypeError when the schema is no object.
   */
  parseQuery(query: URLSearchParams): z.output<Schema>;
}

const known: readonly string[] = [
  'maxBytes',
  'maxDepth',
  'maxKeys',
  'maxQueryText',
] satisfies readonly (keyof InputOptions)[];

/**
 * What a service takes in. The JSON text is measured before it is parsed and parsed before zod sees it; unknown keys are refused at every level.
 * Refusals name fields and rules, never values, at most ten of at most 200 characters each.
 * @throws TypeError for a schema that is not bounded (`assertBounded`), and for bounds that are none.
 */
export function input<Schema extends z.ZodType>(
  schema: Schema,
  options: InputOptions = {},
): Input<Schema> {
  assertKnown('input', options, known);
  const bounds = inputBounds(options);
  const { maxQueryText = 500 } = options;
  if (!Number.isSafeInteger(maxQueryText) || maxQueryText < 1) {
    throw new TypeError('input: maxQueryText must be an integer of 1 or more');
  }
  assertBounded(schema);
  const strictSchema = strict(schema);
  const validated = (value: unknown): z.output<Schema> => validate(strictSchema, value);
  return {
    schema: strictSchema,
    bounds,
    parse: (body) => reporting(() => validated(parseJson(body, bounds))),
    check: (value) =>
      reporting(() => {
        measureValue(value, bounds);
        return validated(value);
      }),
    checkAsync: async (value) => {
      reporting(() => measureValue(value, bounds));
      const result = await strictSchema.safeParseAsync(value);
      return reporting(() => accepted(result));
    },
    parseQuery: (query) =>
      reporting(() => validated(queryValue(query, strictSchema, bounds, maxQueryText))),
  };
}

function validate<Schema extends z.ZodType>(schema: Schema, value: unknown): z.output<Schema> {
  return accepted(checked(schema, value));
}

function checked<Schema extends z.ZodType>(
  schema: Schema,
  value: unknown,
): z.ZodSafeParseResult<z.output<Schema>> {
  try {
    return schema.safeParse(value);
  } catch (error) {
    if (!(error instanceof z.core.$ZodAsyncError)) throw error;
    throw new TypeError('the schema has to wait for something: use checkAsync', { cause: error });
  }
}

function accepted<Value>(result: z.ZodSafeParseResult<Value>): Value {
  if (result.success) return result.data;
  throw invalid(fieldErrors(issuesOf(result)));
}

/** zod makes the messages when it is asked for the issues, and what makes one of yours may throw as well. */
function issuesOf(result: { readonly error: z.ZodError }): readonly z.core.$ZodIssue[] {
  try {
    return result.error.issues;
  } catch (error) {
    publish('input-check-failed', () => ({ error }));
    return [{ code: 'custom', params: { code: 'check_failed' }, path: [], message: '' }];
  }
}

function invalid(errors: readonly FieldError[]): HardeningError {
  return new HardeningError('ERR_HARDENING_INPUT_INVALID', 'The input is not what it must be.', {
    errors,
  });
}

function reporting<Value>(read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (error instanceof HardeningError) {
      const { code, errors } = error;
      publish('input-refused', () => ({ code, errors }));
    }
    throw error;
  }
}

function queryValue(
  query: URLSearchParams,
  schema: z.ZodType,
  bounds: Bounds,
  maxQueryText: number,
): Readonly<Record<string, unknown>> {
  if (query.size > bounds.maxKeys) throw tooManyKeys(bounds);
  const values = new Map<string, string[]>();
  for (const [name, value] of query) {
    if (name === '__proto__') throw malformed('A name in the input is not allowed.');
    if (value.length > maxQueryText) {
      throw invalid(fieldErrors([overlong(name, maxQueryText)]));
    }
    const all = values.get(name);
    if (all) all.push(value);
    else values.set(name, [value]);
  }
  const shape = queryShape(schema);
  const repeated = [...values].filter(([name, all]) => all.length > 1 && !isList(shape.get(name)));
  if (repeated.length > 0) throw invalid(fieldErrors(repeated.map(([name]) => duplicate(name))));
  return Object.fromEntries(
    [...values].map(([name, all]) => [name, isList(shape.get(name)) ? all : all[0]]),
  );
}

function overlong(name: string, maximum: number): z.core.$ZodIssue {
  return { code: 'too_big', origin: 'string', maximum, path: [name], message: '' };
}

function duplicate(name: string): z.core.$ZodIssue {
  return { code: 'custom', params: { code: 'duplicate' }, path: [name], message: '' };
}

/** By name: in an object, names such as `constructor` would be found that nobody put there. */
type Shape = ReadonlyMap<string, z.core.$ZodType>;

/**
 * The parameters that a schema knows.
 * @throws TypeError when it is none of an object.
 */
export function queryShape(schema: z.core.$ZodType): Shape {
  const core = unwrapped(schema);
  if (core._zod.def.type !== 'object') {
    throw new TypeError('input: a query needs a schema of an object');
  }
  return new Map(Object.entries(core._zod.def.shape));
}

function isList(schema: z.core.$ZodType | undefined): boolean {
  return schema !== undefined && ['array', 'tuple'].includes(unwrapped(schema)._zod.def.type);
}

/** The schema that says what kind of value is sent. */
function unwrapped(schema: z.core.$ZodType): z.core.$ZodTypes {
  const { def } = (schema as z.core.$ZodTypes)._zod;
  if ('innerType' in def) return unwrapped(def.innerType);
  if (def.type !== 'pipe') return schema as z.core.$ZodTypes;
  const isPrepared = (def.in as z.core.$ZodTypes)._zod.def.type === 'transform';
  return unwrapped(isPrepared ? def.out : def.in);
}
