import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import * as z from 'zod';
import { strict } from '../src/strict.ts';

const leaf = z.object({ a: z.number() });

describe('strict', () => {
  test.each<[string, z.ZodType, unknown, unknown]>([
    ['itself', leaf, { a: 1 }, { a: 1, x: 1 }],
    ['an object', z.object({ o: leaf }), { o: { a: 1 } }, { o: { a: 1, x: 1 } }],
    ['a loose object in an object', z.object({ o: z.object({}) }), { o: {} }, { o: { x: 1 } }],
    ['an array', z.array(leaf), [{ a: 1 }], [{ a: 1, x: 1 }]],
    ['a tuple', z.tuple([leaf]), [{ a: 1 }], [{ a: 1, x: 1 }]],
    ["a tuple's rest", z.tuple([z.null()], leaf), [null, { a: 1 }], [null, { a: 1, x: 1 }]],
    ['a record', z.record(z.string(), leaf), { k: { a: 1 } }, { k: { a: 1, x: 1 } }],
    ['a union', z.union([leaf, z.string()]), { a: 1 }, { a: 1, x: 1 }],
    [
      'a discriminated union',
      z.discriminatedUnion('t', [
        z.object({ t: z.literal('a'), o: leaf }),
        z.object({ t: z.literal('b') }),
      ]),
      { t: 'a', o: { a: 1 } },
      { t: 'b', o: { a: 1 } },
    ],
    ['optional', leaf.optional(), { a: 1 }, { a: 1, x: 1 }],
    ['nullable', leaf.nullable(), null, { a: 1, x: 1 }],
    ['default', leaf.default({ a: 0 }), undefined, { a: 1, x: 1 }],
    ['prefault', leaf.prefault({ a: 0 }), undefined, { a: 1, x: 1 }],
    ['readonly', leaf.readonly(), { a: 1 }, { a: 1, x: 1 }],
    ['nonoptional', leaf.optional().nonoptional(), { a: 1 }, { a: 1, x: 1 }],
    ['a pipe', z.unknown().pipe(leaf), { a: 1 }, { a: 1, x: 1 }],
    ['a preprocessor', z.preprocess((value) => value, leaf), { a: 1 }, { a: 1, x: 1 }],
    ['a transform', leaf.transform(({ a }) => a), { a: 1 }, { a: 1, x: 1 }],
    ['lazy', z.lazy(() => leaf), { a: 1 }, { a: 1, x: 1 }],
    ['a refinement', leaf.refine(() => true), { a: 1 }, { a: 1, x: 1 }],
    ['a catch-all', z.object({}).catchall(leaf), { k: { a: 1 } }, { k: { a: 1, x: 1 } }],
    ['a partial', z.object({ o: leaf }).partial(), {}, { o: { a: 1, x: 1 } }],
  ])('refuses unknown keys in %s', (_, schema, good, bad) => {
    // The trap: zod lets it pass and drops the key.
    expect(schema.safeParse(bad).success).toBe(true);
    const copy = strict(schema);
    expect(copy.safeParse(good).success).toBe(true);
    const { error } = copy.safeParse(bad);
    expect(JSON.stringify(error?.issues)).toContain('unrecognized_keys');
  });

  test('takes the keys of both sides of an intersection, and no others', () => {
    const copy = strict(z.intersection(leaf, z.object({ b: z.number() })));
    expect(copy.parse({ a: 1, b: 2 })).toEqual({ a: 1, b: 2 });
    expect(copy.safeParse({ a: 1, b: 2, x: 3 }).success).toBe(false);
  });

  test('follows a schema that contains itself', () => {
    const tree = z.object({
      name: z.string(),
      get children() {
        return z.array(tree);
      },
    });
    type Chain = { next?: Chain | undefined };
    const chain: z.ZodType<Chain> = z.lazy(() => z.object({ next: chain.optional() }));
    const copy = strict(tree);
    const good = { name: 'a', children: [{ name: 'b', children: [] }] };
    expect(copy.parse(good)).toEqual(good);
    expect(
      copy.safeParse({ name: 'a', children: [{ name: 'b', children: [], x: 1 }] }).success,
    ).toBe(false);
    expect(strict(chain).parse({ next: { next: {} } })).toEqual({ next: { next: {} } });
    expect(strict(chain).safeParse({ next: { next: { x: 1 } } }).success).toBe(false);
  });

  test('leaves the original as it was, and keeps its checks', () => {
    const schema = leaf.refine(({ a }) => a > 0, { message: 'positive' });
    expect(strict(schema).safeParse({ a: -1 }).error?.issues[0]?.message).toBe('positive');
    expect(schema.parse({ a: 1, x: 1 })).toEqual({ a: 1 });
  });

  test('refuses an unknown key wherever it is put, in whatever schema', () => {
    fc.assert(
      fc.property(
        fitting(),
        fc.nat(),
        fc.constantFrom('x', 'isAdmin', 'toString'),
        (made, at, name) => {
          const copy = strict(made.schema);
          expect(copy.parse(made.value)).toEqual(made.value);
          const places = objectsIn(made.value);
          fc.pre(places.length > 0);
          const place = places[at % places.length];
          if (place) place[name] = 1;
          expect(copy.safeParse(made.value).success).toBe(false);
        },
      ),
      { numRuns: 1000 },
    );
  });
});

