import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, expectTypeOf, test } from 'vitest';
import * as z from 'zod';
import * as zod3 from 'zod/v3';
import { type Output, output } from '../src/index.ts';
import { refusal } from './refusal.ts';

const User = z.object({
  id: z.string(),
  name: z.string().max(100),
  address: z.object({ city: z.string() }).optional(),
  tags: z.array(z.object({ label: z.string() })),
});

/** What a database gives back: more than anybody should see. */
const row = {
  id: 'u1',
  passwordHash: '$argon2id$secret',
  name: 'Ada',
  address: { city: 'London', geo: { lat: 51.5 } },
  tags: [{ label: 'a', internal: true }, { label: 'b' }],
};

describe('what leaves', () => {
  test('is what the schema declares, at every level', () => {
    expect(output(User).stringify(row)).toBe(
      '{"id":"u1","name":"Ada","address":{"city":"London"},"tags":[{"label":"a"},{"label":"b"}]}',
    );
  });

  test('is the same with another member in every object, whatever its name', () => {
    const exact = output(User);
    const clean = JSON.parse(exact.stringify(row) as string);
    const names = fc
      .oneof(fc.string(), fc.constantFrom('toJSON', '__proto__', 'constructor', 'then', 'length'))
      .filter((name) => !['id', 'name', 'address', 'tags', 'city', 'label'].includes(name));
    const within = (value: unknown, name: string, extra: unknown): unknown => {
      if (Array.isArray(value)) return value.map((item) => within(item, name, extra));
      if (typeof value !== 'object' || value === null) return value;
      const copy = Object.fromEntries(
        Object.entries(value).map(([key, item]) => [key, within(item, name, extra)]),
      );
      return Object.defineProperty(copy, name, { value: extra, enumerable: true });
    };
    fc.assert(
      fc.property(names, fc.anything(), (name, extra) => {
        expect(exact.stringify(within(clean, name, extra) as typeof row)).toBe(
          JSON.stringify(clean),
        );
      }),
    );
  });

  test('has the members in the order of the schema', () => {
    const exact = output(z.object({ b: z.number(), a: z.number() }));
    expect(exact.stringify({ a: 1, b: 2 })).toBe('{"b":2,"a":1}');
  });

  test('is nothing where the schema says so', () => {
    expect(output(z.undefined()).stringify(undefined)).toBeUndefined();
  });

  test('cannot be replaced by a toJSON of the object or of what it inherits from', () => {
    class Entity {
      id = 'e1';
      secret = 'hush';
      toJSON(): object {
        return Object.assign({}, this);
      }
    }
    expect(output(z.object({ id: z.string() })).stringify(new Entity())).toBe('{"id":"e1"}');
    const schema = z.object({ id: z.string(), toJSON: z.string() });
    expect(output(schema).stringify({ id: 'e1', toJSON: 'no function' })).toBe(
      '{"id":"e1","toJSON":"no function"}',
    );
  });

  test('is read once: what a getter or a proxy says the second time does not count', () => {
    let reads = 0;
    const shifty = {
      get id(): string {
        reads += 1;
        return reads === 1 ? 'first' : ({ secret: 'hush' } as unknown as string);
      },
    };
    expect(output(z.object({ id: z.string() })).stringify(shifty)).toBe('{"id":"first"}');
    let gets = 0;
    const proxy = new Proxy({ id: 'p' }, { get: () => (gets++ === 0 ? 'first' : { secret: 1 }) });
    expect(output(z.object({ id: z.string() })).stringify(proxy)).toBe('{"id":"first"}');
  });

  test('includes getters of a class, as those of an ORM are', () => {
    class Entity {
      get id(): string {
        return 'e1';
      }
    }
    expect(output(z.object({ id: z.string() })).stringify(new Entity())).toBe('{"id":"e1"}');
  });

  test('has no symbols, and no own __proto__', () => {
    const value = Object.assign(JSON.parse('{"id":"a","__proto__":{"x":1}}'), {
      [Symbol('s')]: 'hush',
    });
    expect(output(z.object({ id: z.string() })).stringify(value)).toBe('{"id":"a"}');
    expect(
      output(z.record(z.string(), z.number())).stringify(JSON.parse('{"__proto__":1,"a":2}')),
    ).toBe('{"a":2}');
  });

  test('says dates as instants, and refuses one that is none', () => {
    const exact = output(z.object({ at: z.date() }));
    expect(exact.stringify({ at: new Date(0) })).toBe('{"at":"1970-01-01T00:00:00.000Z"}');
    expect(refusal(() => exact.stringify({ at: new Date(Number.NaN) })).errors).toMatchObject([
      { pointer: '#/at' },
    ]);
  });

  test('escapes what JSON cannot contain, lone surrogates too', () => {
    expect(output(z.string()).stringify('"\\\n\u2028\ud800')).toBe('"\\"\\\\\\n\u2028\\ud800"');
  });

  test('cannot be described by a schema that has no end', () => {
    const next = (): z.ZodType =>
      z.lazy(() => z.object({ a: z.string(), next: next().optional() }));
    expect(() => output(next())).toThrow(TypeError);
    expect(() => output(next())).toThrow('without end');
    const branching = (): z.ZodType =>
      z.object({ left: z.lazy(branching), right: z.lazy(branching) });
    expect(() => output(branching())).toThrow('without end');
  });

  test('can be described by a schema that contains itself', () => {
    const Node = z.object({
      name: z.string(),
      get children() {
        return z.array(Node);
      },
    });
    const exact = output(Node);
    const tree = { name: 'a', x: 1, children: [{ name: 'b', x: 1, children: [] }] };
    expect(exact.stringify(tree)).toBe('{"name":"a","children":[{"name":"b","children":[]}]}');
    expect(exact.fields).toEqual(['#/name']);
  });
});

