import * as z from 'zod';
import { publish } from './events.ts';
import { assertKnown } from './options.ts';

/** What `writable` takes besides the fields. */
export interface WritableOptions {
  /** What becomes of a request that sets other fields of the schema. Default `refuse`. Either is reported. */
  readonly privileged?: 'refuse' | 'ignore';
}

/** The writable part of an object. */
export type Writable<
  Shape extends z.core.$ZodShape,
  Field extends keyof Shape & string,
> = z.ZodPipe<z.ZodTransform<unknown, unknown>, z.ZodObject<Pick<Shape, Field>, z.core.$strict>>;

/**
 * The part of an object that its users may set. All else that the schema has (`role`, `balance`) is privileged: refused or ignored, never taken, and
 * reported on `countersign:hardening:privileged-fields`. What the schema does not have is refused as unknown. For changes, give it `schema.partial()`.
 * @throws TypeError for fields that the schema does not have, for none at all, and for refinements of the whole object, which could not hold for a part:
 * put them on what `writable` returns.
 */
export function writable<Shape extends z.core.$ZodShape, const Field extends keyof Shape & string>(
  schema: z.ZodObject<Shape>,
  fields: readonly Field[],
  options: WritableOptions = {},
): Writable<Shape, Field> {
  assertKnown('writable', options, ['privileged']);
  const { privileged = 'refuse' } = options;
  if (schema?._zod?.def?.type !== 'object') {
    throw new TypeError('writable: the schema must be an object');
  }
  if ((schema._zod.def.checks ?? []).length > 0) {
    throw new TypeError('writable: put refinements of the whole object on what writable returns');
  }
  if (fields.length === 0) throw new TypeError('writable: name at least one field');
  if (privileged !== 'refuse' && privileged !== 'ignore') {
    throw new TypeError('writable: privileged must be "refuse" or "ignore"');
  }
  for (const field of fields) {
    if (!Object.hasOwn(schema.shape, field)) {
      throw new TypeError(`writable: the schema has no field "${field}"`);
    }
  }
  const isWritable = new Set<string>(fields);
  const others = Object.keys(schema.shape).filter((name) => !isWritable.has(name));
  const part = Object.fromEntries(fields.map((field) => [field, schema.shape[field]]));
  const gate = z.transform<unknown, unknown>((value, context) => {
    const found = isRecord(value) ? others.filter((name) => Object.hasOwn(value, name)) : [];
    if (found.length === 0 || !isRecord(value)) return value;
    const action = privileged === 'refuse' ? 'refused' : 'ignored';
    publish('privileged-fields', () => ({ fields: found, action }));
    if (privileged === 'ignore') return without(value, found);
    for (const name of found) {
      context.issues.push({
        code: 'custom',
        params: { code: 'privileged' },
        path: [name],
        input: undefined,
      });
    }
    return value;
  });
  return z.pipe(gate, z.strictObject(part as Pick<Shape, Field>));
}

type Fields = Readonly<Record<string, unknown>>;

function isRecord(value: unknown): value is Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function without(value: Fields, names: readonly string[]): Fields {
  return Object.fromEntries(Object.entries(value).filter(([name]) => !names.includes(name)));
}
