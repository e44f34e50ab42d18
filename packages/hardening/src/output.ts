import type * as z from 'zod';
import { compiled } from './compiled.ts';
import { type FieldError, HardeningError } from './errors.ts';
import { fieldErrors } from './field-error.ts';
import { outputFields } from './output-fields.ts';

/** Writes what a schema declares, and nothing else. */
export interface Output<Value> {
  /**
   * The JSON of `value`; `undefined` where the schema makes `undefined` of it.
   * @throws HardeningError `ERR_HARDENING_OUTPUT_MISMATCH` when the value is not what the schema says. It names places, never values.
   */
  stringify(value: Value): string | undefined;
  /** Everything that can leave, as JSON Pointers (RFC 6901 §6); `*` stands for an index of an array or a key of a record. */
  readonly fields: readonly string[];
}

/**
 * Parses, then serialises: what the schema does not declare never leaves, at any level (OWASP API3:2023). The schema is compiled once
 * (`z.compile`); where the process forbids code generation zod interprets it instead, with the same results.
 * @throws TypeError when the schema lets through what it does not describe (`any`, `unknown`, a loose object, a `transform` that no schema
 * follows …), what JSON cannot say (`bigint`, `map` …), or has an async function in it.
 */
export function output<Schema extends z.ZodType>(schema: Schema): Output<z.input<Schema>> {
  const { names, pointers } = outputFields(schema);
  const parser = compiled('output', schema);
  return {
    fields: pointers,
    stringify(value) {
      let issues: readonly z.core.$ZodIssue[];
      try {
        const parsed = parser.safeParse(value);
        if (parsed.success) return JSON.stringify(parsed.data);
        ({ issues } = parsed.error);
      } catch (error) {
        // A getter that threw, a cycle, nesting deeper than the stack.
        throw mismatch([], error);
      }
      throw mismatch(errorsOf(issues, names));
    },
  };
}

function mismatch(errors: readonly FieldError[], cause?: unknown): HardeningError {
  const places = errors.map(({ pointer, code }) => `${pointer} (${code})`).join(', ');
  return new HardeningError(
    'ERR_HARDENING_OUTPUT_MISMATCH',
    `the response is not what its schema says: ${places || 'it cannot be read'}`,
    { errors, cause },
  );
}

/** A key that no schema declares is data (a record may be keyed by anything), and data is not told: `*` stands for it. */
function errorsOf(
  issues: readonly z.core.$ZodIssue[],
  names: ReadonlySet<PropertyKey>,
): readonly FieldError[] {
  const told = (part: PropertyKey): PropertyKey =>
    typeof part === 'number' || names.has(part) ? part : '*';
  return fieldErrors(
    issues.map((issue) =>
      issue.code === 'unrecognized_keys'
        ? { ...issue, path: issue.path.map(told), keys: ['*'] }
        : { ...issue, path: issue.path.map(told) },
    ),
  );
}