describe('what does not match', () => {
  test.each([
    ['a missing member', {}, '#/amount'],
    ['NaN', { amount: Number.NaN }, '#/amount'],
    ['Infinity', { amount: Number.POSITIVE_INFINITY }, '#/amount'],
    ['a bigint', { amount: 1n }, '#/amount'],
    ['a string', { amount: '1' }, '#/amount'],
    ['null', { amount: null }, '#/amount'],
    ['a boxed number', { amount: new Number(1) }, '#/amount'],
    ['nothing', undefined, '#'],
    ['an array', [], '#'],
    ['a promise somebody forgot to await', Promise.resolve({ amount: 1 }), '#/amount'],
  ])('%s', (_name, value, pointer) => {
    const exact = output(z.object({ amount: z.number() }));
    const failure = refusal(() => exact.stringify(value as never));
    expect(failure.code).toBe('ERR_HARDENING_OUTPUT_MISMATCH');
    expect(failure.errors).toMatchObject([{ pointer, code: 'invalid_type' }]);
  });

  test('is named by its place and never by its value, keys of records included', () => {
    const exact = output(
      z.object({
        accounts: z.record(z.string(), z.object({ iban: z.string().max(3), 'a/b~c': z.int() })),
        list: z.array(z.string()),
      }),
    );
    const failure = refusal(() =>
      exact.stringify({
        accounts: { 'ada@example.com': { iban: 'DE99 0000', 'a/b~c': 'hush' as never } },
        list: ['x', 42 as never],
      }),
    );
    expect(failure.errors).toEqual([
      expect.objectContaining({ pointer: '#/accounts/*/iban', code: 'too_big' }),
      expect.objectContaining({ pointer: '#/accounts/*/a~1b~0c', code: 'invalid_type' }),
      expect.objectContaining({ pointer: '#/list/1', code: 'invalid_type' }),
    ]);
    const said = `${failure.stack} ${JSON.stringify(failure)}`;
    for (const secret of ['ada@', 'DE99', 'hush']) expect(said).not.toContain(secret);
  });

  test('is an unknown member of a strict object, whose name is not told', () => {
    const failure = refusal(() =>
      output(z.strictObject({ id: z.string() })).stringify({
        id: 'a',
        'ada@example.com': 1,
      } as never),
    );
    expect(failure.errors).toMatchObject([{ pointer: '#/*', code: 'unrecognized_keys' }]);
    expect(failure.message).not.toContain('ada@');
  });

  test('is named at ten places at most', () => {
    const exact = output(z.array(z.number()));
    const failure = refusal(() => exact.stringify(Array(1000).fill('x')));
    expect(failure.errors).toHaveLength(10);
    expect(failure.message.length).toBeLessThan(1000);
  });

  test.each([
    [
      'a getter that throws',
      () => ({
        get id(): string {
          throw new Error('no connection');
        },
      }),
    ],
    [
      'a cycle',
      () => {
        const value: { id: string; self?: unknown } = { id: 'a' };
        value.self = value;
        return value;
      },
    ],
    [
      'nesting deeper than the stack',
      () => {
        let value: { id: string; self?: unknown } = { id: 'a' };
        for (let depth = 0; depth < 100_000; depth += 1) value = { id: 'a', self: value };
        return value;
      },
    ],
  ])('%s', (_name, make) => {
    const Self = z.object({
      id: z.string(),
      get self() {
        return Self.optional();
      },
    });
    const failure = refusal(() => output(Self).stringify(make() as never));
    expect(failure.code).toBe('ERR_HARDENING_OUTPUT_MISMATCH');
    expect(failure.errors).toEqual([]);
    expect(failure.cause).toBeInstanceOf(Error);
  });

  test('also where a check would have to be waited for', () => {
    const exact = output(z.string().refine((() => Promise.resolve(true)) as () => never));
    expect(refusal(() => exact.stringify('x')).code).toBe('ERR_HARDENING_OUTPUT_MISMATCH');
  });
});

