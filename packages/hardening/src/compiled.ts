import * as z from 'zod';

/**
 * A schema as zod compiles it; one that zod cannot compile it interprets, with the same results.
 * @param what - whose schema it is, for the error.
 * @throws TypeError for a schema with an async function in it where nobody waits for it. Which ones are is seen by how they are written: one that is
 * handed to `superRefine`, stands in a schema that contains itself, or returns a promise without being async is found out by the first value.
 */
export function compiled<Schema extends z.ZodType>(what: string, schema: Schema): Schema {
  try {
    return z.compile(schema, { strict: true });
  } catch (error) {
    if (!(error instanceof z.ZodCompileAsyncError)) return schema;
    throw new TypeError(`${what}: the schema has an async function, which is not waited for`, {
      cause: error,
    });
  }
}