interface Fitting {
  readonly schema: z.ZodType;
  readonly value: unknown;
}

/** Schemas, nested, each with a value that fits. What a `z.object` describes has a member `is: 'object'`. */
function fitting(): fc.Arbitrary<Fitting> {
  const { made } = fc.letrec<{ made: Fitting }>((tie) => {
    const inner = tie('made');
    return {
      made: fc.oneof(
        { maxDepth: 5 },
        fc.constantFrom<Fitting>(
          { schema: z.number(), value: 1 },
          { schema: z.string(), value: 'a' },
          { schema: z.null(), value: null },
        ),
        fc.array(inner, { maxLength: 3 }).map((parts) => ({
          schema: z.object({
            is: z.literal('object'),
            ...Object.fromEntries(parts.map(({ schema }, index) => [`k${index}`, schema])),
          }),
          value: {
            is: 'object',
            ...Object.fromEntries(parts.map(({ value }, index) => [`k${index}`, value])),
          },
        })),
        inner.map(({ schema, value }) => ({ schema: z.array(schema), value: [value] })),
        fc.array(inner, { minLength: 1, maxLength: 3 }).map((parts) => ({
          schema: z.tuple(parts.map(({ schema }) => schema) as [z.ZodType]),
          value: parts.map(({ value }) => value),
        })),
        inner.map(({ schema, value }) => ({
          schema: z.record(z.string(), schema),
          value: { r: value },
        })),
        inner.map(({ schema, value }) => ({
          schema: z.union([z.boolean(), schema, z.bigint()]),
          value,
        })),
        inner.map(({ schema, value }) => ({ schema: z.lazy(() => schema), value })),
        inner.map(({ schema, value }) => ({ schema: schema.optional().nullable(), value })),
        inner.map(({ schema, value }) => ({ schema: schema.readonly(), value })),
        inner.map(({ schema, value }) => ({ schema: z.unknown().pipe(schema), value })),
        inner.map(({ schema, value }) => ({
          schema: schema.refine(() => true).transform((parsed) => parsed),
          value,
        })),
        inner.map(({ schema, value }) => ({
          schema: z.intersection(schema, schema),
          value,
        })),
      ),
    };
  });
  // A copy of its own: the values are changed.
  return made.map(({ schema, value }) => ({ schema, value: structuredClone(value) }));
}

function objectsIn(value: unknown): Record<string, unknown>[] {
  if (typeof value !== 'object' || value === null) return [];
  const own = 'is' in value && value.is === 'object' ? [value as Record<string, unknown>] : [];
  return [...own, ...Object.values(value).flatMap(objectsIn)];
}