test.each<[string, z.ZodType]>([
  ['refinement', z.string().refine(async () => true)],
  [
    'transformation',
    z.object({
      a: z
        .string()
        .transform(async (value) => value)
        .pipe(z.string()),
    }),
  ],
])('an async %s, which nobody would wait for, is refused when the output is built', (_, schema) => {
  expect(() => output(schema)).toThrow(TypeError);
  expect(() => output(schema)).toThrow('async');
});

test.each([undefined, null, {}, zod3.object({ a: zod3.string() })])(
  'refuses %j, which is no schema',
  (schema) => {
    expect(() => output(schema as never)).toThrow('output: expected a schema of zod 4');
  },
);

describe('a schema that does not say what leaves', () => {
  test.each<[why: string, schema: z.ZodType, inside?: string]>([
    ['any', z.any()],
    ['unknown', z.unknown()],
    ['custom', z.custom()],
    ['custom', z.instanceof(Date)],
    ['bigint', z.bigint()],
    ['bigint', z.literal(1n)],
    ['symbol', z.symbol()],
    ['map', z.map(z.string(), z.string())],
    ['set', z.set(z.string())],
    ['promise', z.promise(z.string())],
    ['file', z.file()],
    ['nan', z.nan()],
    ['transform', z.transform((value) => value)],
    ['transform', z.string().transform((value) => ({ value }))],
    ['unknown', z.looseObject({}), '/*'],
    ['unknown', z.object({}).catchall(z.unknown()), '/*'],
    ['loose record', z.looseRecord(z.string(), z.string())],
    ['overwrite', z.object({}).overwrite((value) => value)],
    ['catch', z.object({ id: z.string() }).catch(({ value }) => value as never)],
    ['catch', z.object({ id: z.string() }).optional().catch(undefined)],
    ['catch', z.array(z.string()).catch([])],
    ['catch', z.string().catch(({ value }) => value as never)],
    ['default', z.object({ id: z.string() }).default(() => ({ id: 'a', hidden: 1 }) as never)],
    ['default', z.union([z.null(), z.record(z.string(), z.string())]).default(null)],
    ['__proto__', z.object(Object.fromEntries([['__proto__', z.string()]]))],
  ])('is refused when it is built: %s', (why, schema, inside = '') => {
    const places: Readonly<Record<string, z.ZodType>> = {
      '#': schema,
      '#/a': z.object({ a: schema }),
      '#/*': z.array(schema),
      '#/0': z.tuple([schema]),
      '#/*/b': z.record(z.string(), z.object({ b: schema.optional() })),
    };
    for (const [place, whole] of Object.entries(places)) {
      expect(() => output(whole)).toThrow(TypeError);
      expect(() => output(whole)).toThrow(`${place}${inside} (${why}`);
    }
  });

  test('is refused with all the places it has', () => {
    const schema = z.object({
      a: z.any(),
      b: z.union([z.string(), z.unknown()]),
      c: z.intersection(z.object({ d: z.bigint() }), z.object({ e: z.string() })),
      f: z
        .lazy(() => z.set(z.string()))
        .nullable()
        .default(null),
    });
    expect(() => output(schema)).toThrow(
      /#\/a \(any\), #\/b \(unknown\), #\/c\/d .*, #\/f \(set\)/,
    );
  });

  test('is fine where what stands in for a value is itself one value, or held to the schema', () => {
    const Defaults = z.object({
      a: z.string().nullable().default(null),
      b: z.union([z.int(), z.literal('all')]).catch('all'),
      c: z.object({ id: z.string() }).prefault({ id: 'none' }),
      d: z.string().transform(Number).pipe(z.int()).default(1),
    });
    expect(output(Defaults).stringify({ b: null } as never)).toBe(
      '{"a":null,"b":"all","c":{"id":"none"},"d":1}',
    );
  });

  test('is fine once a schema follows the transformation', () => {
    const Cents = z
      .number()
      .transform((euros): { cents: number } =>
        Object.assign({ cents: Math.round(euros * 100) }, { hidden: 1 }),
      )
      .pipe(z.object({ cents: z.int() }));
    expect(output(Cents).stringify(12.34)).toBe('{"cents":1234}');
    expect(output(z.string().trim()).stringify(' x ')).toBe('"x"');
  });
});

