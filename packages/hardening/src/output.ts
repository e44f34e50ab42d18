import * as z from 'zod';
import { type FieldError, HardeningError } from './errors.ts';
import { encoded, outputFields } from './output-fields.ts';

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

/** How many places an error names. */
const maxErrors = 10;

/**
 * Parses, then serialises: what the schema does not declare never leaves, at any level (OWASP API3:2023). The schema is compiled once
 * (`z.compile`); where the process forbids code generation zod interprets it instead, with the same results.
 * @throws TypeError when the schema lets through what it does not describe (`any`, `unknown`, a loose object, a `transform` that no schema
 * follows …) or what JSON cannot say (`bigint`, `map` …).
 */
export function output<Schema extends z.ZodType>(schema: Schema): Output<z.input<Schema>> {
  const { names, pointers } = outputFields(schema);
  const compiled = z.compile(schema);
  return {
    fields: pointers,
    stringify(value) {
      try {
        const parsed = compiled.safeParse(value);
        if (parsed.success) return JSON.stringify(parsed.data);
        throw mismatch(errorsOf(parsed.error.issues, names));
      } catch (error) {
        // A getter that threw, a cycle, or nesting deeper than the stack.
        throw error instanceof HardeningError ? error : mismatch([], error);
      }
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

/** zod's own messages are left out: a schema's author may have put anything into them. */
function errorsOf(
  issues: readonly z.core.$ZodIssue[],
  names: ReadonlySet<PropertyKey>,
): readonly FieldError[] {
  return issues.slice(0, maxErrors).map(({ path, code }) => ({
    pointer: pointerOf(path, names),
    code,
    detail: 'This is not what the output schema declares.',
  }));
}

/** A key that no schema declares is data (a record may be keyed by anything), and data is not told. */
function pointerOf(path: readonly PropertyKey[], names: ReadonlySet<PropertyKey>): string {
  const parts = path.map((part) =>
    typeof part === 'number' || names.has(part) ? encoded(String(part)) : '*',
  );
  return ['#', ...parts].join('/').slice(0, 200);
}
