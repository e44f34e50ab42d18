import fc from 'fast-check';
import { expect, test } from 'vitest';
import * as z from 'zod';
import { HardeningError } from '../src/errors.ts';
import { input } from '../src/input.ts';
import { list } from '../src/list.ts';
import { num } from '../src/num.ts';
import { text } from '../src/text.ts';
import { writable } from '../src/writable.ts';

test('any bounded schema reads or refuses any value: nothing crashes', () => {
  fc.assert(
    fc.property(schemas(), fc.array(values(), { minLength: 5, maxLength: 5 }), (schema, sent) => {
      const bounded = input(schema);
      for (const value of sent) {
        const read = settled(() => bounded.parse(JSON.stringify(value)));
        expect(settled(() => bounded.check(JSON.parse(JSON.stringify(value))))).toEqual(read);
      }
    }),
    { numRuns: 500 },
  );
});

/** What was read, or why it was refused; anything else that is thrown fails the test. */
function settled(run: () => unknown): unknown {
  try {
    return { value: run() };
  } catch (error) {
    if (!(error instanceof HardeningError)) throw error;
    expect(error.errors.length).toBeLessThanOrEqual(10);
    return { code: error.code, errors: error.errors };
  }
}

/** Names that objects inherit, among others. */
const declared = fc.constantFrom('a', 'b', 't', 'constructor', 'toString', 'valueOf');

function schemas(): fc.Arbitrary<z.ZodType> {
  const { schema } = fc.letrec<{ schema: z.ZodType }>((tie) => {
    const inner = tie('schema');
    const shape = fc.dictionary(declared, inner, { maxKeys: 3 });
    return {
      schema: fc.oneof(
        { maxDepth: 4 },
        fc.constantFrom<z.ZodType>(
          text(),
          num({ min: 0, max: 9 }),
          num({ min: 0, max: 9, from: 'text' }),
          z.boolean(),
          z.enum(['a', 'toString']),
          text({ max: 5 }).transform((value) => value.length),
          text({ max: 40 }).pipe(z.uuid()),
        ),
        shape.map((parts) => z.object(parts)),
        shape.map((parts) => z.object(parts).partial()),
        inner.map((item) => list(item)),
        inner.map((part) => part.optional()),
        inner.map((part) => part.nullable()),
        inner.map((part) => z.record(text({ max: 5 }), part)),
        inner.map((part) => z.partialRecord(z.enum(['a', 'constructor']), part)),
        inner.map((part) => z.tuple([part, z.null()])),
        inner.map((part) => z.lazy(() => part)),
        fc.tuple(inner, inner).map(([one, other]) => z.union([one, other])),
        fc.tuple(inner, inner).map(([one, other]) => z.intersection(one, other)),
        fc
          .tuple(inner, inner)
          .map(([one, other]) =>
            z.discriminatedUnion('t', [
              z.object({ t: z.literal('a'), one }),
              z.object({ t: z.literal('toString'), other }),
            ]),
          ),
        inner.map((part) =>
          writable(z.object({ a: part, constructor: part }), ['a'], { privileged: 'ignore' }),
        ),
      ),
    };
  });
  return schema;
}

function values(): fc.Arbitrary<unknown> {
  const sent = fc.oneof(declared, fc.constantFrom('prototype', 'x', '\ud800', ''));
  const { value } = fc.letrec<{ value: unknown }>((tie) => ({
    value: fc.oneof(
      { maxDepth: 4 },
      fc.constantFrom<unknown>('a', 'toString', '', null, true, 0, 5, '5', 1e308),
      fc.array(tie('value'), { maxLength: 3 }),
      fc
        .array(fc.tuple(sent, tie('value')), { maxLength: 4 })
        .map((members) => Object.fromEntries(members)),
    ),
  }));
  return value;
}