test('lists everything that can leave', () => {
  expect(output(User).fields).toEqual(['#/id', '#/name', '#/address/city', '#/tags/*/label']);
  expect(
    output(z.record(z.string(), z.union([z.string(), z.object({ a: z.null() })]))).fields,
  ).toEqual(['#/*', '#/*/a']);
});

/** A schema, with values that fit it mostly. */
type Sample = readonly [z.ZodType, fc.Arbitrary<unknown>];

const leaf: fc.Arbitrary<Sample> = fc.constantFrom<Sample>(
  [z.string(), fc.string({ unit: 'binary' })],
  [z.string().min(1).max(5), fc.string()],
  [z.uuid(), fc.uuid()],
  [z.string().regex(/^a/g), fc.constantFrom('a', 'ab', 'b')],
  [z.string().trim().toUpperCase(), fc.string()],
  [z.number(), fc.double()],
  [z.number().min(0).lt(10).multipleOf(0.5), fc.double({ min: -1, max: 11 })],
  [z.int(), fc.integer()],
  [z.boolean(), fc.boolean()],
  [z.null(), fc.constant(null)],
  [z.undefined(), fc.constant(undefined)],
  [z.literal(['a', 1, null]), fc.constantFrom('a', 1, null, 'b')],
  [z.enum(['x', 'y']), fc.constantFrom('x', 'y', 'z')],
  [z.date(), fc.date()],
  [z.string().default('none'), fc.option(fc.string(), { nil: undefined })],
  [z.number().catch(-1), fc.oneof(fc.double(), fc.string())],
  [z.string().refine((text) => text.length < 4), fc.string()],
);

const sample: fc.Arbitrary<Sample> = fc.letrec<{ sample: Sample }>((tie) => ({
  sample: fc.oneof(
    { maxDepth: 4, withCrossShrink: true },
    leaf,
    tie('sample').map(
      ([schema, value]): Sample => [schema.optional(), fc.option(value, { nil: undefined })],
    ),
    tie('sample').map(([schema, value]): Sample => [schema.nullable(), fc.option(value)]),
    tie('sample').map(([schema, value]): Sample => [schema.readonly(), value]),
    tie('sample').map(([schema, value]): Sample => [z.lazy(() => schema), value]),
    tie('sample').map(([schema, value]): Sample => [z.array(schema), fc.array(value)]),
    tie('sample').map(
      ([schema, value]): Sample => [
        z.record(z.string(), schema),
        fc.dictionary(fc.string(), value),
      ],
    ),
    fc
      .tuple(tie('sample'), tie('sample'))
      .map(([[a, x], [b, y]]): Sample => [z.union([a, b]), fc.oneof(x, y)]),
    fc
      .tuple(tie('sample'), tie('sample'))
      .map(([[a, x], [b, y]]): Sample => [z.tuple([a, b]), fc.tuple(x, y)]),
    fc
      .tuple(
        fc.dictionary(
          fc.constantFrom('a', 'b', '1', '0', 'toJSON', 'constructor', 'a"b'),
          tie('sample'),
          { maxKeys: 4, noNullPrototype: true },
        ),
        fc.constantFrom('strip', 'strict', 'exactOptional'),
      )
      .map(([members, mode]): Sample => {
        const entries = Object.entries(members);
        const shape = Object.fromEntries(
          entries.map(([name, [schema]]) => [
            name,
            mode === 'exactOptional' ? schema.exactOptional() : schema,
          ]),
        );
        const values = Object.fromEntries(entries.map(([name, [, value]]) => [name, value]));
        return [
          mode === 'strict' ? z.strictObject(shape) : z.object(shape),
          fc
            .tuple(
              fc.record(values, { requiredKeys: [], noNullPrototype: true }),
              fc.dictionary(fc.constantFrom('a', 'extra', 'toJSON'), fc.anything(), { maxKeys: 1 }),
            )
            .map(([known, extra]) => ({ ...extra, ...known })),
        ];
      }),
  ),
})).sample;

const attempt = (run: () => unknown): unknown => {
  try {
    return { json: run() };
  } catch {
    return 'refused';
  }
};

test('is what parse and JSON.stringify would have made, for any schema and any value', () => {
  const cases = sample.chain(([schema, value]) =>
    fc.tuple(
      fc.constant(schema),
      fc.oneof({ weight: 4, arbitrary: value }, { weight: 1, arbitrary: fc.anything() }),
    ),
  );
  fc.assert(
    fc.property(cases, ([schema, value]) => {
      expect(attempt(() => output(schema).stringify(value))).toEqual(
        attempt(() => JSON.stringify(schema.parse(value))),
      );
    }),
    { numRuns: 2000 },
  );
});

test('is the same where code generation is forbidden', () => {
  const script = `
    import * as z from 'zod';
    import { output } from '${new URL('../src/index.ts', import.meta.url).href}';
    const exact = output(z.object({ id: z.string(), tags: z.array(z.object({ label: z.string() })) }));
    console.log(exact.stringify({ id: 'a', secret: 1, tags: [{ label: 'b', secret: 1 }] }));`;
  const printed = execFileSync(
    process.execPath,
    ['--disallow-code-generation-from-strings', '--input-type=module', '--eval', script],
    { cwd: new URL('..', import.meta.url), encoding: 'utf8' },
  );
  expect(printed.trim()).toBe('{"id":"a","tags":[{"label":"b"}]}');
});

test('takes what the schema takes', () => {
  const exact = output(z.object({ id: z.string(), at: z.date().optional() }));
  expectTypeOf(exact).toEqualTypeOf<Output<{ id: string; at?: Date | undefined }>>();
});
